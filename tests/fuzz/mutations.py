"""Requests that nobody means: made from the descriptors of the contract, then damaged; the same for the same seed."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.support.wire import METHODS, request_class

DEPTH_MOST = 4
REPEATED_MOST = 4

PLAIN = ["alice", "BTCUSDT", "USDT", "USD", "BTC", "desk", "1", "0.5", "100", "sandbox", "bybit", "viewer", "r-1"]
"""Words that mean something, so that a request comes far before it fails."""
MEANT: dict[str, list[str]] = {
    "account_id": ["alice", "bob", "nobody"],
    "account_ids": ["alice", "bob"],
    "symbol": ["BTCUSDT", "ETHUSDT", "BTC-NEW"],
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "asset": ["USDT", "BTC"],
    "fee_asset": ["USDT"],
    "currency": ["USDT", "USD"],
    "owner": ["desk"],
    "broker": ["paper", "bybit", "binance"],
    "page_token": [""],
    "resume_token": [""],
    "note": ["why"],
    "reason": ["why"],
    "leverage": ["1", "2", "3"],
}
"""What a field of such a name is usually given; request ids are new ones, other texts mostly small numbers."""
NUMBERS = ["0", "-1", "1e9", "NaN", "Infinity", "-0", "00.1", "1" * 60, "0." + "0" * 60 + "1", "9" * 400, "١٢", "1_000"]
ODD = ["", " ", "\x00", "\u202e", "é" * 7, "😀", "../../x", "'; --", "%s%n", "{0}", "${x}", "\r\n", "a" * 300, "*"]
HUGE_CHARACTERS = (5_000, 100_000)
INTEGERS = [0, 1, -1, 2, 7, 100, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1]
ENUM_NUMBERS = [0, 1, 2, 3, 99, -1, 2**31 - 1]
FLOATS = [0.0, -0.0, 1.5, float("nan"), float("inf"), -1e308]

F = FieldDescriptor
BITS: dict[int, tuple[int, int]] = {
    F.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    F.CPPTYPE_UINT32: (0, 2**32 - 1),
    F.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    F.CPPTYPE_UINT64: (0, 2**64 - 1),
}

Metadata = tuple[tuple[str, str | bytes], ...]


class Attempt(NamedTuple):
    """One call: the method, the bytes of its requests (several where the client streams), its headers."""

    number: int
    name: str
    requests: list[bytes]
    metadata: Metadata


def attempts(seed: int, count: int) -> "list[Callable[[], Attempt]]":
    """Makers of `count` attempts over all methods in turn. Each depends on the seed and on its number alone."""
    names = sorted(METHODS)
    return [lambda number=number: attempt(seed, number, names[number % len(names)]) for number in range(count)]  # type: ignore[misc]


def attempt(seed: int, number: int, name: str) -> Attempt:
    chance = random.Random(f"{seed}/{number}")
    count = chance.randint(0, 3) if METHODS[name].client_streaming else 1
    return Attempt(number, name, [content(chance, name) for _ in range(count)], headers(chance))


def content(chance: random.Random, name: str) -> bytes:
    """A message of random fields, damaged or not; or bytes that never were one."""
    kind = chance.random()
    if kind < 0.08:
        return chance.randbytes(chance.randint(0, 200))
    message = request_class(name)()
    fill(chance, message, DEPTH_MOST, sanity=chance.choice([0.3, 0.9, 0.99, 1.0]))
    whole = message.SerializeToString()
    if kind < 0.35:
        return damaged(chance, whole)
    if kind < 0.36:
        return whole + b"\xfa\x07" + varint(60_000) + bytes(60_000)  # a field that the contract does not know
    return whole


def fill(chance: random.Random, message: Message, depth: int, sanity: float) -> None:
    """Set most fields. With much sanity most values mean something."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() > 0.75:
            continue
        if field.is_repeated:
            fill_repeated(chance, message, field, depth, sanity)
        elif field.cpp_type == F.CPPTYPE_MESSAGE:
            if depth:
                getattr(message, field.name).SetInParent()
                fill(chance, getattr(message, field.name), depth - 1, sanity)
        else:
            setattr(message, field.name, value(chance, field, sanity))


def fill_repeated(chance: random.Random, message: Message, field: Any, depth: int, sanity: float) -> None:
    several: Any = getattr(message, field.name)
    entry = field.message_type if field.cpp_type == F.CPPTYPE_MESSAGE else None
    for _ in range(chance.randint(0, REPEATED_MOST) if chance.random() < 0.97 else 300):
        if entry is not None and entry.GetOptions().map_entry:
            key = value(chance, entry.fields_by_name["key"], sanity)
            of = entry.fields_by_name["value"]
            if of.cpp_type == F.CPPTYPE_MESSAGE:
                fill(chance, several[key], max(0, depth - 1), sanity)
            else:
                several[key] = value(chance, of, sanity)
        elif entry is not None:
            one = several.add()
            if depth:
                fill(chance, one, depth - 1, sanity)
        else:
            several.append(value(chance, field, sanity))


def value(chance: random.Random, field: Any, sanity: float) -> Any:
    kind = field.cpp_type
    if kind == F.CPPTYPE_STRING:
        return text(chance, field.name, sanity)
    if kind == F.CPPTYPE_ENUM:
        known = [one.number for one in field.enum_type.values]
        return chance.choice(known if chance.random() < sanity else ENUM_NUMBERS)
    if kind == F.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind in (F.CPPTYPE_DOUBLE, F.CPPTYPE_FLOAT):
        return chance.choice(FLOATS)
    least, most = BITS[kind]
    if chance.random() < sanity:
        return chance.randint(0, 20)
    return min(most, max(least, chance.choice(INTEGERS)))


def text(chance: random.Random, name: str, sanity: float) -> str:
    if chance.random() < sanity:
        if name in MEANT:
            return chance.choice(MEANT[name])
        if name.endswith("_id"):
            return f"new-{chance.randrange(1_000_000)}"
        return chance.choice(["1", "0.5", "0.01", "2", "100"] if chance.random() < 0.8 else PLAIN)
    kind = chance.random()
    if kind < 0.45:
        return chance.choice(NUMBERS)
    if kind < 0.98:
        return chance.choice(ODD)
    return chance.choice("a9\u00e9") * chance.randint(*HUGE_CHARACTERS)


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """Some bytes turned, lost, doubled or put in."""
    broken = bytearray(whole)
    for _ in range(chance.randint(1, 6)):
        place = chance.randint(0, len(broken))
        match chance.randrange(5):
            case 0 if broken:
                broken[place - 1] ^= 1 << chance.randrange(8)
            case 1:
                del broken[place:]
            case 2:
                broken[place:place] = chance.randbytes(chance.randint(1, 12))
            case 3:
                broken[place:place] = broken[max(0, place - 20) : place]
            case _:
                broken[place:place] = b"\xff" * chance.randint(1, 11)
    return bytes(broken)


def headers(chance: random.Random) -> Metadata:
    """Now and then headers that the service reads, with something else in them."""
    if chance.random() < 0.85:
        return ()
    names = ["authorization", "debt-mgmt-as-of", "traceparent", "grpc-previous-rpc-attempts", "x-odd"]
    plain = [
        "",
        "Bearer",
        "Bearer x.y.z",
        "1:1",
        "0:0",
        "9:999999",
        "-1:-1",
        "2026-01-01T00:00:00Z",
        "NaN",
        "z" * 2_000,
    ]
    found: list[tuple[str, str | bytes]] = [(chance.choice(names), chance.choice(plain))]
    if chance.random() < 0.3:
        found.append(("odd-bin", chance.randbytes(30)))
    return tuple(found)


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])
