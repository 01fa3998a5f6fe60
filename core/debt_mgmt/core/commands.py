"""What can be asked: every command of the engine. Values are parsed and well-formed; rules come later."""

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core.account import Environment, Limits, MarginMode, PositionMode, PositionSide, Side
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.market import AssetRule
from debt_mgmt.core.venue import VenueState


class Command(msgspec.Struct, frozen=True, tag=True, tag_field="command"):
    """Base of all commands; its JSON form is what a repeated request id is compared with."""


class Order(msgspec.Struct, frozen=True):
    """An order to be checked. `quantity` unsigned in contracts; `price` None is a market order, counted at the mark."""

    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal | None = None
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.NET


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


class ResetFunds(Command, frozen=True):
    reason: str


class ReserveMargin(Command, frozen=True):
    order: Order
    time_to_live: timedelta | None = None
    client_order_id: str = ""


class ReleaseReservation(Command, frozen=True):
    """Give back `quantity` of a reservation, or all that is left (None)."""

    reservation_id: str
    quantity: Decimal | None = None


class ExpireReservations(Command, frozen=True):
    pass


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
    reason: str


class ResumeTrading(Command, frozen=True):
    reason: str


class Assess(Command, frozen=True):
    """Look at the account at the present marks: levels, breakers, baselines, reductions. Changes nothing by itself."""


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


class RecordCancelOutcome(Command, frozen=True):
    """What became of an order that was to be cancelled. `gone`: it is no longer open, for whatever reason."""

    order_id: str
    gone: bool
    note: str = ""


class SetDryRun(Command, frozen=True):
    dry_run: bool
    reason: str = ""


class PutInstrument(Command, frozen=True):
    instrument: Instrument


class SetAssetRule(Command, frozen=True):
    rule: AssetRule


class HaltHouse(Command, frozen=True):
    """Halt every account (`owner` empty) or the accounts of one owner."""

    reason: str
    owner: str = ""


class ResumeHouse(Command, frozen=True):
    reason: str
    owner: str = ""


class SimulatedPriceShock(msgspec.Struct, frozen=True):
    """Every price (`symbol` empty) or one is moved by a fraction, or set."""

    symbol: str = ""
    fraction: Decimal | None = None
    price: Decimal | None = None


Change = Order | RecordFill | SimulatedPriceShock | SetLeverage | Transfer
"""One step of a what-if, as `whatif.simulate` takes them."""
