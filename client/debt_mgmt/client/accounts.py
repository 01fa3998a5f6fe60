"""Accounts, and what their brokers can do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from debt_mgmt.client.answers import Outcome, Recorded, Revision
from debt_mgmt.client.call import Call, Pages, command, pages, query
from debt_mgmt.client.enums import (
    BrokerFeature,
    Environment,
    LeveragePath,
    MarginMode,
    PositionMode,
    Provenance,
    RiskLevel,
    SyncStatus,
    Testnet,
    TradingState,
)
from debt_mgmt.client.figures import AssetAmount
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message, read
from debt_mgmt.v1 import account_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureDrift:
    """A figure of the service that is too far from the broker's."""

    name: str
    """Such as `equity` or `liquidation_price bybit:BTCUSDT`."""
    own_value: Decimal
    venue_value: Decimal
    tolerance: Decimal
    """How far apart they may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSync:
    """How well the broker's side of an account is known, and the broker's own figures."""

    status: SyncStatus
    reason: str | None
    """Why it is not known, in the broker's words where it gave any."""
    sync_time: datetime | None
    """When the state that the account shows was read. None: never."""
    age: timedelta | None
    venue_currency: str | None
    """Currency of the figures below. None: the account's."""
    venue_equity: Decimal | None
    venue_initial_margin: Decimal | None
    venue_maintenance_margin: Decimal | None
    venue_provenance: Provenance | None
    drifts: tuple[FigureDrift, ...]
    """Figures that are further from the broker's than the tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account."""

    account_id: str
    owner: str
    broker: str
    environment: Environment
    currency: str
    """What the account is valued in."""
    position_mode: PositionMode
    margin_mode: MarginMode
    """Margin mode of symbols that have none of their own."""
    dry_run: bool
    """True: what would be sent to the broker is recorded and not sent."""
    balances: tuple[AssetAmount, ...]
    """Wallet balances by asset; those at zero are left out."""
    level: RiskLevel
    trading_state: TradingState
    trading_state_reason: str | None
    """Why it is not ACTIVE, in words."""
    create_time: datetime
    close_time: datetime | None
    revision: Revision
    """Last change of the account."""
    sync: AccountSync | None
    """How well the broker's side is known. None on SANDBOX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCreated(Recorded):
    """The account opened."""

    account: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAccountOutcome(Outcome):
    """The account closed, or why not."""

    account: Account
    """The account afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncDifference:
    """One figure on which the books and the broker disagreed. The broker's was taken."""

    field: str
    """Such as `quantity` or `wallet_balance`."""
    subject: str | None
    """Symbol or asset that it belongs to. None: the account."""
    recorded_value: str | None
    """What the books said. None: they had nothing."""
    broker_value: str | None
    """What the broker says. None: it has nothing."""
    within_tolerance: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAccountOutcome(Outcome):
    """What the broker said, or why it was not asked."""

    account: Account
    """The account afterwards."""
    differences: tuple[SyncDifference, ...]
    """Where the books differed from the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDryRunOutcome(Outcome):
    """Dry run as it is now, or why not."""

    account: Account
    """The account afterwards."""
    pending_change_id: str | None = None
    """The change that waits for a second person. None: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerCapability:
    """Whether a broker can do something."""

    feature: BrokerFeature
    supported: bool
    note: str | None
    """What to know about it, or why it can't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A broker: one row of the capability matrix."""

    broker: str
    display_name: str
    enabled: bool
    disabled_reason: str | None
    max_leverage: Decimal
    leverage_step: Decimal | None
    """1 where only integers are taken. None: any."""
    testnet: Testnet
    leverage_path: LeveragePath
    capabilities: tuple[BrokerCapability, ...]
    max_state_age: timedelta | None
    """How long its account state may be old before new risk is refused."""


class AccountMethods(Methods):
    """Opens, shows and closes accounts."""

    @unary
    def create_account(
        self,
        account_id: str,
        *,
        owner: str | None = None,
        broker: str | None = None,
        environment: Environment | str | None = None,
        currency: str | None = None,
        position_mode: PositionMode | str | None = None,
        margin_mode: MarginMode | str | None = None,
        initial_deposit: AssetAmount | None = None,
        dry_run: bool | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[AccountCreated]:
        """Opens an account: by default a SANDBOX account at `paper` with the configured starting capital.

        The owner is by default the account id; accounts of one owner share a shard. Raises AccountExists.
        """
        request = message(
            pb.CreateAccountRequest,
            request_id=request_id,
            account_id=account_id,
            owner=owner,
            broker=broker,
            environment=environment,
            currency=currency,
            position_mode=position_mode,
            margin_mode=margin_mode,
            initial_deposit=initial_deposit,
            dry_run=dry_run,
        )
        return command(self.raw.account.CreateAccount, request, AccountCreated, timeout)

    @unary
    def account(self, account_id: str, *, timeout: Timeout = None) -> Call[Account]:
        """One account. Raises AccountNotFound."""
        request = message(pb.GetAccountRequest, account_id=account_id)
        return query(self.raw.account.GetAccount, request, lambda found: read(Account, found.account), timeout)

    @listing
    def accounts(
        self,
        *,
        owner: str | None = None,
        broker: str | None = None,
        environment: Environment | str | None = None,
        include_closed: bool = False,
        timeout: Timeout = None,
    ) -> Pages[Account]:
        """Accounts by id. Filters add up."""
        request = message(
            pb.ListAccountsRequest,
            owner=owner,
            broker=broker,
            environment=environment,
            include_closed=include_closed,
        )
        return pages(self.raw.account.ListAccounts, request, lambda page: page.accounts, Account, timeout)

    @unary
    def close_account(
        self, account_id: str, *, reason: str | None = None, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[CloseAccountOutcome]:
        """Closes an account for good. Refused while it has positions, reservations or debts."""
        request = message(pb.CloseAccountRequest, request_id=request_id, account_id=account_id, reason=reason)
        return command(self.raw.account.CloseAccount, request, CloseAccountOutcome, timeout)

    @unary
    def sync_account(
        self, account_id: str, *, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[SyncAccountOutcome]:
        """Reads a TESTNET or LIVE account from its broker now. Raises BrokerUnreachable or BrokerNotReady."""
        request = message(pb.SyncAccountRequest, request_id=request_id, account_id=account_id)
        return command(self.raw.account.SyncAccount, request, SyncAccountOutcome, timeout)

    @unary
    def set_dry_run(
        self,
        account_id: str,
        dry_run: bool,
        *,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[SetDryRunOutcome]:
        """Lets orders leave for the broker of a TESTNET or LIVE account (False, with a reason), or keeps them here."""
        request = message(
            pb.SetDryRunRequest, request_id=request_id, account_id=account_id, dry_run=dry_run, reason=reason
        )
        return command(self.raw.account.SetDryRun, request, SetDryRunOutcome, timeout)

    @listing
    def brokers(self, *, timeout: Timeout = None) -> Pages[Broker]:
        """The brokers and what each can do."""
        return pages(self.raw.account.ListBrokers, pb.ListBrokersRequest(), lambda page: page.brokers, Broker, timeout)
