"""Own figures beside the venue's: beyond a tolerance it is said, once, with both numbers and what they rest on."""

from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import events as e
from debt_mgmt.core.account import MarginMode
from debt_mgmt.core.liquidation_price import ends_of
from debt_mgmt.core.venue import Drift, VenueHealth
from tests.support.desk import FREE, kinds
from tests.support.live_desk import BTC, LiveDesk, alerts, balance, held, ready, told

D = Decimal
MONEY = balance("USDT", 10_000)
POSITION = held(BTC, "0.2", 50_000, leverage=5)
AGREED: dict[str, str | None] = {"equity": "10000", "initial_margin": "2000", "maintenance_margin": "50"}


def health(
    currency: str = "USDT",
    *,
    equity: str | None = None,
    initial_margin: str | None = None,
    maintenance_margin: str | None = None,
) -> VenueHealth:
    return VenueHealth(currency, number(equity), number(initial_margin), number(maintenance_margin))


def number(value: str | None) -> Decimal | None:
    return D(value) if value is not None else None


def agreed(**otherwise: str | None) -> VenueHealth:
    """The venue's figures of the position, as ours are, but for those named."""
    figures = {**AGREED, **otherwise}
    return msgspec.structs.replace(health(), **{name: number(value) for name, value in figures.items()})


def drifts(desk: LiveDesk) -> dict[str, Drift]:
    sync = desk.account().sync
    assert sync is not None
    return sync.drift


def found(events: tuple[e.Event, ...]) -> list[str]:
    return [one.name for event in events if isinstance(event, e.DriftChanged) for one in event.found]


@pytest.mark.parametrize(
    ("name", "venue", "beyond"),
    [
        ("equity", "10000", False),
        ("equity", "10200", False),
        ("equity", "10205", True),
        ("equity", "9800", True),
        ("equity", "9805", False),
        ("initial_margin", "2040", False),
        ("initial_margin", "2042", True),
        ("maintenance_margin", "51", False),
        ("maintenance_margin", "51.03", True),
        ("maintenance_margin", "49", False),
        ("maintenance_margin", "48.9", True),
    ],
)
def test_each_figure_has_its_tolerance(name: str, venue: str, beyond: bool) -> None:
    """2 % of the venue's figure, and 1 USDT at least."""
    desk = ready(MONEY, POSITION)
    events = desk.sync(MONEY, POSITION, agreed(**{name: venue}))
    assert (found(events) == [name]) is beyond
    assert ("DRIFT" in told(events)) is beyond
    assert (name in drifts(desk)) is beyond


def test_the_alert_has_both_numbers_and_their_inputs() -> None:
    desk = ready(MONEY, POSITION)
    events = desk.sync(MONEY, POSITION, health(equity="9000"))
    (alert,) = [one for one in alerts(events) if one.kind == "DRIFT"]
    assert alert.message == (
        "own figures differ from bybit's: equity is 10000 here and 9000 there, tolerance 180 "
        "(from balance USDT 10000, unrealized PnL 0, mark bybit:BTCUSDT 50000)"
    )
    assert alert.subject == "equity"
    assert drifts(desk)["equity"] == Drift(
        "equity",
        D(10_000),
        D(9_000),
        D(180),
        {"balance USDT": D(10_000), "unrealized PnL": D(0), f"mark {BTC}": D(50_000)},
    )


def test_drift_is_said_on_transition_and_settles_well_within_its_tolerance() -> None:
    desk = ready(MONEY, POSITION)
    steps = [
        ("9000", ["equity"], True),
        ("8000", [], True),
        ("9830", [], True),
        ("9950", [], False),
        ("9830", [], False),
        ("9000", ["equity"], True),
    ]
    for venue, told_now, drifting in steps:
        events = desk.sync(MONEY, POSITION, health(equity=venue))
        assert found(events) == told_now, venue
        assert ("DRIFT" in told(events)) is bool(told_now)
        assert ("equity" in drifts(desk)) is drifting


@pytest.mark.parametrize("name", ["equity", "initial_margin", "maintenance_margin"])
def test_a_figure_that_the_venue_does_not_give_is_not_compared(name: str) -> None:
    desk = ready(MONEY, POSITION)
    assert found(desk.sync(MONEY, POSITION, agreed(**{name: None}))) == []
    desk.sync(MONEY, POSITION, agreed(**{name: "1"}))
    assert name in drifts(desk)
    desk.sync(MONEY, POSITION, agreed(**{name: None}))
    assert drifts(desk) == {}


def test_debts_and_isolated_positions_are_in_the_figures_compared() -> None:
    apart = msgspec.structs.replace(
        held(BTC, "0.2", 50_000, leverage=5, isolated_margin=3_000), margin_mode=MarginMode.ISOLATED
    )
    desk = ready(MONEY)
    owing = balance("USDT", 10_000, debt="1500", interest="500")
    assert found(desk.sync(owing, apart, agreed(equity="8000"))) == []


def test_the_venues_currency_is_turned_into_the_accounts() -> None:
    desk = ready(MONEY, POSITION)
    assert found(desk.sync(MONEY, POSITION, health("BTC", equity="0.2"))) == []
    assert found(desk.sync(MONEY, POSITION, health("BTC", equity="0.1"))) == ["equity"]
    desk.sync(MONEY, POSITION, health("XYZ", equity="5"))
    assert drifts(desk) == {}, "without a price nothing can be compared"


def test_nothing_is_compared_without_prices() -> None:
    desk = ready(MONEY, POSITION)
    desk.marks.pop(BTC)
    assert "DriftChanged" not in kinds(desk.sync(MONEY, POSITION, health(equity="1")))


@pytest.mark.parametrize(
    ("off", "is_venues", "beyond"),
    [("0", True, False), ("990", True, False), ("1010", True, True), ("1010", False, False)],
)
def test_liquidation_prices_are_compared_where_they_are_the_venues_own(off: str, is_venues: bool, beyond: bool) -> None:
    """2 % of the mark; what a client library estimated is no second opinion."""
    desk = ready(MONEY, held(BTC, "0.9", 50_000, leverage=5))
    own = ends_of(desk.summary().positions[0], desk.summary())[0]
    assert own is not None
    one = msgspec.structs.replace(
        held(BTC, "0.9", 50_000, leverage=5, mark_price=50_010),
        liquidation_price=own + D(off),
        liquidation_price_is_venues=is_venues,
    )
    events = desk.sync(MONEY, one)
    assert (found(events) == [f"liquidation_price {BTC}"]) is beyond
    if beyond:
        assert drifts(desk)[f"liquidation_price {BTC}"].inputs["the venue's mark"] == 50_010


def test_tolerances_are_settings() -> None:
    strict = msgspec.structs.replace(FREE, drift_tolerance=D("0.0001"), drift_tolerance_amount=D("0.01"))
    desk = ready(MONEY, POSITION, settings=strict)
    assert found(desk.sync(MONEY, POSITION, health(equity="10002"))) == ["equity"]
