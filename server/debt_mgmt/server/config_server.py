"""Settings of the server: where it listens, who may call it and how much, and what that must not leave open."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from debt_mgmt.server.config_sources import Key, Section

AuthMode = Literal["off", "tokens", "jwt", "both"]
ADDRESS = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}"


class TlsSection(Section, frozen=True, kw_only=True):
    """Encryption. The files are read again when they change; broken ones are told and the last good ones stay."""

    certificate: Annotated[
        Path | None, Key("The service's certificate, with those that vouch for it; null: no encryption.", "PEM file")
    ] = None
    key: Annotated[Path | None, Key("Its private key.", "PEM file")] = None
    client_ca: Annotated[
        Path | None,
        Key("Clients must show a certificate that one of these vouches for; null: they need none.", "PEM file"),
    ] = None


class JwtSection(Section, frozen=True, kw_only=True):
    """Signed tokens of somebody else's making: EdDSA (Ed25519), RS256 or HS256, as the key says and never the token.

    Claims: `sub` is the name, `role` one of viewer, trader, risk and admin, `accounts` a list of account ids or "*" for
    every account, `exp` when it ends, `aud` the audience; all are required.
    """

    keys: Annotated[
        Path | None,
        Key(
            "A public key in PEM, a JWKS file, or a file with a secret of 32 bytes at least; read again when changed.",
            "path",
        ),
    ] = None
    audience: Annotated[str, Key("What `aud` must hold.")] = "debt-mgmt"
    issuer: Annotated[str | None, Key("What `iss` must be; null: anything.")] = None
    leeway_seconds: Annotated[
        float, Key("How far the clock of whoever signs may be off.", "seconds", least=0, most=300)
    ] = 10.0


class QuotaSection(Section, frozen=True, kw_only=True):
    """What one token may ask for; null is any number. Checks, and whatever takes risk away, are never limited."""

    viewer_lists_per_minute: Annotated[
        int | None, Key("Lists, for tokens of the role viewer.", "calls a minute", least=1, most=100_000)
    ] = 60
    leverage_changes_per_day: Annotated[
        int | None, Key("Changes of leverage or margin mode.", "calls a day", least=1, most=100_000)
    ] = 20
    openings_per_hour: Annotated[
        int | None, Key("Orders and reservations that add risk.", "calls an hour", least=1, most=10_000_000)
    ] = 50
    streams: Annotated[int | None, Key("Streams that are open at the same time.", "streams", least=1)] = 100


class TracesSection(Section, frozen=True, kw_only=True):
    """Traces of calls with OpenTelemetry: from the caller's span (W3C traceparent) to the append to the journal."""

    exporter: Annotated[
        Literal["off", "console", "otlp"],
        Key("Where spans go: nowhere, to stderr, or to a collector by OTLP over HTTP."),
    ] = "off"
    endpoint: Annotated[str, Key("Where the collector takes OTLP over HTTP.", "URL", pattern=r"https?://[^\s]+")] = (
        "http://127.0.0.1:4318/v1/traces"
    )
    sampled_share: Annotated[
        float,
        Key("Share of the calls that are traced; a caller that says whether it samples is followed.", least=0, most=1),
    ] = 0.01


class ServerSection(Section, frozen=True, kw_only=True):
    """The gRPC server, its metrics and its log."""

    address: Annotated[str, Key("Where gRPC listens; port 0 takes a free one.", "host:port", pattern=ADDRESS)] = (
        "127.0.0.1:50051"
    )
    metrics_port: Annotated[
        int,
        Key(
            "Where HTTP listens, on the same host: /metrics, /health and the API as JSON; 0 takes a free one.",
            "port",
            least=0,
            most=65535,
        ),
    ] = 9090
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Key("The least severe messages logged.")] = (
        "INFO"
    )
    log_format: Annotated[Literal["text", "json"], Key("text to read, json to collect.")] = "text"
    auth: Annotated[
        AuthMode,
        Key(
            "How callers prove who they are: tokens of the service's own, signed ones (jwt), both, or off: then every "
            "caller on this machine is an administrator."
        ),
    ] = "off"
    admin_token_file: Annotated[
        Path | None,
        Key(
            "Where the first administrator's token is left, readable by the service's user only; null: admin.token in "
            "database.data_directory.",
            "path",
        ),
    ] = None
    insecure: Annotated[
        bool,
        Key("Allow an address that other machines reach, though calls are not both encrypted and authenticated."),
    ] = False
    reflection: Annotated[bool, Key("Tell anyone who asks what services and methods there are.")] = True
    tls: TlsSection = TlsSection()
    jwt: JwtSection = JwtSection()
    quotas: QuotaSection = QuotaSection()
    traces: TracesSection = TracesSection()
    drain_seconds: Annotated[
        float, Key("How long running calls may take to finish once the service is told to stop.", "seconds", least=0)
    ] = 5.0
    max_batch: Annotated[int, Key("Items in one batch request.", "items", least=1, most=10_000)] = 500
    max_message_bytes: Annotated[int, Key("Largest request that is read.", "bytes", least=65_536, most=67_108_864)] = (
        4_194_304
    )
    default_deadline_seconds: Annotated[float, Key("Deadline of a unary call without one.", "seconds", above=0)] = 30.0

    @property
    def host(self) -> str:
        """The host of the address, without the brackets of IPv6."""
        return self.address.rpartition(":")[0].strip("[]")

    def admin_token_place(self, data_directory: Path) -> Path:
        """Where the first administrator's token is left."""
        return self.admin_token_file or data_directory / "admin.token"


def security_contradictions(
    host: str, values: Mapping[str, Any], named: Callable[[str], str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What would leave the service open, or look protected and not be: the settings concerned, and the problem."""
    auth, keys = "server.auth", "server.jwt.keys"
    certificate, key, clients = "server.tls.certificate", "server.tls.key", "server.tls.client_ca"
    signed = values[auth] in ("jwt", "both")
    if signed and values[keys] is None:
        yield (auth, keys), f"{named(auth)} needs {keys}: without a key no signed token can be checked"
    if not signed and values[keys] is not None:
        yield (auth, keys), f"{named(keys)} has no effect with {named(auth)}: set it to jwt or both"
    if (values[certificate] is None) != (values[key] is None):
        yield (certificate, key), f"{named(certificate)} and {named(key)} go together: give both or none"
    if values[clients] is not None and values[certificate] is None:
        yield (certificate, clients), f"{named(clients)} has no effect without {certificate}"
    address, insecure = "server.address", "server.insecure"
    if values[insecure] or is_loopback(host):
        return
    missing = []
    if values[certificate] is None:
        missing.append("encrypted: set server.tls.certificate and server.tls.key")
    if values[auth] == "off":
        missing.append("authenticated: set server.auth")
    if missing:
        yield (
            (address, insecure, auth, certificate),
            f"{named(address)} is reached by other machines, and calls are not {', and not '.join(missing)}. Or listen "
            "on 127.0.0.1, or set server.insecure (--insecure) where the network is yours alone",
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
