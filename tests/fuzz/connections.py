"""Broken HTTP/2 connections over plain sockets: what no client library would send."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
READ_SECONDS = 0.03
HOLD_SECONDS = 0.5
CONNECT_SECONDS = 10.0


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that is written out and not indexed."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


PATH = b"/debt_mgmt.v1.MarginService/GetMarginStatus"
CALL = b"".join(
    literal(*field)
    for field in [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", PATH),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
)
OPEN = PREFACE + frame(SETTINGS)


def begun(stream: int = 1) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, CALL)


def no_preface(chance: random.Random) -> bytes:
    return chance.choice(
        [
            chance.randbytes(chance.randint(1, 400)),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(100),
            PREFACE[: chance.randint(0, 23)],
            PREFACE + PREFACE,
            b"",
        ]
    )


def random_frames(chance: random.Random) -> bytes:
    made = [
        frame(
            chance.randrange(14),
            chance.randrange(256),
            chance.choice([0, 1, 2, 3, 2**31 - 1, 2**32 - 1]),
            chance.randbytes(chance.choice([0, 1, 4, 8, 50, 300])),
            chance.choice([None, None, None, 0, 5, 16_385, 2**24 - 1]),
        )
        for _ in range(chance.randint(1, 40))
    ]
    return OPEN + b"".join(made)


def half_open(chance: random.Random) -> bytes:
    return chance.choice([b"", PREFACE, OPEN, OPEN + begun(), OPEN + begun() + frame(DATA, 0, 1, b"\x00\x00")])


def settings_flood(chance: random.Random) -> bytes:
    setting = struct.pack(">HI", chance.randrange(1, 7), chance.choice([0, 1, 2**31 - 1, 2**32 - 1]))
    return OPEN + frame(SETTINGS, 0, 0, chance.choice([b"", setting])) * 2_000


def ping_flood(chance: random.Random) -> bytes:
    return OPEN + frame(PING, 0, 0, chance.randbytes(8)) * 2_000


def reset_flood(chance: random.Random) -> bytes:
    """Calls that are begun and reset at once."""
    reset = struct.pack(">I", 8)
    return OPEN + b"".join(begun(number) + frame(RST, 0, number, reset) for number in range(1, 401, 2))


def endless_headers(chance: random.Random) -> bytes:
    """Header blocks that never end."""
    more = frame(CONTINUATION, 0, 1, literal(b"x-more", b"y" * 100) * 50)
    return OPEN + frame(HEADERS, 0, 1, CALL) + more * chance.randint(1, 60)


def broken_compression(chance: random.Random) -> bytes:
    return OPEN + frame(HEADERS, END_HEADERS, 1, chance.randbytes(chance.randint(1, 200)))


def broken_message(chance: random.Random) -> bytes:
    """A call that announces more, or other, than it sends."""
    announced = struct.pack(">BI", chance.choice([0, 1, 77]), chance.choice([0, 5, 2**20, 2**31, 2**32 - 1]))
    return OPEN + begun() + frame(DATA, chance.choice([0, END_STREAM]), 1, announced + chance.randbytes(50))


def many_calls(chance: random.Random) -> bytes:
    """Calls that never say what they ask."""
    return OPEN + b"".join(begun(number) for number in range(1, 301, 2))


def windows(chance: random.Random) -> bytes:
    grown = frame(WINDOW, 0, chance.choice([0, 1]), struct.pack(">I", chance.choice([0, 1, 2**31 - 1])))
    return OPEN + begun() + grown * chance.randint(1, 200) + frame(DATA, 0, 1) * 200


def out_of_place(chance: random.Random) -> bytes:
    """Frames of a stream that is over or never was, priorities in a circle, promises of a client, a goodbye."""
    some = [
        frame(DATA, 0, 99, b"late"),
        frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + CALL),
        frame(PRIORITY, 0, 3, struct.pack(">IB", 3, 255)),
        frame(GOAWAY, 0, 0, struct.pack(">II", 0, chance.randrange(20)) + b"bye"),
        frame(SETTINGS, ACK, 0, b"not empty"),
        frame(HEADERS, END_HEADERS | END_STREAM, 2, CALL),
        frame(CONTINUATION, END_HEADERS, 5, CALL),
        begun(),
    ]
    chance.shuffle(some)
    return OPEN + b"".join(some)


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    one.__name__: one
    for one in (
        no_preface,
        random_frames,
        half_open,
        settings_flood,
        ping_flood,
        reset_flood,
        endless_headers,
        broken_compression,
        broken_message,
        many_calls,
        windows,
        out_of_place,
    )
}


async def break_in(port: int, seed: int, number: int) -> bytes:
    """One broken connection: what the service said to it. Raises OSError or TimeoutError if it is not accepted."""
    chance = random.Random(f"{seed}/connection/{number}")
    kind = list(KINDS)[number % len(KINDS)]
    async with asyncio.timeout(CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(OSError, TimeoutError):  # the service may hang up while we write
            async with asyncio.timeout(HOLD_SECONDS):
                writer.write(KINDS[kind](chance))
                await writer.drain()
        if kind == "half_open" and chance.random() < 0.2:
            await asyncio.sleep(HOLD_SECONDS)
        return await heard(reader)
    finally:
        if chance.random() < 0.3:  # hang up with a reset
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def heard(reader: asyncio.StreamReader) -> bytes:
    said = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(READ_SECONDS):
            while len(said) < 65_536 and (more := await reader.read(16_384)):
                said += more
    return said
