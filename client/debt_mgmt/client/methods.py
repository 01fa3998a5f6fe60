"""How a method of the service becomes a method of the clients.

A method is written once, as a function that builds a Call or Pages. `unary`, `listing` and `history` turn it into a
coroutine (or an asynchronous iterator) on MarginClient and into a plain method (or an iterator) on SyncMarginClient,
with the same parameters and documentation, for the type checker as for `help()`.
"""

import asyncio
import functools
import inspect
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from types import GenericAlias, MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, get_args, overload

import grpc

from debt_mgmt.client.answers import Listing
from debt_mgmt.client.as_of import looking_back
from debt_mgmt.client.call import Call, Page, Pages
from debt_mgmt.client.channel import (
    DEFAULT_TARGET,
    TARGET_VARIABLE,
    AsyncRaw,
    Connection,
    Raw,
    credentials_in,
    token_in,
)
from debt_mgmt.client.errors import error_from
from debt_mgmt.client.retry import NEVER, Attempts, RetryPolicy, Timeouts

P = ParamSpec("P")
T = TypeVar("T")


class Methods:
    """What the methods of a service are written on: the stubs."""

    @property
    def raw(self) -> Raw:
        """The generated stubs."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Link:
    """An open channel and the stubs on it."""

    channel: Any
    stubs: Any


class Caller(Methods):
    """A client: where it calls, how long calls may take and when they are repeated."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
        timeouts: Timeouts = Timeouts(),  # noqa: B008
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008
        options: Mapping[str, int | str] | None = None,
    ) -> None:
        """Nothing is connected before the first call.

        `token` is sent with each call; without `credentials` (TLS, such as grpc.ssl_channel_credentials()) only to this
        machine, unless `insecure` says that the network is yours alone. `options` are gRPC channel options over the
        SDK's own.
        """
        self.connection = Connection(
            target=target, token=token, credentials=credentials, insecure=insecure, options=options
        )
        self.timeouts = timeouts
        self.retries = retries
        self._links: dict[bool, Link] = {}
        self._linking = threading.Lock()
        self._closed = False
        self._watches: weakref.WeakSet[Any] = weakref.WeakSet()

    @classmethod
    def from_env(
        cls,
        *,
        target: str | None = None,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
        timeouts: Timeouts = Timeouts(),  # noqa: B008
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008
        options: Mapping[str, int | str] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """A client as the environment says, unless it is given.

        DEBT_MGMT_TARGET, DEBT_MGMT_TOKEN or DEBT_MGMT_TOKEN_FILE, and, for an encrypted connection, DEBT_MGMT_TLS_CA
        and perhaps DEBT_MGMT_TLS_CERTIFICATE with DEBT_MGMT_TLS_KEY. Raises OSError where a file can't be read.
        """
        return cls(
            target or environment.get(TARGET_VARIABLE) or DEFAULT_TARGET,
            token=token or token_in(environment),
            credentials=credentials or credentials_in(environment),
            insecure=insecure,
            timeouts=timeouts,
            retries=retries,
            options=options,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection!r})"

    def _open(self, streams: bool) -> Link:
        """A new channel and its stubs."""
        raise NotImplementedError

    def _link(self, *, streams: bool = False) -> Link:
        """The channel for calls, or the one for long streams; opened when it is first needed."""
        with self._linking:
            if self._closed:
                raise RuntimeError("the client is closed")
            if streams not in self._links:
                self._links[streams] = self._open(streams)
            return self._links[streams]

    def _unlink(self) -> list[Any]:
        """The channels that are to be closed. The client makes no more."""
        with self._linking:
            self._closed = True
            links, self._links = self._links, {}
        return [link.channel for link in links.values()]

    def _attempts(self, call: Call[Any]) -> Attempts:
        policy = self.retries if call.repeatable else NEVER
        return Attempts(policy, call.timeout, self.timeouts.of(call.patience), time.monotonic())


class AsyncCaller(Caller):
    """Sends calls without blocking."""

    @property
    def raw(self) -> AsyncRaw:
        """The generated stubs, for what the client has no method for. They raise grpc.RpcError and repeat nothing."""
        stubs: AsyncRaw = self._link().stubs
        return stubs

    def _open(self, streams: bool) -> Link:
        channel = self.connection.open_async(streams=streams)
        return Link(channel, AsyncRaw.over(self.connection.signed(channel)))

    async def _perform(self, call: Call[T]) -> T:
        """Sends a call, and again where that is safe, until it is answered. Raises DebtMgmtError."""
        attempts = self._attempts(call)
        while True:
            try:
                response = await call.send(call.request, timeout=attempts.remaining(time.monotonic()), **looking_back())
            except grpc.RpcError as failure:
                error = error_from(failure, call.method, call.request_id)
                pause = attempts.pause_after(error, time.monotonic())
                if pause is None:
                    raise error from failure
                await asyncio.sleep(pause)
            else:
                return call.answer(response)

    async def _collect(self, pages: Pages[T]) -> Listing[T]:
        """The whole list."""
        call: Call[Page[T]] | None = pages.first
        read: list[Page[T]] = []
        while call is not None:
            page = await self._perform(call)
            read.append(page)
            call = pages.after(page, call, 0)
        return joined(read)

    async def _walk(self, pages: Pages[T]) -> AsyncIterator[T]:
        """The list's items, each page read when it is needed."""
        call: Call[Page[T]] | None = pages.first
        count = 0
        while call is not None:
            page = await self._perform(call)
            for item in pages.wanted(page, count):
                yield item
            count += len(page.items)
            call = pages.after(page, call, count)


class BlockingCaller(Caller):
    """Sends calls and waits for their answers."""

    @property
    def raw(self) -> Raw:
        """The generated stubs, for what the client has no method for. They raise grpc.RpcError and repeat nothing."""
        stubs: Raw = self._link().stubs
        return stubs

    def _open(self, streams: bool) -> Link:
        channel = self.connection.open(streams=streams)
        return Link(channel, Raw.over(self.connection.signed(channel)))

    def _perform(self, call: Call[T]) -> T:
        """Sends a call, and again where that is safe, until it is answered. Raises DebtMgmtError."""
        attempts = self._attempts(call)
        while True:
            try:
                response = call.send(call.request, timeout=attempts.remaining(time.monotonic()), **looking_back())
            except grpc.RpcError as failure:
                error = error_from(failure, call.method, call.request_id)
                pause = attempts.pause_after(error, time.monotonic())
                if pause is None:
                    raise error from failure
                time.sleep(pause)
            else:
                return call.answer(response)

    def _collect(self, pages: Pages[T]) -> Listing[T]:
        """The whole list."""
        call: Call[Page[T]] | None = pages.first
        read: list[Page[T]] = []
        while call is not None:
            page = self._perform(call)
            read.append(page)
            call = pages.after(page, call, 0)
        return joined(read)

    def _walk(self, pages: Pages[T]) -> Iterator[T]:
        """The list's items, each page read when it is needed."""
        call: Call[Page[T]] | None = pages.first
        count = 0
        while call is not None:
            page = self._perform(call)
            yield from pages.wanted(page, count)
            count += len(page.items)
            call = pages.after(page, call, count)


def joined(read: list[Page[T]]) -> Listing[T]:
    items = (item for page in read for item in page.items)
    return Listing(items, read[0].revision, read[0].as_of)


class ServiceMethod(Generic[P, T]):
    """A method as it is written, and what the two clients show of it."""

    def __init__(self, build: Any, wait: Any, block: Any, returns: Any, returns_blocking: Any) -> None:
        self._async = dressed(wait, build, returns)
        self._blocking = dressed(block, build, returns_blocking)

    def function(self, client: object, owner: type) -> Any:
        function = self._async if issubclass(owner, AsyncCaller) else self._blocking
        return function if client is None else MethodType(function, client)


def dressed(function: Any, build: Any, returns: Any) -> Any:
    """The function with the name, the documentation and the parameters of `build`."""
    functools.update_wrapper(function, build)
    function.__signature__ = inspect.signature(build).replace(return_annotation=returns)
    return function


def item_of(build: Callable[..., Any]) -> Any:
    """The T of the Call[T] or Pages[T] that a method builds."""
    (item,) = get_args(inspect.signature(build).return_annotation)
    return item


class UnaryMethod(ServiceMethod[P, T]):
    """One request, one answer."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[T]]) -> None:
        async def wait(client: AsyncCaller, *args: P.args, **kwargs: P.kwargs) -> T:
            return await client._perform(build(client, *args, **kwargs))

        def block(client: BlockingCaller, *args: P.args, **kwargs: P.kwargs) -> T:
            return client._perform(build(client, *args, **kwargs))

        super().__init__(build, wait, block, item_of(build), item_of(build))

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncCaller, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: BlockingCaller, owner: type) -> Callable[P, T]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return self.function(client, owner)


class ListingMethod(ServiceMethod[P, T]):
    """A list that is read whole."""

    def __init__(self, build: Callable[Concatenate[Any, P], Pages[T]]) -> None:
        async def wait(client: AsyncCaller, *args: P.args, **kwargs: P.kwargs) -> Listing[T]:
            return await client._collect(build(client, *args, **kwargs))

        def block(client: BlockingCaller, *args: P.args, **kwargs: P.kwargs) -> Listing[T]:
            return client._collect(build(client, *args, **kwargs))

        returns = GenericAlias(Listing, item_of(build))
        super().__init__(build, wait, block, returns, returns)

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncCaller, owner: type) -> Callable[P, Coroutine[Any, Any, Listing[T]]]: ...
    @overload
    def __get__(self, client: BlockingCaller, owner: type) -> Callable[P, Listing[T]]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return self.function(client, owner)


class HistoryMethod(ServiceMethod[P, T]):
    """A list without end, read while it is walked."""

    def __init__(self, build: Callable[Concatenate[Any, P], Pages[T]]) -> None:
        def wait(client: AsyncCaller, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
            return client._walk(build(client, *args, **kwargs))

        def block(client: BlockingCaller, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            return client._walk(build(client, *args, **kwargs))

        item = item_of(build)
        super().__init__(build, wait, block, GenericAlias(AsyncIterator, item), GenericAlias(Iterator, item))

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncCaller, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: BlockingCaller, owner: type) -> Callable[P, Iterator[T]]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return self.function(client, owner)


def unary(build: Callable[Concatenate[Any, P], Call[T]]) -> UnaryMethod[P, T]:
    """A method that is awaited on MarginClient, and waits on SyncMarginClient."""
    return UnaryMethod(build)


def listing(build: Callable[Concatenate[Any, P], Pages[T]]) -> ListingMethod[P, T]:
    """The same for a list, of which every page is read."""
    return ListingMethod(build)


def history(build: Callable[Concatenate[Any, P], Pages[T]]) -> HistoryMethod[P, T]:
    """A method to iterate over: `async for` on MarginClient, `for` on SyncMarginClient."""
    return HistoryMethod(build)
