"""What each exchange can do and how it spells it, as data: one frozen row per venue. Nothing here talks to anyone."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.instrument import MarginBase, VenueRules

D = Decimal


class Testnet(StrEnum):
    NONE = "NONE"
    SANDBOX = "SANDBOX"
    """A separate test exchange."""
    DEMO = "DEMO"
    """Demo trading on the real exchange's prices."""


class LeveragePath(StrEnum):
    NONE = "NONE"
    ENDPOINT = "ENDPOINT"
    """Set once per symbol by a call."""
    ACCOUNT_ENDPOINT = "ACCOUNT_ENDPOINT"
    """Set by a call of the venue's own, for the whole account at once."""
    ORDER_PARAMETER = "ORDER_PARAMETER"
    """Given with each order that opens; nothing is stored at the venue."""


class MarginModePath(StrEnum):
    NONE = "NONE"
    ACCOUNT = "ACCOUNT"
    """One call for the whole account, whatever symbol it names."""
    SYMBOL = "SYMBOL"
    WITH_LEVERAGE = "WITH_LEVERAGE"
    """The same call as the leverage: both must be given."""


class ReducePath(StrEnum):
    REDUCE_ONLY = "REDUCE_ONLY"
    """A market order with the reduce-only flag."""
    EXECUTION_INSTRUCTION = "EXECUTION_INSTRUCTION"
    """A market order with exec_inst REDUCE_ONLY; the position is read just before, and it is never larger."""
    CLOSE_POSITION = "CLOSE_POSITION"
    """The venue's own call to close a position, with a size; the position is read just before."""


class CancelPath(StrEnum):
    """How all open orders are cancelled."""

    SYMBOL = "SYMBOL"
    """One call per symbol that has some."""
    ACCOUNT = "ACCOUNT"
    """One call for the whole account."""
    BATCH = "BATCH"
    """By their ids, several in a call."""


class MarkSource(StrEnum):
    MARK_PRICE = "MARK_PRICE"
    """A call and a stream of their own."""
    TICKER = "TICKER"
    """A field of the ticker."""
    VALUATION = "VALUATION"
    """A call of their own, per symbol; the ticker's stream says when to ask."""
    LAST_PRICE = "LAST_PRICE"
    """None is published: the last trade stands in, and is marked as such."""


class TierSource(StrEnum):
    NOTIONAL = "NOTIONAL"
    CONTRACTS = "CONTRACTS"
    """Bounds in contracts, turned into notional at the mark when they are read."""
    LEVERAGE_MAX = "LEVERAGE_MAX"
    """One tier: the highest leverage of the instrument, and half its initial margin as maintenance."""
    LEVERAGE_LIST = "LEVERAGE_LIST"
    """The leverages that a pair may be traded with, and the house's reading of the venue's liquidation rule."""
    NONE = "NONE"
    """The venue publishes none: one tier at `maintenance_rate`."""


class Feature(StrEnum):
    """Spelled as the wire's BrokerFeature."""

    SET_LEVERAGE = "SET_LEVERAGE"
    SET_MARGIN_MODE = "SET_MARGIN_MODE"
    ADJUST_ISOLATED_MARGIN = "ADJUST_ISOLATED_MARGIN"
    HEDGE_MODE = "HEDGE_MODE"
    REDUCE_ONLY = "REDUCE_ONLY"
    BORROW = "BORROW"
    MARK_PRICE = "MARK_PRICE"
    ACCOUNT_STREAM = "ACCOUNT_STREAM"


class Capability(msgspec.Struct, frozen=True):
    """Whether a venue can do something, and what to know about it or why it cannot."""

    feature: Feature
    supported: bool
    note: str = ""


class CredentialForm(StrEnum):
    """What a secret must look like before it is ever used."""

    TEXT = "TEXT"
    BASE64 = "BASE64"
    PRIVATE_KEY = "PRIVATE_KEY"
    """An EC or Ed25519 private key in PEM."""


class Credential(msgspec.Struct, frozen=True):
    """One part of a key: `suffix` of its environment name, and the name that ccxt knows it by."""

    suffix: str
    ccxt_name: str
    form: CredentialForm = CredentialForm.TEXT


API_KEY = Credential("API_KEY", "apiKey")
API_SECRET = Credential("API_SECRET", "secret")


class ClientOrderIds(msgspec.Struct, frozen=True):
    """How a venue takes an order id of ours: under which parameter, how long, and of which characters."""

    parameter: str
    length_most: int
    dashes: bool = True
    """False: letters and digits only."""
    unique: bool = True
    """False: the venue takes an id again once its order is closed, so it is looked up before anything is sent."""


class VenueProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the capability matrix, with all that the generic broker needs to know of a venue."""

    broker: str
    display_name: str
    ccxt_id: str
    products: str
    """What is traded there through this service, for people."""
    contract_kinds: tuple[str, ...]
    """Of "linear", "inverse", "dated" and "margin": the markets that become instruments of the house."""
    testnet: Testnet = Testnet.NONE
    testnet_note: str = ""
    credentials: tuple[Credential, ...] = (API_KEY, API_SECRET)
    key_read: str = ""
    """What the key must be allowed to do so that an account can be watched."""
    key_trade: str = ""
    """What it needs beyond that once the account leaves dry run."""
    leverage_path: LeveragePath
    leverage_step: Decimal
    margin_mode_path: MarginModePath = MarginModePath.NONE
    reduce_path: ReducePath = ReducePath.REDUCE_ONLY
    client_order_ids: ClientOrderIds
    mark_source: MarkSource
    tier_source: TierSource
    maintenance_rate: Decimal | None = None
    """The house's own rate where the venue publishes none."""
    health_currency: str
    """Currency of the venue's account totals."""
    interest_interval_seconds: int | None = None
    """Its interest clock; None where nothing is lent."""
    loans_apart: bool = False
    """It lends in a wallet that backs no position here, and that its test system lacks."""
    cancel_path: CancelPath = CancelPath.SYMBOL
    capabilities: tuple[Capability, ...]
    weight_per_second: Decimal
    """Request weight that the venue grants one key, in the client library's weights."""
    weight_burst: Decimal
    """How much of it may be used at once after a rest."""
    reserved_share: Decimal = D("0.4")
    """Of the burst, the share that only orders that reduce, cancels and looking them up may use."""
    in_order: bool = False
    """Private requests carry a number that must grow, so they leave one after the other."""
    rules: VenueRules = VenueRules()
    max_state_age_seconds: int
    """An account's state shall not grow older: it is read three times as often, which the venue's weights allow."""

    def capability(self, feature: Feature) -> Capability:
        return next(one for one in self.capabilities if one.feature is feature)

    def can(self, feature: Feature) -> bool:
        return self.capability(feature).supported


def can(feature: Feature, note: str = "") -> Capability:
    return Capability(feature, True, note)


def cannot(feature: Feature, note: str) -> Capability:
    return Capability(feature, False, note)


BYBIT = VenueProfile(
    broker="bybit",
    display_name="Bybit",
    ccxt_id="bybit",
    products="unified account: linear and inverse perpetuals",
    contract_kinds=("linear", "inverse"),
    testnet=Testnet.SANDBOX,
    testnet_note="keys of testnet.bybit.com; keys of the demo system do not work there",
    key_read="read-only: Unified Trading (orders, positions) and Wallet (account balance)",
    key_trade="read-write: Unified Trading (orders, positions); never withdrawal",
    leverage_path=LeveragePath.ENDPOINT,
    leverage_step=D("0.01"),
    margin_mode_path=MarginModePath.ACCOUNT,
    client_order_ids=ClientOrderIds("clientOrderId", 36),
    mark_source=MarkSource.TICKER,
    tier_source=TierSource.NOTIONAL,
    health_currency="USD",
    interest_interval_seconds=3600,
    capabilities=(
        can(Feature.SET_LEVERAGE, "in steps of 0.01, both sides alike"),
        can(Feature.SET_MARGIN_MODE, "for the whole account, not per symbol"),
        can(Feature.ADJUST_ISOLATED_MARGIN),
        can(Feature.HEDGE_MODE),
        can(Feature.REDUCE_ONLY),
        can(Feature.BORROW),
        can(Feature.MARK_PRICE),
        can(Feature.ACCOUNT_STREAM),
    ),
    weight_per_second=D(50),
    weight_burst=D(250),
    rules=VenueRules(rules_id="bybit", fee_in_maintenance=True),
    max_state_age_seconds=30,
)

BINANCE = VenueProfile(
    broker="binance",
    display_name="Binance USD-M futures",
    ccxt_id="binanceusdm",
    products="USD-M perpetuals; the cross margin wallet for debt",
    contract_kinds=("linear",),
    testnet=Testnet.DEMO,
    testnet_note="demo trading (demo-fapi.binance.com); the margin wallet has no test system: no debt there",
    key_read="Enable Reading",
    key_trade="Enable Futures; Enable Spot & Margin Trading and Margin Loan only to borrow; never withdrawal",
    leverage_path=LeveragePath.ENDPOINT,
    leverage_step=D(1),
    margin_mode_path=MarginModePath.SYMBOL,
    client_order_ids=ClientOrderIds("clientOrderId", 36, unique=False),
    mark_source=MarkSource.MARK_PRICE,
    tier_source=TierSource.NOTIONAL,
    health_currency="USDT",
    interest_interval_seconds=3600,
    loans_apart=True,
    capabilities=(
        can(Feature.SET_LEVERAGE, "whole numbers only"),
        can(Feature.SET_MARGIN_MODE),
        can(Feature.ADJUST_ISOLATED_MARGIN),
        can(Feature.HEDGE_MODE),
        can(Feature.REDUCE_ONLY),
        can(Feature.BORROW, "in the cross margin wallet, which backs no futures; not on the test system"),
        can(Feature.MARK_PRICE),
        can(Feature.ACCOUNT_STREAM),
    ),
    weight_per_second=D(20),
    weight_burst=D(200),
    rules=VenueRules(rules_id="binance"),
    max_state_age_seconds=30,
)

OKX = VenueProfile(
    broker="okx",
    display_name="OKX",
    ccxt_id="okx",
    products="linear and inverse perpetuals",
    contract_kinds=("linear", "inverse"),
    testnet=Testnet.SANDBOX,
    testnet_note="keys made under Demo trading; the same host with a header",
    credentials=(API_KEY, API_SECRET, Credential("PASSPHRASE", "password")),
    key_read="Read",
    key_trade="Trade; never Withdraw",
    leverage_path=LeveragePath.ENDPOINT,
    leverage_step=D("0.01"),
    margin_mode_path=MarginModePath.WITH_LEVERAGE,
    client_order_ids=ClientOrderIds("clientOrderId", 32, dashes=False),
    mark_source=MarkSource.MARK_PRICE,
    tier_source=TierSource.CONTRACTS,
    health_currency="USD",
    interest_interval_seconds=3600,
    cancel_path=CancelPath.BATCH,
    capabilities=(
        can(Feature.SET_LEVERAGE, "per symbol and margin mode; in isolated hedge mode per leg"),
        can(Feature.SET_MARGIN_MODE, "with the leverage, in one call; it holds for the orders that follow"),
        can(Feature.ADJUST_ISOLATED_MARGIN),
        can(Feature.HEDGE_MODE),
        can(Feature.REDUCE_ONLY),
        can(Feature.BORROW, "only for VIP 5 and above; repaying needs the order id of the loan"),
        can(Feature.MARK_PRICE),
        can(Feature.ACCOUNT_STREAM),
    ),
    weight_per_second=D(9),
    weight_burst=D(45),
    rules=VenueRules(rules_id="okx", fee_in_maintenance=True),
    max_state_age_seconds=30,
)

KRAKEN = VenueProfile(
    broker="kraken",
    display_name="Kraken",
    ccxt_id="kraken",
    products="spot margin",
    contract_kinds=("margin",),
    testnet_note="Kraken has no test system for spot margin",
    credentials=(API_KEY, Credential("API_SECRET", "secret", CredentialForm.BASE64)),
    key_read="Query funds, Query open orders & trades, Query closed orders & trades",
    key_trade="Create & modify orders, Cancel & close orders; never Withdraw funds",
    leverage_path=LeveragePath.ORDER_PARAMETER,
    leverage_step=D(1),
    client_order_ids=ClientOrderIds("clientOrderId", 18, unique=False),
    mark_source=MarkSource.LAST_PRICE,
    tier_source=TierSource.LEVERAGE_LIST,
    health_currency="USD",
    interest_interval_seconds=4 * 3600,
    capabilities=(
        can(Feature.SET_LEVERAGE, "kept by this service and sent with each order; nothing is stored at the venue"),
        cannot(Feature.SET_MARGIN_MODE, "spot margin is always cross"),
        cannot(Feature.ADJUST_ISOLATED_MARGIN, "spot margin is always cross"),
        cannot(Feature.HEDGE_MODE, "this service keeps one net position per pair"),
        can(Feature.REDUCE_ONLY),
        cannot(Feature.BORROW, "margin is extended per order; there is nothing to borrow by itself"),
        cannot(Feature.MARK_PRICE, "none is published for spot: the last trade stands in"),
        cannot(Feature.ACCOUNT_STREAM, "positions are not pushed: the account is polled"),
    ),
    weight_per_second=D(1),
    weight_burst=D(45),
    in_order=True,
    cancel_path=CancelPath.ACCOUNT,
    rules=VenueRules(rules_id="kraken", initial_margin_base=MarginBase.ENTRY, maintenance_margin_base=MarginBase.ENTRY),
    max_state_age_seconds=60,
)

COINBASE = VenueProfile(
    broker="coinbase",
    display_name="Coinbase",
    ccxt_id="coinbase",
    products="US futures (CFM), at leverage 1; spot holdings as balances",
    contract_kinds=("linear", "dated"),
    testnet_note="Coinbase has no test system for Advanced Trade",
    credentials=(API_KEY, Credential("API_SECRET", "secret", CredentialForm.PRIVATE_KEY)),
    key_read="View",
    key_trade="Trade; never Transfer",
    leverage_path=LeveragePath.NONE,
    leverage_step=D(1),
    reduce_path=ReducePath.CLOSE_POSITION,
    client_order_ids=ClientOrderIds("clientOrderId", 36),
    mark_source=MarkSource.LAST_PRICE,
    tier_source=TierSource.NONE,
    maintenance_rate=D("0.25"),
    health_currency="USD",
    cancel_path=CancelPath.BATCH,
    capabilities=(
        cannot(Feature.SET_LEVERAGE, "Coinbase lends no leverage here: 1 only"),
        cannot(Feature.SET_MARGIN_MODE, "its futures wallet is always cross"),
        cannot(Feature.ADJUST_ISOLATED_MARGIN, "its futures wallet is always cross"),
        cannot(Feature.HEDGE_MODE, "it nets positions"),
        can(Feature.REDUCE_ONLY, "by its call to close a position, with a size"),
        cannot(Feature.BORROW, "Coinbase does not lend here"),
        cannot(Feature.MARK_PRICE, "none is published: the last trade stands in"),
        cannot(Feature.ACCOUNT_STREAM, "positions are not pushed: the account is polled"),
    ),
    weight_per_second=D(29),
    weight_burst=D(145),
    rules=VenueRules(rules_id="coinbase"),
    max_state_age_seconds=60,
)

CRYPTOCOM = VenueProfile(
    broker="cryptocom",
    display_name="Crypto.com",
    ccxt_id="cryptocom",
    products="linear perpetuals",
    contract_kinds=("linear",),
    testnet_note="its UAT system has no websocket for the client library and is not offered",
    key_read="Can Read",
    key_trade="Enable Trading; never Enable Withdrawal",
    leverage_path=LeveragePath.ACCOUNT_ENDPOINT,
    leverage_step=D(1),
    reduce_path=ReducePath.EXECUTION_INSTRUCTION,
    client_order_ids=ClientOrderIds("client_oid", 36),
    mark_source=MarkSource.VALUATION,
    tier_source=TierSource.LEVERAGE_MAX,
    health_currency="USD",
    interest_interval_seconds=3600,
    capabilities=(
        can(Feature.SET_LEVERAGE, "for the whole account, not per symbol; whole numbers only"),
        cannot(Feature.SET_MARGIN_MODE, "the account is cross; isolated positions are opened by the order"),
        cannot(Feature.ADJUST_ISOLATED_MARGIN, "the client library has no call for it"),
        cannot(Feature.HEDGE_MODE, "it nets positions"),
        can(Feature.REDUCE_ONLY, "as an execution instruction; the position is read just before"),
        cannot(Feature.BORROW, "the client library has no call for it"),
        can(Feature.MARK_PRICE),
        can(Feature.ACCOUNT_STREAM),
    ),
    weight_per_second=D(100),
    weight_burst=D(500),
    rules=VenueRules(rules_id="cryptocom"),
    max_state_age_seconds=30,
)

PROFILES = {one.broker: one for one in (BINANCE, BYBIT, COINBASE, CRYPTOCOM, KRAKEN, OKX)}
"""Every exchange by its name in the house."""
