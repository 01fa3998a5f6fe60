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
    """A price as it was published, unread. `source_time` None: the source gave none."""

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
    """Remembers the last mark of each instrument, and the jump that waits for a second price to confirm it."""

    def __init__(self, deviation: Decimal, max_age: timedelta) -> None:
        self.deviation = deviation
        self.max_age = max_age
        self.last: dict[str, Mark] = {}
        self.suspects: dict[str, Decimal] = {}

    def accept(
        self, update: MarkUpdate, now: datetime, instruments: Mapping[str, Instrument], *, recorded: bool = False
    ) -> Mark | Quarantined:
        """The mark, or why it is set aside. `recorded`: from a recording, whose times are not ours."""
        if update.symbol not in instruments:
            return Quarantined(QuarantineReason.UNKNOWN_SYMBOL, f"instrument {update.symbol[:64]!r} is not known")
        price = price_of(update.price)
        if price is None:
            return Quarantined(QuarantineReason.INVALID_PRICE, f"{update.price[:48]!r} is not a price above zero")
        source_time = update.source_time if update.source_time is not None else now
        last = self.last.get(update.symbol)
        late = self.time_problem(source_time, now, last, recorded)
        if late is not None:
            return late
        if last is not None and self.jumps(last.price, price) and not self.confirmed(update.symbol, price):
            self.suspects[update.symbol] = price
            moved = (price / last.price - 1) * 100
            return Quarantined(
                QuarantineReason.DEVIATION,
                f"{moved:+.1f} % from the last mark {last.price}: set aside until a second price confirms it",
            )
        self.suspects.pop(update.symbol, None)
        mark = Mark(update.symbol, price, update.source or "unnamed", source_time, now, recorded)
        self.last[update.symbol] = mark
        return mark

    def time_problem(self, at: datetime, now: datetime, last: Mark | None, recorded: bool) -> Quarantined | None:
        if last is not None and last.recorded == recorded and at < last.source_time and not recorded:
            return Quarantined(QuarantineReason.OUT_OF_ORDER, f"older than the last mark, of {last.source_time}")
        if recorded:
            return None
        if at > now + FUTURE_MOST:
            return Quarantined(QuarantineReason.INVALID_TIME, f"its time {at} is in the future")
        if now - at > self.max_age:
            return Quarantined(QuarantineReason.INVALID_TIME, f"its time {at} is more than {self.max_age} ago")
        return None

    def jumps(self, last: Decimal, price: Decimal) -> bool:
        return abs(price - last) > self.deviation * last

    def confirmed(self, symbol: str, price: Decimal) -> bool:
        suspect = self.suspects.get(symbol)
        return suspect is not None and not self.jumps(suspect, price)


def price_of(text: str) -> Decimal | None:
    """A price above zero in the wire's grammar; None for anything else."""
    if len(text) > 40:
        return None
    try:
        price = parse(text)
    except ValueError:
        return None
    return price if price > 0 else None
