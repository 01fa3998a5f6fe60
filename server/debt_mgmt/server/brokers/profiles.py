"""What each broker can do, as data: six exchanges, and paper trading in this service."""

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from debt_mgmt.core.account import Environment, MarginMode


class Feature(StrEnum):
    """What a broker may be able to do. Spelled as the wire's BrokerFeature."""

    SET_LEVERAGE = "SET_LEVERAGE"
    SET_MARGIN_MODE = "SET_MARGIN_MODE"
    ADJUST_ISOLATED_MARGIN = "ADJUST_ISOLATED_MARGIN"
    HEDGE_MODE = "HEDGE_MODE"
    REDUCE_ONLY = "REDUCE_ONLY"
    BORROW = "BORROW"
    MARK_PRICE = "MARK_PRICE"
    ACCOUNT_STREAM = "ACCOUNT_STREAM"


class LeveragePath(StrEnum):
    """How a broker takes leverage. Spelled as on the wire."""

    NONE = "NONE"
    ENDPOINT = "ENDPOINT"
    ORDER_PARAMETER = "ORDER_PARAMETER"


class Testnet(StrEnum):
    """A broker's test system. Spelled as on the wire."""

    NONE = "NONE"
    SANDBOX = "SANDBOX"
    DEMO = "DEMO"


class BrokerProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the capability matrix."""

    broker: str
    display_name: str
    environments: tuple[Environment, ...]
    max_leverage: Decimal = Decimal(5)
    leverage_step: Decimal = Decimal("0.01")
    leverage_path: LeveragePath = LeveragePath.ENDPOINT
    testnet: Testnet = Testnet.NONE
    margin_modes: tuple[MarginMode, ...] = (MarginMode.CROSS, MarginMode.ISOLATED)
    features: frozenset[Feature]
    notes: dict[Feature, str] = {}
    """What to know about a feature; why it is missing, for each that is."""
    disabled_reason: str = ""
    """Why no account can be opened there now; empty where one can."""

    @property
    def enabled(self) -> bool:
        return not self.disabled_reason


LATER: Final = "the connection to this exchange comes with a later version"
TEST_AND_LIVE: Final = (Environment.TESTNET, Environment.LIVE)
LIVE_ONLY: Final = (Environment.LIVE,)
LAST_PRICES: Final = "it publishes last, bid and ask prices only"
NOT_PUSHED: Final = "positions are asked for, not pushed"
NO_REDUCE_ONLY: Final = "no flag of an order there: a position is closed by a call of its own"
NO_CALL: Final = "it has no call for that"
BORROWS_BY_ORDER: Final = "a margin order borrows by itself there"

PAPER: Final = BrokerProfile(
    broker="paper",
    display_name="Paper trading in this service",
    environments=(Environment.SANDBOX,),
    features=frozenset(Feature) - {Feature.BORROW, Feature.MARK_PRICE, Feature.ACCOUNT_STREAM},
    notes={
        Feature.BORROW: "borrowing comes with a later version",
        Feature.MARK_PRICE: "it has no market of its own: PublishMarks gives the prices",
        Feature.ACCOUNT_STREAM: "there is nothing to push: this service keeps the account itself",
    },
)

PROFILES: Final = (
    BrokerProfile(
        broker="binance",
        display_name="Binance USD-M futures",
        environments=TEST_AND_LIVE,
        leverage_step=Decimal(1),
        testnet=Testnet.DEMO,
        features=frozenset(Feature),
        notes={Feature.SET_LEVERAGE: "integers only", Feature.BORROW: "on the margin wallet, not in demo trading"},
        disabled_reason=LATER,
    ),
    BrokerProfile(
        broker="bybit",
        display_name="Bybit",
        environments=TEST_AND_LIVE,
        testnet=Testnet.SANDBOX,
        features=frozenset(Feature) - {Feature.ADJUST_ISOLATED_MARGIN},
        notes={
            Feature.SET_MARGIN_MODE: "for the whole account, not by symbol",
            Feature.ADJUST_ISOLATED_MARGIN: NO_CALL,
            Feature.MARK_PRICE: "with the ticker",
        },
        disabled_reason=LATER,
    ),
    BrokerProfile(
        broker="coinbase",
        display_name="Coinbase",
        environments=LIVE_ONLY,
        max_leverage=Decimal(1),
        leverage_step=Decimal(1),
        leverage_path=LeveragePath.NONE,
        margin_modes=(MarginMode.CROSS,),
        features=frozenset(),
        notes={
            Feature.SET_LEVERAGE: "it lends no leverage",
            Feature.SET_MARGIN_MODE: "without leverage there is nothing to set",
            Feature.ADJUST_ISOLATED_MARGIN: "without leverage there is nothing to adjust",
            Feature.HEDGE_MODE: NO_CALL,
            Feature.REDUCE_ONLY: NO_REDUCE_ONLY,
            Feature.BORROW: "it lends nothing",
            Feature.MARK_PRICE: LAST_PRICES,
            Feature.ACCOUNT_STREAM: NOT_PUSHED,
        },
        disabled_reason=LATER,
    ),
    BrokerProfile(
        broker="cryptocom",
        display_name="Crypto.com",
        environments=LIVE_ONLY,
        leverage_step=Decimal(1),
        features=frozenset({Feature.SET_LEVERAGE, Feature.ACCOUNT_STREAM}),
        notes={
            Feature.SET_LEVERAGE: "for the whole account, not by symbol",
            Feature.SET_MARGIN_MODE: NO_CALL,
            Feature.ADJUST_ISOLATED_MARGIN: NO_CALL,
            Feature.HEDGE_MODE: NO_CALL,
            Feature.REDUCE_ONLY: NO_REDUCE_ONLY,
            Feature.BORROW: BORROWS_BY_ORDER,
            Feature.MARK_PRICE: LAST_PRICES,
        },
        disabled_reason=LATER,
    ),
    BrokerProfile(
        broker="kraken",
        display_name="Kraken",
        environments=LIVE_ONLY,
        leverage_step=Decimal(1),
        leverage_path=LeveragePath.ORDER_PARAMETER,
        margin_modes=(MarginMode.CROSS,),
        features=frozenset({Feature.REDUCE_ONLY}),
        notes={
            Feature.SET_LEVERAGE: "there is nothing to set: leverage goes with each order",
            Feature.SET_MARGIN_MODE: "spot margin is cross only",
            Feature.ADJUST_ISOLATED_MARGIN: "spot margin is cross only",
            Feature.HEDGE_MODE: NO_CALL,
            Feature.BORROW: BORROWS_BY_ORDER,
            Feature.MARK_PRICE: LAST_PRICES,
            Feature.ACCOUNT_STREAM: NOT_PUSHED,
        },
        disabled_reason=LATER,
    ),
    BrokerProfile(
        broker="okx",
        display_name="OKX",
        environments=TEST_AND_LIVE,
        testnet=Testnet.SANDBOX,
        features=frozenset(Feature),
        notes={
            Feature.SET_MARGIN_MODE: "in the same call as the leverage",
            Feature.BORROW: "for accounts that the exchange lends to",
        },
        disabled_reason=LATER,
    ),
    PAPER,
)
"""Every broker, by name. Facts of the exchanges as of ccxt 4.5.90."""
