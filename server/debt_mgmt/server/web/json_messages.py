"""Messages of the contract as JSON: each field that does not fit is named, and numbers keep every digit."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from debt_mgmt.core.faults import InvalidRequest

PROBLEMS_MOST = 50
NAME_CHARACTERS_MOST = 64
NUMBER_CHARACTERS_MOST = 40
ITEMS_MOST = 10_000
"""Of a list; no method takes more."""

WELL_KNOWN = {
    "google.protobuf.Timestamp": 'must be a time such as "2026-03-02T09:00:00Z"',
    "google.protobuf.Duration": 'must be seconds such as "2.5s"',
    "google.protobuf.FieldMask": "must be names of fields with commas between them",
}
"""Messages that are written as one text, and how."""

UNDERSCORED = re.compile(r"_([a-z])").sub
"""Masks are in camel case in protobuf's JSON; the contract's own spelling is taken too."""

Problems = list[tuple[str, str]]


class Number(str):
    """A number of the body, as it was written."""

    __slots__ = ()

    def wire(self) -> str:
        """The same number without an exponent, where it has one that a number of the contract could have."""
        if "e" not in self.lower() or len(self) > NUMBER_CHARACTERS_MOST:
            return str(self)
        exact = Decimal(self)
        exponent = exact.as_tuple().exponent
        sensible = isinstance(exponent, int) and exponent >= -18 and exact.adjusted() <= 20
        return format(exact, "f") if sensible else str(self)


def read_json(content: bytes) -> dict[str, Any]:
    """The object that the bytes spell; none at all is an empty one. Raises InvalidRequest."""
    if not content.strip():
        return {}
    try:
        value = json.loads(
            content.decode(),
            parse_float=number,
            parse_int=number,
            parse_constant=not_a_number,
            object_pairs_hook=each_once,
        )
    except json.JSONDecodeError as error:
        what = f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}"
        raise InvalidRequest([("", what)]) from None
    except UnicodeDecodeError:
        raise InvalidRequest([("", "the body is not JSON: it is not UTF-8")]) from None
    except RecursionError:
        raise InvalidRequest([("", "the body is nested too deeply")]) from None
    if not isinstance(value, dict):
        raise InvalidRequest([("", "the body must be a JSON object")])
    return value


def number(text: str) -> Number:
    """In Python on purpose: between two of these other threads get their turn, in one long C loop they do not."""
    return Number(text)


def not_a_number(name: str) -> Any:
    raise InvalidRequest([("", f"the body is not JSON: {name} is no number")])


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that stands twice in it would leave open which of the two was meant."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest([(shortened(name), "stands twice in one object")])
        found[name] = value
    return found


def read_message(value: Mapping[str, Any], message: Message) -> None:
    """Fill a message from an object of `read_json`. Raises InvalidRequest with every field that does not fit."""
    problems: Problems = []
    fill(message, value, "", problems)
    if problems:
        raise InvalidRequest(problems)


def read_query(query: Iterable[tuple[str, str]], message: Message) -> None:
    """Fill a message from the parameters of an address; a repeated field may be given several times."""
    fields = fields_by_name(message.DESCRIPTOR)
    value: dict[str, Any] = {}
    for name, text in query:
        field = fields.get(name)
        given: Any = text
        if field is not None and field.type == FieldDescriptor.TYPE_BOOL:
            given = {"true": True, "false": False}.get(text, text)
        if field is not None and field.is_repeated:
            value.setdefault(name, []).append(given)
        elif name in value:
            raise InvalidRequest([(shortened(name), "is given twice")])
        else:
            value[name] = given
    read_message(value, message)


def fill(message: Message, value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, Mapping):
        problems.append((path, "must be an object"))
        return
    fields = fields_by_name(message.DESCRIPTOR)
    seen: set[str] = set()
    for name, given in value.items():
        if len(problems) >= PROBLEMS_MOST:
            return
        where = f"{path}.{shortened(name)}" if path else shortened(name)
        field = fields.get(name)
        if field is None:
            problems.append((where, unknown_field(name, message.DESCRIPTOR)))
            continue
        if field.name in seen:
            problems.append((where, f"stands twice, also as {field.json_name}"))
            continue
        seen.add(field.name)
        if given is None:
            continue
        group = field.containing_oneof
        if group is not None and message.WhichOneof(group.name) is not None:
            problems.append((where, f"only one of {', '.join(one.name for one in group.fields)} may be set"))
            continue
        fill_field(message, field, given, where, problems)


def fill_field(message: Message, field: FieldDescriptor, given: Any, where: str, problems: Problems) -> None:
    kind = field.message_type
    if isinstance(given, list) and len(given) > ITEMS_MOST:
        problems.append((where, f"has {len(given)} items, at most {ITEMS_MOST} are accepted"))
    elif kind is None or kind.full_name in WELL_KNOWN or kind.GetOptions().map_entry:
        fill_value(message, field, given, where, problems)
    elif not field.is_repeated:
        child = getattr(message, field.name)
        child.SetInParent()
        fill(child, given, where, problems)
    elif not isinstance(given, list):
        problems.append((where, "must be a list"))
    else:
        for index, item in enumerate(given):
            if len(problems) >= PROBLEMS_MOST:
                return
            fill(getattr(message, field.name).add(), item, f"{where}[{index}]", problems)


def fill_value(message: Message, field: FieldDescriptor, given: Any, where: str, problems: Problems) -> None:
    """What protobuf's own JSON makes of it."""
    try:
        value = spelled(given, field.type == FieldDescriptor.TYPE_STRING)
        if field.message_type is not None and field.message_type.name == "FieldMask" and isinstance(value, str):
            value = UNDERSCORED(lambda found: found[1].upper(), value)
        json_format.ParseDict({field.name: value}, message)
    except (json_format.ParseError, ValueError, TypeError, OverflowError):
        problems.append((where, rule_of(field)))


def spelled(given: Any, text: bool) -> Any:
    """Numbers as their digits: a text field takes those of the contract's decimals, the others read them.

    Raises UnicodeEncodeError for half a character, which protobuf can't stand everywhere.
    """
    if isinstance(given, Number):
        return given.wire() if text else str(given)
    if isinstance(given, list):
        return [spelled(item, text) for item in given]
    if isinstance(given, str):
        given.encode()
    return given


def rule_of(field: FieldDescriptor) -> str:
    """What the field takes, in words."""
    if field.message_type is not None:
        words = WELL_KNOWN.get(field.message_type.full_name, "must be an object")
    elif field.enum_type is not None:
        words = f"must be one of {', '.join(value.name for value in field.enum_type.values if value.number)}"
    elif field.type == FieldDescriptor.TYPE_BOOL:
        words = "must be true or false"
    elif field.type == FieldDescriptor.TYPE_STRING:
        words = "must be text, or a number where one is meant"
    elif field.type == FieldDescriptor.TYPE_BYTES:
        words = "must be base64"
    else:
        words = "must be a whole number in range"
    return f"{words}, each in a list" if field.is_repeated else words


@cache
def fields_by_name(descriptor: Any) -> dict[str, FieldDescriptor]:
    """As the contract spells them, and in the camel case of protobuf's JSON."""
    return {name: field for field in descriptor.fields for name in (field.json_name, field.name)}


def unknown_field(name: str, descriptor: Any) -> str:
    names = [field.name for field in descriptor.fields]
    near = difflib.get_close_matches(name[:NAME_CHARACTERS_MOST], names, 1)
    return f"is no field of {descriptor.name}" + (f"; did you mean {near[0]}?" if near else "")


def shortened(name: str) -> str:
    """A name that somebody made up, for a message."""
    return name[:NAME_CHARACTERS_MOST].encode("ascii", "backslashreplace").decode()


def written(message: Message) -> dict[str, Any]:
    """The message with the contract's names; what is not known is absent, and what is empty is there."""
    shown: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return shown


def json_bytes(value: Any) -> bytes:
    return msgspec.json.encode(value)
