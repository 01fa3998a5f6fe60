"""The connection: where the service is, what every call carries, and the stubs that speak over it."""

import importlib.metadata
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from debt_mgmt.v1.access_service_pb2_grpc import AccessServiceStub
from debt_mgmt.v1.account_service_pb2_grpc import AccountServiceStub
from debt_mgmt.v1.audit_service_pb2_grpc import AuditServiceStub
from debt_mgmt.v1.debt_service_pb2_grpc import DebtServiceStub
from debt_mgmt.v1.fund_service_pb2_grpc import FundServiceStub
from debt_mgmt.v1.leverage_service_pb2_grpc import LeverageServiceStub
from debt_mgmt.v1.margin_service_pb2_grpc import MarginServiceStub
from debt_mgmt.v1.market_service_pb2_grpc import MarketServiceStub
from debt_mgmt.v1.risk_service_pb2_grpc import RiskServiceStub

if TYPE_CHECKING:
    from debt_mgmt.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from debt_mgmt.v1.account_service_pb2_grpc import AccountServiceAsyncStub
    from debt_mgmt.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from debt_mgmt.v1.debt_service_pb2_grpc import DebtServiceAsyncStub
    from debt_mgmt.v1.fund_service_pb2_grpc import FundServiceAsyncStub
    from debt_mgmt.v1.leverage_service_pb2_grpc import LeverageServiceAsyncStub
    from debt_mgmt.v1.margin_service_pb2_grpc import MarginServiceAsyncStub
    from debt_mgmt.v1.market_service_pb2_grpc import MarketServiceAsyncStub
    from debt_mgmt.v1.risk_service_pb2_grpc import RiskServiceAsyncStub

DEFAULT_TARGET = "127.0.0.1:50051"
TARGET_VARIABLE = "DEBT_MGMT_TARGET"
TOKEN_VARIABLE = "DEBT_MGMT_TOKEN"
TOKEN_FILE_VARIABLE = "DEBT_MGMT_TOKEN_FILE"
CA_VARIABLE = "DEBT_MGMT_TLS_CA"
CERTIFICATE_VARIABLE = "DEBT_MGMT_TLS_CERTIFICATE"
KEY_VARIABLE = "DEBT_MGMT_TLS_KEY"


def version() -> str:
    """The installed version of the SDK. "0" where it runs from a folder that was not installed."""
    try:
        return importlib.metadata.version("debt-mgmt")
    except importlib.metadata.PackageNotFoundError:
        return "0"


CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.primary_user_agent", f"debt-mgmt-python/{version()}"),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
"""A dead peer is noticed in 40 seconds; a service that comes back is found within 5."""

STREAM_OPTIONS: tuple[tuple[str, int | str], ...] = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384))
"""Without them grpc buffers megabytes for a slow reader: updates an hour old. With them it is about 24 KiB."""


@dataclass(frozen=True, slots=True)
class Raw:
    """The generated stubs, by service: whatever the client has no method for."""

    access: AccessServiceStub
    account: AccountServiceStub
    audit: AuditServiceStub
    debt: DebtServiceStub
    fund: FundServiceStub
    leverage: LeverageServiceStub
    margin: MarginServiceStub
    market: MarketServiceStub
    risk: RiskServiceStub

    @classmethod
    def over(cls, channel: Any) -> Self:
        """The stubs on a channel; on one of grpc.aio their methods return awaitable calls."""
        return cls(
            access=AccessServiceStub(channel),
            account=AccountServiceStub(channel),
            audit=AuditServiceStub(channel),
            debt=DebtServiceStub(channel),
            fund=FundServiceStub(channel),
            leverage=LeverageServiceStub(channel),
            margin=MarginServiceStub(channel),
            market=MarketServiceStub(channel),
            risk=RiskServiceStub(channel),
        )


@dataclass(frozen=True, slots=True)
class AsyncRaw(Raw):
    """The generated stubs on a channel of grpc.aio."""

    if TYPE_CHECKING:
        access: AccessServiceAsyncStub
        account: AccountServiceAsyncStub
        audit: AuditServiceAsyncStub
        debt: DebtServiceAsyncStub
        fund: FundServiceAsyncStub
        leverage: LeverageServiceAsyncStub
        margin: MarginServiceAsyncStub
        market: MarketServiceAsyncStub
        risk: RiskServiceAsyncStub


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the service is and how it is spoken to. Nothing is connected before the first call.

    Raises ValueError where the token would travel in the clear: with neither credentials nor `insecure`, to a target
    that is not this machine.
    """

    target: str = DEFAULT_TARGET
    token: str | None = None
    credentials: grpc.ChannelCredentials | None = None
    insecure: bool = False
    options: Mapping[str, int | str] | None = None

    def __post_init__(self) -> None:
        if self.token and self.credentials is None and not self.insecure and not is_local(self.target):
            raise ValueError(
                f"the token would travel unencrypted to {self.target}: give credentials, such as "
                "grpc.ssl_channel_credentials(), or insecure=True where the network is yours alone"
            )

    def __repr__(self) -> str:
        return f"{self.target}{'' if self.credentials is None else ' (TLS)'}"

    def open(self, *, streams: bool = False) -> Any:
        """A blocking channel; for long streams with little ahead of the reader."""
        if self.credentials is None:
            return grpc.insecure_channel(self.target, self.arguments(streams))
        return grpc.secure_channel(self.target, self.credentials, self.arguments(streams))

    def open_async(self, *, streams: bool = False) -> Any:
        """The same of grpc.aio. It belongs to the event loop that runs now."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, self.arguments(streams))
        return grpc.aio.secure_channel(self.target, self.credentials, self.arguments(streams))

    def arguments(self, streams: bool) -> list[tuple[str, int | str]]:
        """The channel's options; a proxy of the environment is not asked for a service on this machine."""
        near = (("grpc.enable_http_proxy", 0),) if is_local(self.target) else ()
        own = (self.options or {}).items()
        return [*CHANNEL_OPTIONS, *near, *(STREAM_OPTIONS if streams else ()), *own]

    def signed(self, channel: Any) -> Any:
        """The channel, or one whose every call carries the token."""
        return SignedChannel(channel, self.token) if self.token else channel


def is_local(target: str) -> bool:
    """Whether a gRPC target is this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:", "ipv4:", "ipv6:", "passthrough:"):
        target = target.removeprefix(scheme)
    host = target.lstrip("/").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_credentials(
    ca: str | Path | None = None, certificate: str | Path | None = None, key: str | Path | None = None
) -> grpc.ChannelCredentials:
    """Credentials of an encrypted connection, from PEM files.

    `ca` vouches for the service; None: whom this machine trusts. `certificate` and `key` are what a service with mutual
    TLS asks for. Raises ValueError where one of the two is missing, OSError where a file can't be read.
    """
    if (certificate is None) != (key is None):
        raise ValueError("a client certificate and its key go together: give both or none")
    return grpc.ssl_channel_credentials(
        root_certificates=None if ca is None else Path(ca).read_bytes(),
        private_key=None if key is None else Path(key).read_bytes(),
        certificate_chain=None if certificate is None else Path(certificate).read_bytes(),
    )


def token_in(environment: Mapping[str, str]) -> str | None:
    """The token that the environment gives, or names a file of. Raises OSError where the file can't be read."""
    if token := environment.get(TOKEN_VARIABLE):
        return token
    file = environment.get(TOKEN_FILE_VARIABLE)
    return Path(file).expanduser().read_text().strip() or None if file else None


def credentials_in(environment: Mapping[str, str]) -> grpc.ChannelCredentials | None:
    """Credentials from the PEM files that the environment names; None, which is no encryption, where it names none."""
    named = [environment.get(name) or None for name in (CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE)]
    return tls_credentials(*named) if any(named) else None


class SignedChannel:
    """A channel, blocking or of grpc.aio, whose every call carries the token as `authorization`."""

    def __init__(self, channel: Any, token: str) -> None:
        self._channel = channel
        self._authorization = ("authorization", f"Bearer {token}")

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._channel, name)
        if name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            return lambda *args, **kwargs: SignedMethod(attribute(*args, **kwargs), self._authorization)
        return attribute


class SignedMethod:
    """A method of a stub that adds the authorization to what the caller gives."""

    def __init__(self, method: Any, authorization: tuple[str, str]) -> None:
        self._authorization = authorization
        self._send: Callable[..., Any] = self._adding(method)
        for name in ("with_call", "future"):
            if hasattr(method, name):
                setattr(self, name, self._adding(getattr(method, name)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._send(*args, **kwargs)

    def _adding(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def add(request: Any = None, timeout: float | None = None, metadata: Any = None, **kwargs: Any) -> Any:
            return send(request, timeout=timeout, metadata=(*(metadata or ()), self._authorization), **kwargs)

        return add
