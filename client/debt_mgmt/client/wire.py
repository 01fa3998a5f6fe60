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
M = TypeVar("M", bound=Message)
Convert = Callable[[Any], Any]


def read(kind: type[V], source: Message, **given: Any) -> V:
    """The message `source` as a `kind`. Fields that it does not have, such as the answer's `revision`, are `given`.

    Raises MalformedAnswer where the message has not what the type demands.
    """
    hashable: Any = kind
    values = {name: value_of(source) for name, value_of in plan(hashable, source.DESCRIPTOR) if name not in given}
    return kind(**values, **given)


def message(kind: type[M], **fields_given: Any) -> M:
    """A message with these fields; those that are None are left out. Values are written as `write` does."""
    return kind(**fields_written(kind.DESCRIPTOR, fields_given))


def write(value: Any, descriptor: Descriptor) -> dict[str, Any]:
    """The value as keyword arguments of its message; what is None is left out."""
    return fields_written(descriptor, {field.name: getattr(value, field.name) for field in fields(value)})


def fields_written(descriptor: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    known = descriptor.fields_by_name
    return {name: written(item, known[name]) for name, item in values.items() if item is not None}


def written(item: Any, field: FieldDescriptor) -> Any:
    if isinstance(item, tuple | list):
        return [written(each, field) for each in item]
    if field.enum_type is not None:
        return enum_number(item, field.enum_type, field.name)
    if field.message_type is not None and is_dataclass(item):
        return write(item, field.message_type)
    match item:
        case Decimal():
            return text(item)
        case datetime():
            return timestamp(item, field.name)
        case timedelta():
            return duration(item, field.name)
    return item


def enum_number(name: str, wire: EnumDescriptor, field: str) -> int:
    """The wire's number of an enum value, or of its name in any case. Raises ValueError for other names."""
    start = prefix(wire)
    value = wire.values_by_name.get(start + name.upper())
    if value is None or value.number == 0:
        known = ", ".join(value.name.removeprefix(start) for value in wire.values if value.number)
        raise ValueError(f"{field} must be one of {known}, not {name!r}")
    return int(value.number)


def prefix(wire: EnumDescriptor) -> str:
    """What the names of an enum's values begin with."""
    return wire.values_by_number[0].name.removesuffix("UNSPECIFIED")


@functools.cache
def plan(kind: Any, descriptor: Descriptor) -> tuple[tuple[str, Convert], ...]:
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
    if field.enum_type is not None:
        assert issubclass(hint, WireEnum), f"{field.full_name} can't be read as {hint}"
        return functools.partial(member, hint, members(hint, field.enum_type), field.full_name)
    if is_dataclass(hint):
        nested: Any = hint
        return functools.partial(read, nested)
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
