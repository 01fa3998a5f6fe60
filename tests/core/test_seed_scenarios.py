"""The four scenarios that this service began with, on 1x, 2x and 5x, long and mirrored short, while prices move.

Every figure was computed by hand rules outside the engine: average entry by quantity, profit on the closed part against
that average, margin = quantity × mark ÷ leverage, available = capital + all profit − margin. Capital is 100,000 USDT.
"""

import pytest

from tests.support.desk import FREE, Desk
from tests.support.instruments import linear
from tests.support.scenario import play

TABLES = {
    ("partial_exits", "long", "1x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  1000 used 11000 available 90000
fill alice sell 50 ABCUSDT  -> quantity   50 entry 100 realized   500 unrealized   500 used 5500 available 95500
mark ABCUSDT 95
position alice ABCUSDT      -> quantity   50 entry 100 realized   500 unrealized  -250 used 4750 available 95500
fill alice sell 50 ABCUSDT  -> quantity    0 entry   - realized   250 unrealized     0 used    0 available 100250
    """,
    ("partial_exits", "short", "1x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -1000 used 11000 available 88000
fill alice buy 50 ABCUSDT   -> quantity  -50 entry 100 realized  -500 unrealized  -500 used 5500 available 93500
mark ABCUSDT 95
position alice ABCUSDT      -> quantity  -50 entry 100 realized  -500 unrealized   250 used 4750 available 95000
fill alice buy 50 ABCUSDT   -> quantity    0 entry   - realized  -250 unrealized     0 used    0 available 99750
    """,
    ("partial_exits", "long", "2x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  1000 used 5500 available 95500
fill alice sell 50 ABCUSDT  -> quantity   50 entry 100 realized   500 unrealized   500 used 2750 available 98250
mark ABCUSDT 95
position alice ABCUSDT      -> quantity   50 entry 100 realized   500 unrealized  -250 used 2375 available 97875
fill alice sell 50 ABCUSDT  -> quantity    0 entry   - realized   250 unrealized     0 used    0 available 100250
    """,
    ("partial_exits", "short", "2x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -1000 used 5500 available 93500
fill alice buy 50 ABCUSDT   -> quantity  -50 entry 100 realized  -500 unrealized  -500 used 2750 available 96250
mark ABCUSDT 95
position alice ABCUSDT      -> quantity  -50 entry 100 realized  -500 unrealized   250 used 2375 available 97375
fill alice buy 50 ABCUSDT   -> quantity    0 entry   - realized  -250 unrealized     0 used    0 available 99750
    """,
    ("partial_exits", "long", "5x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  1000 used 2200 available 98800
fill alice sell 50 ABCUSDT  -> quantity   50 entry 100 realized   500 unrealized   500 used 1100 available 99900
mark ABCUSDT 95
position alice ABCUSDT      -> quantity   50 entry 100 realized   500 unrealized  -250 used  950 available 99300
fill alice sell 50 ABCUSDT  -> quantity    0 entry   - realized   250 unrealized     0 used    0 available 100250
    """,
    ("partial_exits", "short", "5x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -1000 used 2200 available 96800
fill alice buy 50 ABCUSDT   -> quantity  -50 entry 100 realized  -500 unrealized  -500 used 1100 available 97900
mark ABCUSDT 95
position alice ABCUSDT      -> quantity  -50 entry 100 realized  -500 unrealized   250 used  950 available 98800
fill alice buy 50 ABCUSDT   -> quantity    0 entry   - realized  -250 unrealized     0 used    0 available 99750
    """,
    ("cycles", "long", "1x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 108
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized   800 used 10800 available 90000
fill alice sell 100 ABCUSDT -> quantity    0 entry   - realized   800 unrealized     0 used    0 available 100800
mark ABCUSDT 104
position alice ABCUSDT      -> quantity    0 entry   - realized   800 unrealized     0 used    0 available 100800
fill alice buy 50 ABCUSDT   -> quantity   50 entry 104 realized   800 unrealized     0 used 5200 available 95600
mark ABCUSDT 101.5
position alice ABCUSDT      -> quantity   50 entry 104 realized   800 unrealized  -125 used 5075 available 95600
fill alice sell 50 ABCUSDT  -> quantity    0 entry   - realized   675 unrealized     0 used    0 available 100675
    """,
    ("cycles", "short", "1x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 108
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized  -800 used 10800 available 88400
fill alice buy 100 ABCUSDT  -> quantity    0 entry   - realized  -800 unrealized     0 used    0 available 99200
mark ABCUSDT 104
position alice ABCUSDT      -> quantity    0 entry   - realized  -800 unrealized     0 used    0 available 99200
fill alice sell 50 ABCUSDT  -> quantity  -50 entry 104 realized  -800 unrealized     0 used 5200 available 94000
mark ABCUSDT 101.5
position alice ABCUSDT      -> quantity  -50 entry 104 realized  -800 unrealized   125 used 5075 available 94250
fill alice buy 50 ABCUSDT   -> quantity    0 entry   - realized  -675 unrealized     0 used    0 available 99325
    """,
    ("cycles", "long", "2x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 108
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized   800 used 5400 available 95400
fill alice sell 100 ABCUSDT -> quantity    0 entry   - realized   800 unrealized     0 used    0 available 100800
mark ABCUSDT 104
position alice ABCUSDT      -> quantity    0 entry   - realized   800 unrealized     0 used    0 available 100800
fill alice buy 50 ABCUSDT   -> quantity   50 entry 104 realized   800 unrealized     0 used 2600 available 98200
mark ABCUSDT 101.5
position alice ABCUSDT      -> quantity   50 entry 104 realized   800 unrealized  -125 used 2537.5 available 98137.5
fill alice sell 50 ABCUSDT  -> quantity    0 entry   - realized   675 unrealized     0 used    0 available 100675
    """,
    ("cycles", "short", "2x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 108
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized  -800 used 5400 available 93800
fill alice buy 100 ABCUSDT  -> quantity    0 entry   - realized  -800 unrealized     0 used    0 available 99200
mark ABCUSDT 104
position alice ABCUSDT      -> quantity    0 entry   - realized  -800 unrealized     0 used    0 available 99200
fill alice sell 50 ABCUSDT  -> quantity  -50 entry 104 realized  -800 unrealized     0 used 2600 available 96600
mark ABCUSDT 101.5
position alice ABCUSDT      -> quantity  -50 entry 104 realized  -800 unrealized   125 used 2537.5 available 96787.5
fill alice buy 50 ABCUSDT   -> quantity    0 entry   - realized  -675 unrealized     0 used    0 available 99325
    """,
    ("cycles", "long", "5x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 108
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized   800 used 2160 available 98640
fill alice sell 100 ABCUSDT -> quantity    0 entry   - realized   800 unrealized     0 used    0 available 100800
mark ABCUSDT 104
position alice ABCUSDT      -> quantity    0 entry   - realized   800 unrealized     0 used    0 available 100800
fill alice buy 50 ABCUSDT   -> quantity   50 entry 104 realized   800 unrealized     0 used 1040 available 99760
mark ABCUSDT 101.5
position alice ABCUSDT      -> quantity   50 entry 104 realized   800 unrealized  -125 used 1015 available 99660
fill alice sell 50 ABCUSDT  -> quantity    0 entry   - realized   675 unrealized     0 used    0 available 100675
    """,
    ("cycles", "short", "5x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 108
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized  -800 used 2160 available 97040
fill alice buy 100 ABCUSDT  -> quantity    0 entry   - realized  -800 unrealized     0 used    0 available 99200
mark ABCUSDT 104
position alice ABCUSDT      -> quantity    0 entry   - realized  -800 unrealized     0 used    0 available 99200
fill alice sell 50 ABCUSDT  -> quantity  -50 entry 104 realized  -800 unrealized     0 used 1040 available 98160
mark ABCUSDT 101.5
position alice ABCUSDT      -> quantity  -50 entry 104 realized  -800 unrealized   125 used 1015 available 98310
fill alice buy 50 ABCUSDT   -> quantity    0 entry   - realized  -675 unrealized     0 used    0 available 99325
    """,
    ("reversal", "long", "1x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  1000 used 11000 available 90000
fill alice sell 200 ABCUSDT -> quantity -100 entry 110 realized  1000 unrealized     0 used 11000 available 90000
mark ABCUSDT 99
position alice ABCUSDT      -> quantity -100 entry 110 realized  1000 unrealized  1100 used 9900 available 92200
    """,
    ("reversal", "short", "1x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -1000 used 11000 available 88000
fill alice buy 200 ABCUSDT  -> quantity  100 entry 110 realized -1000 unrealized     0 used 11000 available 88000
mark ABCUSDT 99
position alice ABCUSDT      -> quantity  100 entry 110 realized -1000 unrealized -1100 used 9900 available 88000
    """,
    ("reversal", "long", "2x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  1000 used 5500 available 95500
fill alice sell 200 ABCUSDT -> quantity -100 entry 110 realized  1000 unrealized     0 used 5500 available 95500
mark ABCUSDT 99
position alice ABCUSDT      -> quantity -100 entry 110 realized  1000 unrealized  1100 used 4950 available 97150
    """,
    ("reversal", "short", "2x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -1000 used 5500 available 93500
fill alice buy 200 ABCUSDT  -> quantity  100 entry 110 realized -1000 unrealized     0 used 5500 available 93500
mark ABCUSDT 99
position alice ABCUSDT      -> quantity  100 entry 110 realized -1000 unrealized -1100 used 4950 available 92950
    """,
    ("reversal", "long", "5x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  1000 used 2200 available 98800
fill alice sell 200 ABCUSDT -> quantity -100 entry 110 realized  1000 unrealized     0 used 2200 available 98800
mark ABCUSDT 99
position alice ABCUSDT      -> quantity -100 entry 110 realized  1000 unrealized  1100 used 1980 available 100120
    """,
    ("reversal", "short", "5x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 110
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -1000 used 2200 available 96800
fill alice buy 200 ABCUSDT  -> quantity  100 entry 110 realized -1000 unrealized     0 used 2200 available 96800
mark ABCUSDT 99
position alice ABCUSDT      -> quantity  100 entry 110 realized -1000 unrealized -1100 used 1980 available 95920
    """,
    ("adding", "long", "1x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 120
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  2000 used 12000 available 90000
fill alice buy 100 ABCUSDT  -> quantity  200 entry 110 realized     0 unrealized  2000 used 24000 available 78000
mark ABCUSDT 105
position alice ABCUSDT      -> quantity  200 entry 110 realized     0 unrealized -1000 used 21000 available 78000
    """,
    ("adding", "short", "1x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 10000 available 90000
mark ABCUSDT 120
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -2000 used 12000 available 86000
fill alice sell 100 ABCUSDT -> quantity -200 entry 110 realized     0 unrealized -2000 used 24000 available 74000
mark ABCUSDT 105
position alice ABCUSDT      -> quantity -200 entry 110 realized     0 unrealized  1000 used 21000 available 80000
    """,
    ("adding", "long", "2x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 120
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  2000 used 6000 available 96000
fill alice buy 100 ABCUSDT  -> quantity  200 entry 110 realized     0 unrealized  2000 used 12000 available 90000
mark ABCUSDT 105
position alice ABCUSDT      -> quantity  200 entry 110 realized     0 unrealized -1000 used 10500 available 88500
    """,
    ("adding", "short", "2x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 5000 available 95000
mark ABCUSDT 120
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -2000 used 6000 available 92000
fill alice sell 100 ABCUSDT -> quantity -200 entry 110 realized     0 unrealized -2000 used 12000 available 86000
mark ABCUSDT 105
position alice ABCUSDT      -> quantity -200 entry 110 realized     0 unrealized  1000 used 10500 available 90500
    """,
    ("adding", "long", "5x"): """
mark ABCUSDT 100
fill alice buy 100 ABCUSDT  -> quantity  100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 120
position alice ABCUSDT      -> quantity  100 entry 100 realized     0 unrealized  2000 used 2400 available 99600
fill alice buy 100 ABCUSDT  -> quantity  200 entry 110 realized     0 unrealized  2000 used 4800 available 97200
mark ABCUSDT 105
position alice ABCUSDT      -> quantity  200 entry 110 realized     0 unrealized -1000 used 4200 available 94800
    """,
    ("adding", "short", "5x"): """
mark ABCUSDT 100
fill alice sell 100 ABCUSDT -> quantity -100 entry 100 realized     0 unrealized     0 used 2000 available 98000
mark ABCUSDT 120
position alice ABCUSDT      -> quantity -100 entry 100 realized     0 unrealized -2000 used 2400 available 95600
fill alice sell 100 ABCUSDT -> quantity -200 entry 110 realized     0 unrealized -2000 used 4800 available 93200
mark ABCUSDT 105
position alice ABCUSDT      -> quantity -200 entry 110 realized     0 unrealized  1000 used 4200 available 96800
    """,
}


@pytest.mark.parametrize(("scenario", "direction", "leverage"), TABLES)
def test_position_profit_and_margin_after_every_step(scenario: str, direction: str, leverage: str) -> None:
    start = f"deposit alice 100000 USDT\nleverage alice ABCUSDT {leverage}"
    play(start + TABLES[scenario, direction, leverage], Desk(FREE))


def test_every_scenario_is_played_at_every_leverage_in_both_directions() -> None:
    names = {"partial_exits", "cycles", "reversal", "adding"}
    assert set(TABLES) == {(name, way, by) for name in names for way in ("long", "short") for by in ("1x", "2x", "5x")}
    assert all(table.count("->") >= 4 for table in TABLES.values())


def test_thirty_thousand_used_and_twenty_thousand_available_is_sixty_percent() -> None:
    """The portfolio that the interface was first described with: most of its value counts little as collateral."""
    desk = Desk(FREE, instruments=[linear("ABCUSDT", lot="1", tick="0.01"), linear("GEMUSDT", lot="1")])
    desk.value("GEM", priced_by="GEMUSDT", haircut="0.750005")
    play(
        """
        mark      GEMUSDT 10
        deposit   alice 15000 USDT
        deposit   alice 10000 GEM
        leverage  alice ABCUSDT 5x
        mark      ABCUSDT 100
        fill      alice buy 500 ABCUSDT
        mark      ABCUSDT 115
        fill      alice sell 500 ABCUSDT                -> quantity 0 realized 7500
        fill      alice buy 1000 ABCUSDT at 147.4995
        mark      ABCUSDT 150
        account   alice  -> total_value 125000.50  unrealized_pnl 2500.50  realized_pnl 7500  level NORMAL
        account   alice  -> used 30000  available 20000  utilization 0.60  equity 50000
        """,
        desk,
    )
