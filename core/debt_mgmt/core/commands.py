"""What can be asked: every command of the engine. Values are parsed and well-formed; rules come later."""

from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, reduce
from operator import or_

import msgspec

from debt_mgmt.core.access import Role
from debt_mgmt.core.account import (
    Environment,
    Limits,
    MarginMode,
    MarkUsed,
    PositionMode,
    PositionSide,
    Side,
    TimeInForce,
)
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.market import AssetRule
from debt_mgmt.core.refusals import Violation
from debt_mgmt.core.resets import ResetSchedule
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.venue import VenueState


class Command(msgspec.Struct, frozen=True, tag=True, tag_field="command", gc=False):
    """Base of all commands; its JSON form is what a repeated request id is compared with."""


class Order(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An order to be checked. `quantity` unsigned in contracts; `price` None is a market order, counted at the mark."""

    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal | None = None
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.NET
    strategy: str = ""


class CreateAccount(Command, frozen=True):
    account_id: str
    owner: str
    broker: str
    environment: Environment
    currency: str
    position_mode: PositionMode = PositionMode.ONE_WAY
    margin_mode: MarginMode = MarginMode.CROSS
    deposit_asset: str = ""
    deposit_amount: Decimal | None = None
    dry_run: bool | None = None
    """None: on for LIVE, off elsewhere."""


class CloseAccount(Command, frozen=True):
    reason: str = ""


class Transfer(Command, frozen=True):
    """A deposit (amount above zero) or a withdrawal (below)."""

    asset: str
    amount: Decimal
    note: str = ""


class ResetFunds(Command, frozen=True, omit_defaults=True):
    """Set paper capital back; `slot` is that of the schedule for which it is done, None where somebody asked."""

    reason: str
    slot: datetime | None = None


class ReserveMargin(Command, frozen=True, omit_defaults=True):
    order: Order
    time_to_live: timedelta | None = None
    client_order_id: str = ""


class ReleaseReservation(Command, frozen=True):
    """Give back `quantity` of a reservation, or all that is left (None)."""

    reservation_id: str
    quantity: Decimal | None = None


class ExpireReservations(Command, frozen=True):
    pass


class PlaceOrder(Command, frozen=True):
    """An order of a sandbox account, to be matched with the marks. `time_to_live` None lasts until it is cancelled."""

    order: Order
    time_in_force: TimeInForce = TimeInForce.GTC
    time_to_live: timedelta | None = None
    client_order_id: str = ""


class CancelOrder(Command, frozen=True):
    order_id: str


class MatchOrders(Command, frozen=True):
    """A mark has come that may fill paper orders on its symbol."""

    mark: MarkUsed


class RecordFill(Command, frozen=True):
    """A fill is a fact: it is recorded whatever it does to the account's margin."""

    fill_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal = Decimal(0)
    fee_asset: str = ""
    position_side: PositionSide = PositionSide.NET
    reservation_id: str = ""
    order_id: str = ""
    plan_id: str = ""
    step: int = 0
    filled_at: datetime | None = None
    strategy: str = ""
    """Empty: that of the reservation it fills, or none."""


class ClosePosition(Command, frozen=True):
    symbol: str
    position_side: PositionSide = PositionSide.NET
    quantity: Decimal | None = None
    reason: str = ""


class EndReductionStep(Command, frozen=True):
    """A step is over without a (further) fill, for the reason noted."""

    plan_id: str
    step: int
    note: str


class SetLeverage(Command, frozen=True):
    symbol: str
    leverage: Decimal


class SetMarginMode(Command, frozen=True):
    symbol: str
    margin_mode: MarginMode


class AdjustIsolatedMargin(Command, frozen=True):
    symbol: str
    position_side: PositionSide
    amount: Decimal


class SetLimits(Command, frozen=True):
    """Replace the named limits of an account; a named limit that is None falls back to the house's default."""

    limits: Limits
    fields: tuple[str, ...]
    reason: str = ""


class HaltTrading(Command, frozen=True):
    """`by` is the caller's name, as in HaltHouse."""

    reason: str
    by: str = ""


class ResumeTrading(Command, frozen=True):
    reason: str


class Borrow(Command, frozen=True):
    """Borrow an asset; the principal goes to the wallet balance.

    `apart`, here and in a repayment: at a venue that lends in a wallet which backs no position.
    """

    asset: str
    amount: Decimal
    apart: bool = False


class Repay(Command, frozen=True):
    """Pay back an amount, at most what is owed, or all of it (None): interest first, then principal."""

    asset: str
    amount: Decimal | None = None
    apart: bool = False


class ChargeInterest(Command, frozen=True):
    """Charge what interest is due, each charge at its own time and at the rate in force then."""


class ConvertAssets(Command, frozen=True):
    """Buy `asset` until its negative balance is zero, with `sell`, or with whatever the account has (empty)."""

    asset: str
    sell: str = ""
    reason: str = ""


class SettleFunding(Command, frozen=True):
    """Settle the funding of one instant on what the account held then. A repeat changes nothing.

    `rate` above zero: longs pay shorts. `mark` is the price that the notional is counted at.
    """

    symbol: str
    rate: Decimal
    mark: Decimal
    at: datetime


class Assess(Command, frozen=True):
    """Look at the account at the present marks: levels, breakers, baselines, reductions. Changes nothing by itself."""


class RecordEquity(Command, frozen=True):
    """Close the interval of the account's history that ended at `ended_at`."""

    ended_at: datetime


class RecordSync(Command, frozen=True):
    """The venue's state of the account, as read: from here on it is the truth. Its instruments are known already."""

    state: VenueState


class LoseSync(Command, frozen=True):
    """The venue can't be asked, or its answer can't be used; what was last known is kept, with its age."""

    reason: str


class RecordVenueOutcome(Command, frozen=True):
    """What became of a change asked of the venue: confirmed, with the value read back, or refused in its own words."""

    change_id: str
    confirmed: bool
    leverage: Decimal | None = None
    margin_mode: MarginMode | None = None
    code: str = ""
    message: str = ""


class RecordLoanSent(Command, frozen=True):
    """A loan or repayment is about to be sent to the venue, which shows `owed_before` as owed in its asset."""

    loan_id: str
    owed_before: Decimal | None = None


class RecordLoanOutcome(Command, frozen=True):
    """What became of a loan or repayment: the venue did it, or refused in its own words."""

    loan_id: str
    confirmed: bool
    code: str = ""
    message: str = ""


class RecordCancelOutcome(Command, frozen=True):
    """What became of an order that was to be cancelled. `gone`: it is no longer open, for whatever reason."""

    order_id: str
    gone: bool
    note: str = ""


class SetDryRun(Command, frozen=True):
    dry_run: bool
    reason: str = ""


class PutInstrument(Command, frozen=True, omit_defaults=True):
    instrument: Instrument
    opened: bool = False
    """True: it may be traded at once, whatever the rule for new instruments."""


class PutLimitSet(Command, frozen=True, omit_defaults=True):
    """Set the limits of a node under a name. `limit_set.at` is not read."""

    limit_set: LimitSet

    @property
    def reason(self) -> str:
        return self.limit_set.reason


class DeleteLimitSet(Command, frozen=True, omit_defaults=True):
    scope: Scope
    name: str = ""
    reason: str = ""


class SetAssetRule(Command, frozen=True):
    rule: AssetRule


class SetResetSchedule(Command, frozen=True):
    """When paper capital is set back by itself, from now on."""

    schedule: ResetSchedule


class SetBorrowRate(Command, frozen=True):
    """What the house lends an asset at from now on, and the name of the clock that interest is charged by."""

    asset: str
    annual_rate: Decimal
    clock: str


class PublishFundingRate(Command, frozen=True):
    """The funding rate of an instrument at one instant. Instants of an instrument come in order.

    `mark` is the price that the notional is counted at; None is the one in force when the command is decided.
    """

    symbol: str
    rate: Decimal
    mark: Decimal | None
    at: datetime


class HaltHouse(Command, frozen=True):
    """Halt a node: all that matches every field given, with none of them everything. `by` is the caller's name."""

    reason: str
    owner: str = ""
    account_id: str = ""
    strategy: str = ""
    symbol: str = ""
    by: str = ""


class ResumeHouse(Command, frozen=True):
    """End the halt of exactly this node."""

    reason: str
    owner: str = ""
    account_id: str = ""
    strategy: str = ""
    symbol: str = ""


class RecordConfiguration(Command, frozen=True):
    """The service runs with these settings, the secret ones as digests, and decides by these rules."""

    values: dict[str, str]
    rules: RiskSettings
    version: str


class RecordSignInFailure(Command, frozen=True):
    """Somebody could not prove who they are, `count` times since `since`."""

    reason: str
    peer: str
    method: str
    since: datetime
    name: str = ""
    count: int = 1


class AcknowledgeAlert(Command, frozen=True):
    """Somebody has seen an alert. `by` is the caller's name."""

    alert_id: str
    by: str
    note: str = ""


class IssueToken(Command, frozen=True):
    """Take a token in. Its secret is made before, and only the SHA-256 of it comes here."""

    name: str
    digest: str
    role: Role
    accounts: tuple[str, ...] = ()
    expires_at: datetime | None = None
    note: str = ""


class RotateToken(Command, frozen=True):
    """Give a token another secret; the one before stays good for `overlap`."""

    name: str
    digest: str
    overlap: timedelta | None = None


class RevokeToken(Command, frozen=True):
    name: str
    reason: str = ""


class ProposeChange(Command, frozen=True):
    """Let a change wait for a second person. `asked` is its command as JSON: to an account, or to the house (empty).

    A change of the house is decided here whether it needs that; one that does not is carried out at once.
    """

    account_id: str
    asked: msgspec.Raw
    method: str
    scope: Scope
    effects: tuple[str, ...]
    reason: str
    by: str
    waits: timedelta


class ApproveChange(Command, frozen=True):
    """Somebody else agrees. `accounts` are those that exist for the caller; None: all, and the house."""

    change_id: str
    by: str
    note: str = ""
    accounts: tuple[str, ...] | None = None


class RejectChange(Command, frozen=True):
    """Somebody does not want it; whoever proposed it may be that."""

    change_id: str
    by: str
    note: str = ""
    accounts: tuple[str, ...] | None = None


class ExpireChanges(Command, frozen=True):
    """End the changes that nobody approved in time."""


class CarryOutChange(Command, frozen=True):
    """Do what was proposed and approved: the command `asked`, which then needs nobody else."""

    change_id: str
    asked: msgspec.Raw
    effects: tuple[str, ...] | None = None
    """What was approved: it is refused where it would take away more by now. None: not compared."""


class RecordChangeOutcome(Command, frozen=True):
    """An approved change was carried out, or refused by these rules."""

    change_id: str
    violations: tuple[Violation, ...] = ()


class SimulatedPriceShock(msgspec.Struct, frozen=True):
    """Every price (`symbol` empty) or one is moved by a fraction, or set."""

    symbol: str = ""
    fraction: Decimal | None = None
    price: Decimal | None = None


Change = Order | RecordFill | SimulatedPriceShock | SetLeverage | Transfer | Borrow | Repay
"""One step of a what-if, as `whatif.simulate` takes them."""


@cache
def reader() -> msgspec.json.Decoder[Command]:
    """Reads any command."""
    return msgspec.json.Decoder(reduce(or_, Command.__subclasses__()))


def read_command(text: msgspec.Raw) -> Command:
    return reader().decode(bytes(text))


def as_json(command: Command) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(command, order="deterministic"))
