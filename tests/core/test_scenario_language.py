"""The language of the desk itself: the example that everybody starts from, and that a wrong row fails."""

import pytest

from tests.support.scenario import play

FIRST_CHECK = """
deposit   alice  1000 USDT
leverage  alice  BTCUSDT 5x
mark      BTCUSDT 50000
check     alice  buy 0.05 BTCUSDT   -> fits       margin 500   available 1000   utilization 0.5000
check     alice  buy 0.10 BTCUSDT   -> rejected   INSUFFICIENT_MARGIN   required 1100   available 1000   largest_buy 0.08
"""  # noqa: E501


def test_the_first_check() -> None:
    play(FIRST_CHECK)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("check alice buy 0.05 BTCUSDT -> rejected", "verdict"),
        ("check alice buy 0.10 BTCUSDT -> fits", "verdict"),
        ("check alice buy 0.10 BTCUSDT -> rejected UTILIZATION_AFTER", "verdict"),
        ("check alice buy 0.05 BTCUSDT -> fits margin 501", "margin is 500"),
        ("check alice buy 0.05 BTCUSDT -> fits utilization 0.5001", "utilization is 0.5"),
        ("check alice buy 0.05 BTCUSDT -> fits utilization ~0.49", "utilization is 0.5"),
        ("reserve alice buy 0.10 BTCUSDT", "INSUFFICIENT_MARGIN"),
        ("account alice -> level WARNING", "level is NORMAL"),
        ("mark BTCUSDT 51000 -> alice WARNING", "verdict"),
        ("position alice BTCUSDT -> entry 50000", "entry is None"),
    ],
)
def test_a_row_that_is_not_so_fails(row: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        play(FIRST_CHECK + row)
