"""Two ways to lead the unmodified ccxt client to a simulator: rewritten addresses, or its own and a resolver."""

import ipaddress
import re
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.venues.venue import VenueSimulator

ADDRESS = re.compile(r"^(?P<scheme>https|wss|http|ws)://[^/]+")


class Way(StrEnum):
    """How a client finds the simulator."""

    URLS = "urls"
    RESOLVER = "resolver"


def led_to(addresses: Any, port: int) -> Any:
    """Addresses of a client, with the loopback in place of every host and no TLS."""
    if isinstance(addresses, dict):
        return {name: led_to(address, port) for name, address in addresses.items()}
    if isinstance(addresses, str):
        plain = {"https": "http", "wss": "ws"}
        return ADDRESS.sub(lambda found: f"{plain.get(found['scheme'], found['scheme'])}://127.0.0.1:{port}", addresses)
    return addresses


class Loopback(AbstractResolver):
    """Every name is at one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(hostname=host, host="127.0.0.1", port=self.port, family=socket.AF_INET, proto=0, flags=0)
        return [found]

    async def close(self) -> None:
        """Nothing is kept."""


@cache
def contexts(hosts: tuple[str, ...]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of these hosts shows, and what a client needs to believe it."""
    now = datetime.now(UTC)
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated venues")])
    names = [x509.DNSName(host) for host in hosts]
    span = {"begin": now - timedelta(days=1), "end": now + timedelta(days=1)}

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(span["begin"])
            .not_valid_after(span["end"])
        )

    root = (
        builder(authority, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),
            critical=True,
        )
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]), server_key)
        .add_extension(
            x509.SubjectAlternativeName([*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(
            server_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        server.load_cert_chain(chain)
    client = ssl.create_default_context(cadata=root.public_bytes(serialization.Encoding.PEM).decode())
    return server, client


@asynccontextmanager
async def client_of(exchange: Any, venue: VenueSimulator, way: Way = Way.URLS, **config: Any) -> AsyncIterator[Any]:
    """A client of the class `exchange` (of ccxt.pro) that talks to a simulator which `reached` has started."""
    config = {"apiKey": venue.key, "secret": venue.secret, "password": venue.passphrase, "number": str} | config
    session = None
    if way is Way.RESOLVER:
        connector = aiohttp.TCPConnector(resolver=Loopback(venue.secure_port), ssl=contexts(venue.hosts)[1])
        session = aiohttp.ClientSession(connector=connector)
        config["session"] = session
    client = exchange(config)
    if way is Way.URLS:
        client.urls["api"] = led_to(client.urls["api"], venue.port)
    try:
        yield client
    finally:
        await client.close()
        if session is not None:
            await session.close()


@asynccontextmanager
async def reached(exchange: Any, venue: VenueSimulator, way: Way = Way.URLS, **config: Any) -> AsyncIterator[Any]:
    """Starts a simulator, and a client of it."""
    await venue.start(tls=contexts(venue.hosts)[0] if way is Way.RESOLVER else None)
    try:
        async with client_of(exchange, venue, way, **config) as client:
            yield client
    finally:
        await venue.stop()
