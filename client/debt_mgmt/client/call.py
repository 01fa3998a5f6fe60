"""One call of the service: what is sent, how its answer is read, how long it may take, whether it may be repeated."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from debt_mgmt.client.answers import Answer, Revision
from debt_mgmt.client.errors import MalformedAnswer
from debt_mgmt.client.retry import Patience
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import read

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
T = TypeVar("T")
PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A call that can be sent once or again; `send` is the stub's method, blocking or not."""

    send: Callable[..., Any]
    request: Any
    method: str
    interpret: Callable[[Any], T]
    timeout: Timeout
    patience: Patience
    repeatable: bool = True
    request_id: str | None = None

    def answer(self, response: Any) -> T:
        """What the caller gets. Raises MalformedAnswer where the response breaks the contract."""
        try:
            return self.interpret(response)
        except MalformedAnswer as error:
            error.method, error.request_id = self.method, self.request_id
            raise


def query(
    send: "grpc.UnaryUnaryMultiCallable[Request, Response]",
    request: Request,
    interpret: Callable[[Response], T],
    timeout: Timeout,
    patience: Patience = "read",
) -> Call[T]:
    """A call that changes nothing."""
    method = method_of(request)
    return Call(send=send, request=request, method=method, interpret=interpret, timeout=timeout, patience=patience)


def command(
    send: "grpc.UnaryUnaryMultiCallable[Request, Response]",
    request: Request,
    kind: type[T],
    timeout: Timeout,
    patience: Patience = "command",
) -> Call[T]:
    """A call that changes something. It gets a request id, if it has none, that it keeps when it is repeated."""
    named: Any = request
    named.request_id = named.request_id or str(uuid.uuid4())
    return Call(
        send=send,
        request=request,
        method=method_of(request),
        interpret=whole(kind),
        timeout=timeout,
        patience=patience,
        request_id=named.request_id,
    )


def method_of(request: Message) -> str:
    """The method's name: the contract names each request after its method."""
    return request.DESCRIPTOR.name.removesuffix("Request")


def whole(kind: type[T]) -> Callable[[Message], T]:
    """Reads a response as a `kind`, whose fields are the response's."""
    return lambda response: read(kind, response)


def part(kind: type[T], name: str) -> Callable[[Message], T]:
    """Reads the part `name` of a response as a `kind` that also holds the response's `revision` and `as_of`."""

    def interpret(response: Message) -> T:
        if not response.HasField(name):
            raise MalformedAnswer(f"{response.DESCRIPTOR.full_name}.{name} is missing")
        answer = read(Answer, response)
        return read(kind, getattr(response, name), revision=answer.revision, as_of=answer.as_of)

    return interpret


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list."""

    items: tuple[T, ...]
    revision: Revision
    as_of: datetime
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages(Generic[T]):
    """A list that is read page by page, up to `limit` items."""

    first: Call[Page[T]]
    limit: int | None = None

    def wanted(self, page: Page[T], count: int) -> tuple[T, ...]:
        """The items of `page` that are still within the limit after `count` others."""
        return page.items if self.limit is None else page.items[: max(0, self.limit - count)]

    def after(self, page: Page[T], call: Call[Page[T]], count: int) -> Call[Page[T]] | None:
        """The call of the page after `page`, which `call` gave. None: it was the last, or `count` items are enough."""
        if not page.next_page_token or (self.limit is not None and count >= self.limit):
            return None
        if page.next_page_token == call.request.page_token:
            raise MalformedAnswer(f"{call.method} gave the same page again", method=call.method)
        request = type(call.request)()
        request.CopyFrom(call.request)
        request.page_token = page.next_page_token
        return replace(call, request=request)


def pages(
    send: "grpc.UnaryUnaryMultiCallable[Request, Response]",
    request: Request,
    items: Callable[[Response], Iterable[Message]],
    kind: type[T],
    timeout: Timeout,
    limit: int | None = None,
) -> Pages[T]:
    """A list: the calls that read it, each item as a `kind`. Raises ValueError for a limit that is not above zero."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be above zero, not {limit}")
    sized: Any = request
    sized.page_size = PAGE_SIZE if limit is None else min(limit, PAGE_SIZE)

    def interpret(response: Response) -> Page[T]:
        answer = read(Answer, response)
        token: str = getattr(response, "next_page_token", "")
        found = tuple(read(kind, item) for item in items(response))
        return Page(items=found, revision=answer.revision, as_of=answer.as_of, next_page_token=token)

    return Pages(first=query(send, request, interpret, timeout), limit=limit)


def one_page(
    send: "grpc.UnaryUnaryMultiCallable[Request, Response]",
    request: Request,
    name: str,
    kind: type[T],
    timeout: Timeout,
) -> Pages[T]:
    """A list that comes whole in the field `name`; each item also holds the answer's `revision` and `as_of`."""

    def interpret(response: Response) -> Page[T]:
        at = read(Answer, response)
        found = (read(kind, item, revision=at.revision, as_of=at.as_of) for item in getattr(response, name))
        return Page(items=tuple(found), revision=at.revision, as_of=at.as_of, next_page_token="")

    return Pages(first=query(send, request, interpret, timeout))
