"""HTTP that nobody means: bodies, headers, paths, chunks and connections, made from a seed and a number alone."""

import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format

from tests.fuzz.mutations import DEPTH_MOST, INTEGERS, NUMBERS, ODD, fill
from tests.support.wire import METHODS, request_class

NAMES = sorted(METHODS)
SHORT = ["/api/debt_mgmt/portfolio", "/api/debt_mgmt/margin/status", "/api/debt_mgmt/leverage/set"]
PAGES = ["/", "/health", "/metrics", "/api/debt_mgmt/health"]
VERBS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "G\tET", ""]
HOST = b"Host: 127.0.0.1\r\n"
KIND = b"Content-Type: application/json\r\n"
HUGE = ["9" * 5_000, "1e400", "-1e-400", "0." + "0" * 3_000 + "1", "1e999999999", str(2**64), "-0", "1E+5"]
DEEP = [100, 2_000, 100_000]
PATHS = [
    "/..%2f..%2fetc/passwd", "/%00", "/%ff%fe", "//", "/v1", "/v1/", "/v1/MarginService", "/v1/MarginService/",
    "/v1/No/Such", "/v1/MarginService/CheckOrder/more", "/V1/MarginService/CheckOrder", "*", "http://other/health",
    "/v1/MarginService%2FCheckOrder", "/v1/__class__/__init__", "/?" + "a=b&" * 1_500, "/" + "a" * 9_000, "no-slash",
    "/health?" + "%" * 50, "/api/debt_mgmt/portfolio?account_id=alice&account_id=bob", "/v1/é/ü", "/#", "/;", "/\\",
]  # fmt: skip


def post(path: str, body: bytes, more: bytes = b"", kind: bytes = KIND) -> bytes:
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST + kind + more
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def meant(chance: random.Random, name: str, sanity: float) -> Any:
    """A request of the contract as JSON."""
    message = request_class(name)()
    fill(chance, message, DEPTH_MOST, sanity)
    try:
        return json_format.MessageToDict(message, preserving_proto_field_name=True)
    except (ValueError, json_format.Error):  # times and enums that JSON has no form for
        return {}


def sane_call(chance: random.Random) -> bytes:
    name = chance.choice(NAMES)
    body = json.dumps(meant(chance, name, chance.choice([0.9, 0.99, 1.0])))
    return post(f"/v1/{name}", body.encode())


def odd_value(chance: random.Random, depth: int = 3) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.choice([True, False]),
        lambda: chance.choice(INTEGERS),
        lambda: chance.choice([0.1, 1e300, -1e-300]),
        lambda: chance.choice(NUMBERS),
        lambda: chance.choice(ODD),
        lambda: "\ud800" if chance.random() < 0.5 else "\x7f\x00",
        lambda: [odd_value(chance, depth - 1) for _ in range(chance.randrange(4))] if depth else [],
        lambda: {chance.choice(ODD): odd_value(chance, depth - 1) for _ in range(chance.randrange(4))} if depth else {},
    ]
    return chance.choice(kinds)()


def wrong_types(chance: random.Random) -> bytes:
    name = chance.choice(NAMES)
    body = meant(chance, name, 0.9)
    for field in request_class(name).DESCRIPTOR.fields:
        if chance.random() < 0.4:
            body[chance.choice([field.name, field.json_name])] = odd_value(chance)
    return post(f"/v1/{name}", json.dumps(body).encode())


def huge_numbers(chance: random.Random) -> bytes:
    name = chance.choice(NAMES)
    fields = [field.name for field in request_class(name).DESCRIPTOR.fields] or ["x"]
    members = ",".join(f'"{field}":{chance.choice(HUGE)}' for field in fields)
    return post(f"/v1/{name}", f"{{{members}}}".encode())


def deep(chance: random.Random) -> bytes:
    opened, inside, closed = chance.choice([(b"[", b"", b"]"), (b'{"order":', b"1", b"}"), (b'{"a":[', b"", b"]}")])
    times = chance.choice(DEEP)
    return post(f"/v1/{chance.choice(NAMES)}", opened * times + inside + closed * chance.choice([0, times]))


def damaged_body(chance: random.Random) -> bytes:
    name = chance.choice(NAMES)
    body = bytearray(json.dumps(meant(chance, name, 0.9), ensure_ascii=False).encode())
    for _ in range(chance.randint(1, 5)):
        place = chance.randint(0, len(body))
        body[place:place] = chance.choice(
            [
                b"\xff\xfe",
                b"\x00",
                b"\xed\xa0\x80",
                b'"',
                b"\\",
                b"\\u12",
                b"\xef\xbb\xbf",
                b"NaN",
                b"//",
                b"'",
                b"\xc3",
            ]
        )
    return post(f"/v1/{name}", bytes(body))


def odd_query(chance: random.Random) -> bytes:
    name = chance.choice(NAMES)
    path = chance.choice([f"/v1/{name}", *SHORT, *PAGES])
    fields = [field.name for field in request_class(name).DESCRIPTOR.fields] + ["account_id", "currency", "x"]
    values = ["alice", "1", "true", "%00", "%ff", "%zz", "a" * 3_000, "", "%F0%9F%98%80", "1e9", "%2e%2e"]
    query = "&".join(f"{chance.choice(fields)}={chance.choice(values)}" for _ in range(chance.randrange(6)))
    return f"{chance.choice(VERBS)} {path}?{query} HTTP/1.1\r\n".encode() + HOST + b"\r\n"


def odd_path(chance: random.Random) -> bytes:
    version = chance.choice(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "HTTQ/1.1", ""])
    return f"{chance.choice(VERBS)} {chance.choice(PATHS)} {version}\r\n".encode() + HOST + b"\r\n"


def chunks(chance: random.Random) -> bytes:
    """A body in chunks that are not what they say."""
    size = chance.choice([b"5", b"0", b"-1", b"FFFFFFFFFFFFFFFF", b"zz", b"5;x=y", b" 5", b"0x5", b"5_0", b"", b"+5"])
    end = chance.choice([b"\r\n0\r\n\r\n", b"\r\n", b"0\r\n\r\n", b"", b"\n0\n\n", b"\r\n0\r\nX: y\r\n\r\n"])
    head = f"POST /v1/{chance.choice(NAMES)} HTTP/1.1\r\n".encode() + HOST + KIND
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + size + b'\r\n{"a"' + end


def smuggling(chance: random.Random) -> bytes:
    """Two ways to say where the body ends, and a second request where a careless reader would see one."""
    hidden = b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"
    both = chance.choice(
        [
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            b"Content-Length: 4\r\nContent-Length: 60\r\n",
            b"Content-Length: 4, 60\r\n",
            b"Content-Length: +4\r\n",
            b"Content-Length: 4_0\r\n",
            b"Content-Length : 4\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Length: 0x4\r\n",
            b"Transfer-Encoding: xchunked\r\n",
            b"Transfer-Encoding: chunked, identity\r\n",
            b"Transfer-Encoding:\x0bchunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            b"X: y\r\n Content-Length: 4\r\n",
            b"X: y\nContent-Length: 4\r\n",
            b"X: y\rContent-Length: 4\r\n",
            b"X\x00: y\r\nContent-Length: 4\r\n",
        ]
    )
    head = f"POST /v1/{chance.choice(NAMES)} HTTP/1.1\r\n".encode() + HOST + KIND
    return head + both + b"\r\n" + chance.choice([b"{}  ", b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"]) + hidden


def odd_headers(chance: random.Random) -> bytes:
    """Headers that the service or its library reads, with something else in them; doubled, oversized, too many."""
    odd = [
        b"", b" ", b"\xff\xfe", b"x" * 9_000, b"x" * 7_000, b"NaN", b"-1", b"1e400", b"Bearer", b"Bearer a.b.c",
        b"Basic eDp5", "é".encode(), b"0", b"inf", b"identity", b"*/*;q=9", b"bytes=0-", b"100-continue", b'"', b"1:1",
    ]  # fmt: skip
    names = [
        b"Authorization", b"X-Deadline-Seconds", b"Idempotency-Key", b"Last-Event-ID", b"Content-Type", b"Origin",
        b"debt-mgmt-as-of", b"traceparent", b"Accept-Encoding", b"Expect", b"Host", b"Cookie", b"Range",
        b"Upgrade", b"Connection", b"Content-Encoding", b"X-Forwarded-For", b"X-Odd", b"",
    ]  # fmt: skip
    several = b"".join(b"%b: %b\r\n" % (chance.choice(names), chance.choice(odd)) for _ in range(chance.randint(1, 5)))
    twice = b"Authorization: Bearer one\r\nAuthorization: Bearer two\r\n"
    many = b"".join(b"X-%d: y\r\n" % number for number in range(chance.choice([120, 5_000])))
    more = chance.choice([several, several, several, twice, many])
    name = chance.choice(NAMES)
    if chance.random() < 0.5:
        return post(f"/v1/{name}", json.dumps(meant(chance, name, 0.99)).encode(), more)
    return f"GET {chance.choice([*PAGES, *SHORT])} HTTP/1.1\r\n".encode() + HOST + more + b"\r\n"


def bombs(chance: random.Random) -> bytes:
    """A small body that unpacks to a large one, or that is not packed as it says."""
    large = b'{"note":"' + b"a" * chance.choice([100, 20_000_000]) + b'"}'
    coding, body = chance.choice(
        [
            (b"gzip", gzip.compress(large, 1, mtime=0)),
            (b"deflate", zlib.compress(large, 1)),
            (b"gzip", large[:50]),
            (b"br", b"x"),
        ]
    )
    more = b"Content-Encoding: %b\r\n" % coding
    return post(f"/v1/{chance.choice(NAMES)}", body, more)


def large_body(chance: random.Random) -> bytes:
    size = chance.choice([9_000, 500_000, 1_048_577, 3_000_000])
    body = chance.choice([b'{"note":"' + b"a" * size + b'"}', b"[" + b"1," * (size // 2) + b"1]", b" " * size])
    return post(f"/v1/{chance.choice(NAMES)}", body)


def broken_off(chance: random.Random) -> bytes:
    """A request that stops in the middle, and announces more than it sends."""
    whole = sane_call(chance)
    return whole[: chance.randint(0, len(whole))]


def not_http(chance: random.Random) -> bytes:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    return chance.choice(
        [
            hello + chance.randbytes(500),
            preface,
            chance.randbytes(300),
            b"\r\n" * 500,
            b"GET /\r\n\r\n",
            b"\x00" * 5_000,
        ]
    )


def pipelined(chance: random.Random) -> bytes:
    """Many at once over one connection, a broken one among them."""
    some = [b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"] * chance.randint(2, 60)
    some.insert(chance.randrange(len(some)), chance.choice([sane_call, smuggling, chunks, odd_headers])(chance))
    return b"".join(some)


def streams(chance: random.Random) -> bytes:
    """Streams of events that begin anywhere and that nobody reads to the end."""
    token = chance.choice([b"", b"x", b"1:1", b"\xff", b"A" * 7_000, b"eyJ9", b"AAAA"])
    body = json.dumps(meant(chance, "MarginService/WatchMargin", chance.choice([0.3, 0.9, 1.0])))
    if chance.random() < 0.3:
        head = b"GET /v1/MarginService/WatchMargin?account_ids=alice HTTP/1.1\r\n"
        return head + HOST + b"Last-Event-ID: " + token + b"\r\n\r\n"
    return post("/v1/MarginService/WatchMargin", body.encode(), b"Last-Event-ID: " + token + b"\r\n")


def short_paths(chance: random.Random) -> bytes:
    odd = json.dumps(
        {
            "symbol": chance.choice(["BTCUSDT", odd_value(chance)]),
            "leverage": chance.choice([3.0, "3", odd_value(chance)]),
            "broker": chance.choice(["bybit", "paper", odd_value(chance)]),
            "account_id": chance.choice(["alice", "nobody", odd_value(chance)]),
        }
    )
    return post(chance.choice(SHORT), odd.encode())


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    one.__name__: one
    for one in (
        sane_call, wrong_types, huge_numbers, deep, damaged_body, odd_query, odd_path, chunks, smuggling, odd_headers,
        bombs, large_body, broken_off, not_http, pipelined, streams, short_paths,
    )
}  # fmt: skip

SHARES = {
    "bombs": 0.2,
    "large_body": 0.1,
    "deep": 0.3,
    "broken_off": 0.3,
    "streams": 0.4,
    "not_http": 0.3,
    "chunks": 0.6,
}
"""Of the kinds that are slow to make or to answer there are fewer."""
WEIGHTS = [SHARES.get(name, 1.0) for name in KINDS]


def http_attempt(seed: int, number: int) -> tuple[str, bytes]:
    """Its kind, and what is sent."""
    chance = random.Random(f"{seed}/http/{number}")
    kind = chance.choices(list(KINDS), WEIGHTS)[0]
    return kind, KINDS[kind](chance)
