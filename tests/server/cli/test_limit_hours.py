"""Parts of a week as they are typed and told."""

import pytest
import typer

from debt_mgmt.client import LimitHours
from debt_mgmt.server.cli.limit_hours import hours_of, hours_words

WORKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday"]
FRIDAY_NIGHT = LimitHours("22:00", "24:00", ["friday"])
WEEKEND = LimitHours("00:00", "24:00", ["saturday", "sunday"])


@pytest.mark.parametrize(
    ("typed", "parts", "words"),
    [
        ("22:00-06:00", [LimitHours("22:00", "06:00")], "daily 22:00–06:00 UTC"),
        ("every day 6:30 to 24:00", [LimitHours("06:30", "24:00")], "daily 06:30–24:00 UTC"),
        ("mon-fri 22:00-06:00", [LimitHours("22:00", "06:00", WORKDAYS)], "mon–fri 22:00–06:00 UTC"),
        ("Wednesday, MON 09:00–17:00 America/New_York",
         [LimitHours("09:00", "17:00", ["monday", "wednesday"], "America/New_York")],
         "mon, wed 09:00–17:00 America/New_York"),
        ("fri-sun 10:00-11:00", [LimitHours("10:00", "11:00", ["friday", "saturday", "sunday"])],
         "fri–sun 10:00–11:00 UTC"),
        ("sun-mon 10:00-11:00", [LimitHours("10:00", "11:00", ["monday", "sunday"])], "mon, sun 10:00–11:00 UTC"),
        ("sat 00:00 - mon 00:00 Europe/Zurich",
         [LimitHours("00:00", "24:00", ["saturday", "sunday"], "Europe/Zurich")],
         "sat 00:00 – mon 00:00 Europe/Zurich"),
        ("sat 00:00 - sun 24:00", [WEEKEND], "sat 00:00 – mon 00:00 UTC"),
        ("fri 22:00 - mon 06:00", [FRIDAY_NIGHT, WEEKEND, LimitHours("00:00", "06:00", ["monday"])],
         "fri 22:00 – mon 06:00 UTC"),
        ("fri 22:00 - sat 06:00", [LimitHours("22:00", "06:00", ["friday"])], "fri 22:00–06:00 UTC"),
        ("sun 22:00 - mon 02:00", [LimitHours("22:00", "02:00", ["sunday"])], "sun 22:00–02:00 UTC"),
        ("00:00-24:00", [LimitHours("00:00", "24:00")], "always"),
    ],
)  # fmt: skip
def test_hours_are_read_and_told_again(typed: str, parts: list[LimitHours], words: str) -> None:
    assert hours_of(typed) == parts
    assert hours_words(parts) == words
    if words != "always":
        assert hours_words(hours_of(words)) == words


def test_no_hours_are_always_and_zones_are_told_apart() -> None:
    assert hours_words([]) == "always"
    night = LimitHours("22:00", "06:00", (), "Asia/Tokyo")
    assert hours_words([night, WEEKEND]) == "daily 22:00–06:00 Asia/Tokyo; sat 00:00 – mon 00:00 UTC"


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("weekend", "is no part of a week: write 'sat 00:00"),
        ("mon 25:00-26:00", "25:00 is no time of day"),
        ("satt 10:00-11:00", "'satt' is no day"),
        ("mon 00:00 - mon 00:00", "ends where it begins"),
        ("24:00-06:00", "begins at the end of a day"),
        ("10:00", "is no part of a week"),
    ],
)
def test_what_is_no_part_of_a_week_is_said(typed: str, problem: str) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        hours_of(typed)
