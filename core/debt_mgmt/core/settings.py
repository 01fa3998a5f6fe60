"""The house's rules that a decision is made by: thresholds, buffers and default limits."""

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.account import Environment, Limits
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.money import ZERO


def fee_rate(instrument: Instrument, settings: "RiskSettings", *, maker: bool = False) -> Decimal:
    """What a paper fill costs, as a share of its notional."""
    configured = settings.maker_fee_rate if maker else settings.taker_fee_rate
    if configured is not None:
        return configured
    return instrument.maker_fee_rate if maker else instrument.taker_fee_rate


class NewInstruments(StrEnum):
    """What may be done with an instrument that was not there before."""

    ZERO = "zero"
    """Nothing is opened in it until somebody sets its limits."""
    OPEN = "open"


class FourEyes(StrEnum):
    """Which accounts need a second person before a halt ends, a limit is raised or dry run is left."""

    OFF = "OFF"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """None, whatever was configured: callers are not authenticated, so nobody can be told from anybody."""
    LIVE = "LIVE"
    ALL = "ALL"

    @property
    def is_on(self) -> bool:
        return self in (FourEyes.LIVE, FourEyes.ALL)

    def concerns(self, environment: Environment) -> bool:
        return self is FourEyes.ALL or (self is FourEyes.LIVE and environment is Environment.LIVE)


class RiskSettings(msgspec.Struct, frozen=True):
    """Ratios are fractions of equity. Limits are the house's defaults; an account's own limit takes their place."""

    default_leverage: Decimal = Decimal(2)
    max_leverage: Decimal = Decimal(5)
    margin_call_threshold: Decimal = Decimal("0.70")
    liquidation_threshold: Decimal = Decimal("0.80")
    forced_liquidation_threshold: Decimal = Decimal("0.90")
    liquidation_target: Decimal = Decimal("0.70")
    hysteresis: Decimal = Decimal("0.03")
    margin_buffer: Decimal = Decimal("1.10")
    pre_trade_max_age: timedelta = timedelta(seconds=10)
    mark_max_age: timedelta = timedelta(seconds=30)
    live_state_max_age: timedelta = timedelta(seconds=60)
    """A live account whose venue was last read longer ago accepts no new risk, and its level is UNKNOWN."""
    drift_tolerance: Decimal = Decimal("0.02")
    """How far own figures may be from the venue's, as a fraction of the venue's; for prices: of the mark."""
    drift_tolerance_amount: Decimal = Decimal(1)
    """The least tolerance of an amount, in the account's currency."""
    reservation_time_to_live: timedelta = timedelta(seconds=300)
    day_zone: str = "UTC"
    broker_max_leverage: dict[str, Decimal] = {}
    limits: Limits = Limits(
        max_concurrent_positions=20,
        max_open_reservations=1000,
        max_daily_loss_fraction=Decimal("0.20"),
        max_drawdown_fraction=Decimal("0.50"),
        order_rate_interval_seconds=1,
        breaker_cool_down_seconds=3600,
    )
    slippage_rate: Decimal = ZERO
    """What a sandbox market order is expected to lose against the mark; the liquidation plan reckons with it."""
    taker_fee_rate: Decimal | None = ZERO
    """Fee of a paper fill at once; None is the instrument's own rate."""
    maker_fee_rate: Decimal | None = ZERO
    """The same of an order that rested."""
    fill_depth: Decimal | None = None
    """Most that one mark fills of an account's paper orders on one side, in the settlement asset; None has no limit."""
    conversion_threshold: Decimal | None = None
    """A negative balance worth more than this, in the account's currency, is converted; None: on request only."""
    conversion_ratio: Decimal = Decimal("0.975")
    """Share of its value that collateral fetches when it is converted."""
    starting_capital: Decimal = Decimal(10_000_000)
    starting_currency: str = "INR"
    new_instruments: NewInstruments | msgspec.UnsetType = msgspec.UNSET
    """Not set, as in logs of versions that did not know it, is OPEN."""
    four_eyes: FourEyes | msgspec.UnsetType = msgspec.UNSET
    """Not set in the rules of versions that did not have it, which are read and written again as they were."""

    @property
    def second_person(self) -> FourEyes:
        return FourEyes.OFF if self.four_eyes is msgspec.UNSET else self.four_eyes


NO_OWN_LIMITS = Limits()


def effective_limits(house: Limits, account: Limits) -> Limits:
    """The limits in force: the account's own where it has one, the house's default elsewhere."""
    if account == NO_OWN_LIMITS:
        return house
    chosen = {
        name: own if (own := getattr(account, name)) is not None else getattr(house, name)
        for name in Limits.__struct_fields__
    }
    return Limits(**chosen)
