"""The guard in front of the market: what is no price, out of order, or a jump that nobody confirmed is set aside."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.market import Mark
from debt_mgmt.core.money import parse

FUTURE_MOST = timedelta(seconds=5)
"""A source's clock may be ahead of ours by this much."""


class MarkUpdate(msgspec.Struct, frozen=True):
    """A price as it was published, unread. `source_time` None: the source gave none, so it is of now."""

    symbol: str
    price: str
    source: str
    source_time: datetime | None = None


class QuarantineReason(StrEnum):
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    INVALID_PRICE = "INVALID_PRICE"
    DEVIATION = "DEVIATION"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    INVALID_TIME = "INVALID_TIME"


class Quarantined(msgspec.Struct, frozen=True):
    """Why a price is not used."""

    reason: QuarantineReason
    message: str


class MarkGuard:
    """Remembers the last mark of each instrument, and the jump that waits for a second price to confirm it.

    Live and recorded prices are not compared with each other, nor is a recording that begins again with its end.
    """

    def __init__(self, deviation: Decimal, max_age: timedelta) -> None:
        """`deviation` is the fraction of the last price beyond which a move must be confirmed."""
        self.deviation = deviation
        self.max_age = max_age
        self.last: dict[str, Mark] = {}
        self.suspects: dict[str, Mark] = {}

    def accept(
        self, update: MarkUpdate, now: datetime, instruments: Mapping[str, Instrument], *, recorded: bool = False
    ) -> Mark | Quarantined:
        """The mark, or why it is set aside. `recorded`: from a recording, whose times are not ours."""
        symbol = update.symbol
        if symbol not in instruments:
            return Quarantined(QuarantineReason.UNKNOWN_SYMBOL, f"instrument {symbol[:64]!r} is not known")
        price = price_of(update.price)
        if price is None:
            return Quarantined(QuarantineReason.INVALID_PRICE, f"{update.price[:48]!r} is not a price above zero")
        late = self.time_problem(update.source_time, now, recorded)
        if late is not None:
            return late
        mark = Mark(symbol, price, update.source or "unnamed", update.source_time or now, now, recorded)
        last = self.last.get(symbol)
        if last is not None and last.recorded is recorded:
            back = mark.source_time < last.source_time
            if back and not recorded:
                return Quarantined(QuarantineReason.OUT_OF_ORDER, f"older than the last mark, of {last.source_time}")
            if not back and self.jumps(last, mark) and not self.confirmed(mark):
                self.suspects[symbol] = mark
                moved = (price / last.price - 1) * 100
                return Quarantined(
                    QuarantineReason.DEVIATION,
                    f"{moved:+.1f} % from the last mark {last.price}: set aside until a second price confirms it",
                )
        self.suspects.pop(symbol, None)
        self.last[symbol] = mark
        return mark

    def time_problem(self, at: datetime | None, now: datetime, recorded: bool) -> Quarantined | None:
        """What is wrong with the time that a source gave, by itself."""
        if at is None:
            return Quarantined(QuarantineReason.INVALID_TIME, "a recorded price needs its time") if recorded else None
        if at.tzinfo is None:
            return Quarantined(QuarantineReason.INVALID_TIME, f"its time {at} has no zone")
        if at > now + FUTURE_MOST:
            return Quarantined(QuarantineReason.INVALID_TIME, f"its time {at} is in the future")
        if not recorded and now - at > self.max_age:
            return Quarantined(QuarantineReason.INVALID_TIME, f"its time {at} is more than {self.max_age} ago")
        return None

    def jumps(self, last: Mark, mark: Mark) -> bool:
        return abs(mark.price - last.price) > self.deviation * last.price

    def confirmed(self, mark: Mark) -> bool:
        """Whether the price before was set aside and this one agrees with it: a later one, or another source's.

        The same price sent again confirms nothing.
        """
        suspect = self.suspects.get(mark.symbol)
        if suspect is None or suspect.recorded is not mark.recorded or self.jumps(suspect, mark):
            return False
        return mark.source_time > suspect.source_time or mark.source != suspect.source


def price_of(text: str) -> Decimal | None:
    """A price above zero in the wire's grammar; None for anything else."""
    if len(text) > 40:
        return None
    try:
        price = parse(text)
    except ValueError:
        return None
    return price if price > 0 else None
