"""Reads messages of the contract into the SDK's values and writes them back, field by field, by name and type.

A value is a frozen dataclass whose fields are named as the message's. What a field may be, its type says: a field that
is typed `X | None` is None where the message has nothing (an absent field, an empty string, an unspecified enum); any
other field that is absent or malformed means that the server broke the contract.
"""

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from debt_mgmt.client.decimals import GRAMMAR, text
from debt_mgmt.client.enums import UNRECOGNIZED, WireEnum
from debt_mgmt.client.errors import MalformedAnswer
from debt_mgmt.client.times import duration, timestamp

V = TypeVar("V")
Convert = Callable[[Any], Any]


def read(kind: type[V], message: Message, **given: Any) -> V:
    """The message as a `kind`. Fields that it does not have, such as the answer's `revision`, are `given`.

    Raises MalformedAnswer where the message has not what the type demands.
    """
    values = {name: value_of(message) for name, value_of in plan(kind, message.DESCRIPTOR) if name not in given}
    return kind(**values, **given)


def write(value: Any, descriptor: Descriptor) -> dict[str, Any]:
    """The value as keyword arguments of its message; what is None is left out."""
    present = ((field.name, getattr(value, field.name)) for field in fields(value))
    known = descriptor.fields_by_name
    return {name: written(item, known[name]) for name, item in present if item is not None}


def written(item: Any, field: FieldDescriptor) -> Any:
    match item:
        case WireEnum():
            return number(item, field.enum_type, field.name)
        case Decimal():
            return text(item)
        case datetime():
            return timestamp(item, field.name)
        case timedelta():
            return duration(item, field.name)
        case tuple():
            return [written(each, field) for each in item]
        case _ if is_dataclass(item):
            return write(item, field.message_type)
    return item


def number(item: WireEnum, kind: EnumDescriptor, name: str) -> int:
    """The wire's number of an enum value. Raises ValueError for one that this SDK only reads."""
    if not item.recognized:
        raise ValueError(f"{name} can't be sent: {item} is newer than this SDK")
    return int(kind.values_by_name[prefix(kind) + item.name].number)


def prefix(kind: EnumDescriptor) -> str:
    return kind.values_by_number[0].name.removesuffix("UNSPECIFIED")


@functools.cache
def plan(kind: type, descriptor: Descriptor) -> tuple[tuple[str, Convert], ...]:
    """How each field of `kind` is taken from a message: made once per pair."""
    hints = get_type_hints(kind)
    known = descriptor.fields_by_name
    names = [field.name for field in fields(kind) if field.name in known]
    return tuple((name, taker(hints[name], known[name])) for name in names)


def taker(hint: Any, field: FieldDescriptor) -> Convert:
    """Takes one field from a message."""
    name = field.name
    inner, optional = without_none(hint)
    convert = converter(inner, field)
    if get_origin(inner) is tuple:
        return lambda message: tuple(convert(each) for each in getattr(message, name))
    if field.has_presence:

        def present(message: Any) -> Any:
            if message.HasField(name):
                return convert(getattr(message, name))
            if optional:
                return None
            raise MalformedAnswer(f"{field.full_name} is missing")

        return present
    if optional:
        return lambda message: convert(getattr(message, name)) if getattr(message, name) else None
    return lambda message: convert(getattr(message, name))


def without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    others = [part for part in get_args(hint) if part is not type(None)]
    assert len(others) == 1, f"{hint} names several types"
    return others[0], True


def converter(hint: Any, field: FieldDescriptor) -> Convert:
    """Turns what the message holds, or one of the items that it holds, into what the type names."""
    if get_origin(hint) is tuple:
        return converter(get_args(hint)[0], field)
    if hint is Decimal:
        return functools.partial(decimal_of, field.full_name)
    if hint is datetime:
        return lambda message: message.ToDatetime(tzinfo=UTC)
    if hint is timedelta:
        return lambda message: message.ToTimedelta()
    if issubclass(hint, WireEnum):
        return functools.partial(member, hint, members(hint, field.enum_type), field.full_name)
    if is_dataclass(hint):
        return functools.partial(read, hint)
    assert hint in (str, int, bool), f"{field.full_name} can't be read as {hint}"
    return lambda value: value


def decimal_of(name: str, value: str) -> Decimal:
    if not GRAMMAR.fullmatch(value):
        raise MalformedAnswer(f"{name} is not a decimal: {value[:60]!r}")
    return Decimal(value)


def member(kind: type[WireEnum], named: Mapping[int, WireEnum], name: str, value: int) -> WireEnum:
    if value == 0:
        raise MalformedAnswer(f"{name} is unspecified")
    return named.get(value) or kind(f"{UNRECOGNIZED}{value}")


def members(kind: type[WireEnum], wire: EnumDescriptor) -> dict[int, WireEnum]:
    """The values that this SDK names, by the wire's number."""
    start = prefix(wire)
    named = ((value.number, value.name.removeprefix(start)) for value in wire.values)
    return {value: kind[name] for value, name in named if name in kind.__members__}
