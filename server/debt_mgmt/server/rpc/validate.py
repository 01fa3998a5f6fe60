"""Reading requests: every field is checked, and every malformed one is named in the same error."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from google.protobuf.message import Message

from debt_mgmt.core import money
from debt_mgmt.core.account import Account, PositionMode, PositionSide
from debt_mgmt.core.commands import Order
from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.core.money import ONE, ZERO
from debt_mgmt.server.rpc.names import POSITION_SIDE, SIDE, Member, Names
from debt_mgmt.v1 import types_pb2

DECIMAL_CHARACTERS_MOST = 40
TEXT_CHARACTERS_MOST = 500
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MOST = 1000
FILTER_ITEMS_MOST = 1000
DURATION_MOST = timedelta(days=3650)

ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}").fullmatch
SYMBOL = re.compile(r"[A-Za-z0-9_.:/-]{1,64}").fullmatch
ASSET = re.compile(r"[A-Za-z0-9_.-]{1,32}").fullmatch
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search

ID_RULE = "must be 1 to 64 characters of A-Z, a-z, 0-9 and _ . : -"
SYMBOL_RULE = "must be 1 to 64 characters of A-Z, a-z, 0-9 and _ . : / -"
ASSET_RULE = "must be 1 to 32 characters of A-Z, a-z, 0-9 and _ . -"
DECIMAL_RULE = "must be a plain decimal such as 12.5, with at most 20 digits before the point and 18 after it"

SECONDS_FIRST = -62_135_596_800
SECONDS_LAST = 253_402_300_799
"""The first and the last second of the years 1 to 9999."""

ERA = datetime(1970, 1, 1, tzinfo=UTC)

POSITION_SIDES: dict[PositionMode | None, dict[int, PositionSide]] = {
    PositionMode.ONE_WAY: {
        types_pb2.POSITION_SIDE_UNSPECIFIED: PositionSide.NET,
        types_pb2.POSITION_SIDE_NET: PositionSide.NET,
    },
    PositionMode.HEDGE: {
        types_pb2.POSITION_SIDE_LONG: PositionSide.LONG,
        types_pb2.POSITION_SIDE_SHORT: PositionSide.SHORT,
    },
    None: {types_pb2.POSITION_SIDE_UNSPECIFIED: PositionSide.NET, **POSITION_SIDE.core},
}
"""What may be asked for by the account's position mode; None where the mode is not known (yet)."""

POSITION_SIDE_RULES = {
    PositionMode.ONE_WAY: "must be NET or not set: the account is one-way",
    PositionMode.HEDGE: "must be LONG or SHORT: the account holds both legs (hedge mode)",
    None: "must be NET, LONG or SHORT",
}


class Reader:
    """Collects what is wrong with a request. What is wrong reads as some valid value, which `done` never lets out.

    For a live account `venue` says where it is: `BTCUSDT` then means the venue's, `bybit:BTCUSDT`. See `venue_of`.
    """

    __slots__ = ("problems", "venue")

    def __init__(self, venue: str = "") -> None:
        self.problems: list[tuple[str, str]] = []
        self.venue = venue

    def problem(self, path: str, what: str) -> None:
        self.problems.append((path, what))

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong so far."""
        return not self.problems

    def done(self) -> None:
        """Raises InvalidRequest with every problem found."""
        if self.problems:
            raise InvalidRequest(self.problems)

    # names and texts

    def id(self, text: str, path: str) -> str:
        if ID(text) is None:
            self.problem(path, named(text, ID_RULE))
        return text

    def account_id(self, text: str, path: str = "account_id") -> str:
        return self.id(text, path)

    def request_id(self, text: str, path: str = "request_id") -> str:
        return self.id(text, path)

    def optional_id(self, text: str, path: str) -> str:
        """An id, or nothing."""
        return self.id(text, path) if text else text

    def symbol(self, text: str, path: str = "symbol") -> str:
        if SYMBOL(text) is None:
            self.problem(path, named(text, SYMBOL_RULE))
        return self.at_venue(text)

    def at_venue(self, symbol: str) -> str:
        """The house's name of an instrument."""
        return symbol if not self.venue or ":" in symbol else f"{self.venue}:{symbol}"

    def asset(self, text: str, path: str = "asset") -> str:
        if ASSET(text) is None:
            self.problem(path, named(text, ASSET_RULE))
        return text

    def optional_asset(self, text: str, path: str) -> str:
        return self.asset(text, path) if text else text

    def text(self, text: str, path: str, most: int = TEXT_CHARACTERS_MOST) -> str:
        """Words of a person: any characters but control characters, line ends and tabs excepted."""
        if len(text) > most:
            self.problem(path, f"has {len(text)} characters, at most {most} are accepted")
        elif CONTROL(text) is not None:
            self.problem(path, "must not contain control characters")
        return text

    def several(self, texts: Iterable[str], path: str, read: Callable[[str, str], str]) -> list[str]:
        """The values of a filter, each once."""
        found = [read(text, f"{path}[{index}]") for index, text in enumerate(texts)]
        if len(found) > FILTER_ITEMS_MOST:
            self.problem(path, f"has {len(found)} items, at most {FILTER_ITEMS_MOST} are accepted")
        return sorted(set(found))

    # numbers

    def decimal(self, text: str, path: str) -> Decimal:
        """Any number of the wire grammar."""
        try:
            return decimal_of(text)
        except ValueError:
            self.problem(path, named(text, DECIMAL_RULE))
            return ONE

    def positive(self, text: str, path: str) -> Decimal:
        number = self.decimal(text, path)
        if number <= 0:
            self.problem(path, "must be above zero")
        return number

    def not_negative(self, text: str, path: str) -> Decimal:
        number = self.decimal(text, path)
        if number < 0:
            self.problem(path, "must not be negative")
        return number

    def nonzero(self, text: str, path: str) -> Decimal:
        number = self.decimal(text, path)
        if number == 0:
            self.problem(path, "must not be zero")
        return number

    def fraction(self, text: str, path: str) -> Decimal:
        """Above 0, at most 1."""
        number = self.decimal(text, path)
        if not ZERO < number <= ONE:
            self.problem(path, "must be above 0 and at most 1")
        return number

    def optional(
        self, message: Message, field: str, read: Callable[[str, str], Decimal], path: str = ""
    ) -> Decimal | None:
        """A decimal where the field is present, read by one of the functions above; None where it is not."""
        return read(getattr(message, field), path or field) if message.HasField(field) else None

    # choices

    def choice(self, number: int, names: Names[Member], path: str, default: Member | None = None) -> Member:
        """A member of an enum; `default` where it is UNSPECIFIED."""
        member = names.core.get(number, default if number == 0 else None)
        if member is None:
            what = "must be set" if number == 0 else f"has no value {number}"
            self.problem(path, f"{what}: {', '.join(one.value for one in names.wire)} are accepted")
            return next(iter(names.wire))
        return member

    def choices(self, numbers: Iterable[int], names: Names[Member], path: str) -> list[Member]:
        return [self.choice(number, names, f"{path}[{index}]") for index, number in enumerate(numbers)]

    def optional_choice(self, number: int, names: Names[Member], path: str) -> Member | None:
        """A member, or None where it is UNSPECIFIED."""
        return None if number == 0 else self.choice(number, names, path)

    def position_side(self, number: int, path: str, mode: PositionMode | None) -> PositionSide:
        """The position meant; see POSITION_SIDES."""
        side = POSITION_SIDES[mode].get(number)
        if side is None:
            self.problem(path, POSITION_SIDE_RULES[mode])
            return PositionSide.NET
        return side

    def one_of(self, message: Message, group: str, path: str = "") -> str:
        """The field of a oneof that is set; empty where none is, which is a problem."""
        chosen: str | None = message.WhichOneof(group)
        if chosen is None:
            fields = ", ".join(field.name for field in message.DESCRIPTOR.oneofs_by_name[group].fields)
            self.problem(path or group, f"one of {fields} must be set")
        return chosen or ""

    def present(self, message: Message, field: str, path: str = "") -> bool:
        """Whether a message that is required is there."""
        if message.HasField(field):
            return True
        self.problem(path or field, "is required")
        return False

    # times and pages

    def duration(
        self, message: Message, field: str, path: str = "", most: timedelta = DURATION_MOST
    ) -> timedelta | None:
        """A length of time above zero; None where the field is absent."""
        if not message.HasField(field):
            return None
        value = getattr(message, field)
        path = path or field
        if abs(value.nanos) >= 1_000_000_000 or value.seconds * value.nanos < 0:
            self.problem(path, "is not a duration: nanos must be below a second and have the sign of seconds")
            return most
        if value.seconds > most.total_seconds():
            self.problem(path, f"must be at most {most.days} days")
            return most
        length = timedelta(seconds=max(value.seconds, -1), microseconds=value.nanos // 1000)
        if length <= timedelta(0):
            self.problem(path, "must be above zero, in microseconds at least 1")
            return most
        return length

    def timestamp(self, message: Message, field: str, path: str = "") -> datetime | None:
        """A time in UTC, at microseconds; None where the field is absent."""
        if not message.HasField(field):
            return None
        at = datetime_of(getattr(message, field))
        if at is None:
            self.problem(path or field, "is not a time between the years 1 and 9999")
            return ERA
        return at

    def period(self, message: Message) -> tuple[datetime | None, datetime | None]:
        """start_time and end_time of a list."""
        since, until = self.timestamp(message, "start_time"), self.timestamp(message, "end_time")
        if since is not None and until is not None and since > until:
            self.problem("end_time", "must not be before start_time")
        return since, until

    def page_size(self, size: int) -> int:
        if not 0 <= size <= PAGE_SIZE_MOST:
            self.problem("page_size", f"must be 1 to {PAGE_SIZE_MOST}, or 0 for {PAGE_SIZE_DEFAULT}")
        return size or PAGE_SIZE_DEFAULT


def venue_of(account: Account) -> str:
    """Where the instruments of an account are: at its broker; empty for a sandbox account, which has the house's."""
    return account.broker if account.sync is not None else ""


def named(text: str, rule: str) -> str:
    """A problem that quotes the beginning of what was given."""
    return f"{rule}, not {text[:48]!a}" if text else f"is required and {rule}"


def decimal_of(text: str) -> Decimal:
    """A decimal of the wire; raises ValueError. What is too long is not looked at."""
    if len(text) > DECIMAL_CHARACTERS_MOST:
        raise ValueError("too long")
    return money.parse(text)


def datetime_of(timestamp: Any) -> datetime | None:
    """The time that a google.protobuf.Timestamp means, cut to microseconds; None where it means none."""
    if not SECONDS_FIRST <= timestamp.seconds <= SECONDS_LAST or not 0 <= timestamp.nanos < 1_000_000_000:
        return None
    return ERA + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def order_of(read: Reader, message: types_pb2.Order, path: str, mode: PositionMode | None) -> Order:
    """The order at `path`, for an account in this position mode (None: not known because something else is wrong).

    UNSPECIFIED is NET on a one-way account; a hedge account needs LONG or SHORT. Fast where nothing is wrong; where
    something is, the order is read again to say what.
    """
    side = SIDE.core.get(message.side)
    position_side = POSITION_SIDES[mode].get(message.position_side)
    symbol, strategy = message.symbol, message.strategy
    price = None
    try:
        quantity = money.parse(message.quantity)
        if message.HasField("price"):
            price = money.parse(message.price)
    except ValueError:
        quantity = ZERO
    if (
        side is None
        or position_side is None
        or quantity <= 0
        or (price is not None and price <= 0)
        or SYMBOL(symbol) is None
        or (strategy and ID(strategy) is None)
    ):
        return explained_order(read, message, path, mode)
    if read.venue:
        symbol = read.at_venue(symbol)
    return Order(symbol, side, quantity, price, message.reduce_only, position_side, strategy)


def explained_order(read: Reader, message: types_pb2.Order, path: str, mode: PositionMode | None) -> Order:
    """The order, with every problem noted."""
    return Order(
        symbol=read.symbol(message.symbol, f"{path}.symbol"),
        side=read.choice(message.side, SIDE, f"{path}.side"),
        quantity=read.positive(message.quantity, f"{path}.quantity"),
        price=read.optional(message, "price", read.positive, f"{path}.price"),
        reduce_only=message.reduce_only,
        position_side=read.position_side(message.position_side, f"{path}.position_side", mode),
        strategy=read.optional_id(message.strategy, f"{path}.strategy"),
    )
