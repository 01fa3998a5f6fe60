"""Short paths for scripts: portfolio, margin status and leverage, with plain JSON numbers of all their digits."""

import uuid
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from debt_mgmt.core import money
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.server.web.answers import answer
from debt_mgmt.server.web.gateway import Gateway, check_verb, name_request
from debt_mgmt.server.web.json_messages import read_json, read_message, read_query
from debt_mgmt.server.web.transport import HttpTransport
from debt_mgmt.v1 import leverage_service_pb2, margin_service_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

REFUSED = 422
"""What the rules refused. Over gRPC that is an answer; a script should not take it for done."""

TEXTS = frozenset(
    {
        "account_id",
        "change_id",
        "currency",
        "message",
        "refusal",
        "refusal_code",
        "source",
        "stale_symbols",
        "subject",
        "symbol",
        "trading_state_reason",
    }
)
"""Fields that are words, whatever stands in them; other texts of these answers are numbers."""


class ShortPaths:
    """Each is one method of the contract, with its account filled in where the caller has only one."""

    def __init__(self, gateway: Gateway, engine: "Engine") -> None:
        self.gateway = gateway
        self.engine = engine

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route("*", "/api/debt_mgmt/portfolio", self.portfolio),
            web.route("*", "/api/debt_mgmt/margin/status", self.margin_status),
            web.route("*", "/api/debt_mgmt/leverage/set", self.set_leverage),
        ]

    async def portfolio(self, request: web.Request) -> web.StreamResponse:
        """Sums over the caller's accounts, or over those of ?account_id=, ?owner= or ?currency=."""
        name = "MarginService/GetPortfolio"

        async def work(transport: HttpTransport) -> web.StreamResponse:
            check_verb(request, ("GET",))
            message = margin_service_pb2.GetPortfolioRequest()
            read_query([pair for pair in request.query.items() if pair[0] != "currency"], message)
            found = await self.gateway.asked(self.gateway.guard.methods[name], message, transport)
            return answer({**plain(chosen(found, request.query.get("currency", ""))), "as_of": plain_time(found.as_of)})

        return await self.gateway.guarded(request, name, work)

    async def margin_status(self, request: web.Request) -> web.StreamResponse:
        """Margin of ?account_id=, or of the caller's only account."""
        name = "MarginService/GetMarginStatus"

        async def work(transport: HttpTransport) -> web.StreamResponse:
            check_verb(request, ("GET",))
            message = margin_service_pb2.GetMarginStatusRequest()
            read_query(request.query.items(), message)
            message.account_id = message.account_id or self.only_account(name, transport)
            found = await self.gateway.asked(self.gateway.guard.methods[name], message, transport)
            return answer({**plain(found.status), "as_of": plain_time(found.as_of)})

        return await self.gateway.guarded(request, name, work)

    async def set_leverage(self, request: web.Request) -> web.StreamResponse:
        """Leverage of a symbol, of the account given or the caller's only one at the broker given."""
        name = "LeverageService/SetLeverage"

        async def work(transport: HttpTransport) -> web.StreamResponse:
            check_verb(request, ("POST",))
            message = leverage_service_pb2.SetLeverageRequest()
            read_message(read_json(await self.gateway.body(request)), message)
            name_request(request, message)
            message.request_id = message.request_id or f"http-{uuid.uuid4().hex}"
            message.account_id = message.account_id or self.only_account(name, transport, message.broker)
            done = await self.gateway.asked(self.gateway.guard.methods[name], message, transport)
            return answer(
                {
                    "accepted": done.accepted,
                    "account_id": message.account_id,
                    "broker": self.engine.account(message.account_id).broker,
                    **plain(done.setting),
                    "violations": plain(done)["violations"],
                    "venue_request": plain(done)["venue_request"],
                    "request_id": message.request_id,
                    "replayed": done.replayed,
                    "as_of": plain_time(done.as_of),
                },
                200 if done.accepted else REFUSED,
            )

        return await self.gateway.guarded(request, name, work)

    def only_account(self, name: str, transport: HttpTransport, broker: str = "") -> str:
        """The one open account that the caller may see, at the broker where one is named. Raises InvalidRequest."""
        if broker:
            read = Reader()
            read.id(broker, "broker")
            read.done()
        who = self.gateway.guard.identify(name, transport, transport.headers())
        own = Actor(who.name, who.role.value, accounts=who.accounts).seen(self.engine.accounts())
        accounts = [self.engine.account(account_id) for account_id in own]
        found = [one.account_id for one in accounts if one.closed_at is None and broker in ("", one.broker)]
        if len(found) == 1:
            return found[0]
        there = f" at {broker}" if broker else ""
        count = "no account" if not found else f"{len(found)} accounts"
        raise InvalidRequest([("account_id", f"is required: you have {count}{there}, and it is taken only from one")])


def chosen(found: Any, currency: str) -> Message:
    """The sum that is meant. Raises Fault: sums in several currencies add up to nothing."""
    sums = {one.currency: one for one in found.by_currency if currency in ("", one.currency)}
    if not sums:
        raise Fault(
            FaultReason.ACCOUNT_NOT_FOUND, "there is no open account" + (" in this currency" if currency else "")
        )
    if len(sums) > 1:
        raise InvalidRequest(
            [("currency", f"is required: one of {', '.join(sorted(sums))}; or name account_id or owner")]
        )
    only: Message = next(iter(sums.values()))
    return only


def plain(message: Message) -> dict[str, Any]:
    """A message with decimals as JSON numbers, digit by digit, and with null for what is not known."""
    shown: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            shown[field.name] = [plain_value(field, one) for one in getattr(message, field.name)]
        elif field.has_presence and not message.HasField(field.name):
            shown[field.name] = None
        else:
            shown[field.name] = plain_value(field, getattr(message, field.name))
    return shown


def plain_value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        whole = field.message_type.full_name.startswith("google.protobuf.")
        return value.ToJsonString() if whole else plain(value)
    if field.enum_type is not None:
        return plain_name(field, value)
    if field.type == FieldDescriptor.TYPE_STRING and field.name not in TEXTS:
        return msgspec.Raw(value.encode()) if money.GRAMMAR.fullmatch(value) else value
    return value


def plain_name(field: Any, number: int) -> str:
    """RISK_LEVEL_NORMAL is NORMAL."""
    values = field.enum_type.values_by_number
    if number not in values:
        return str(number)
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    return str(values[number].name.removeprefix(prefix))


def plain_time(timestamp: Any) -> str:
    return str(timestamp.ToJsonString())
