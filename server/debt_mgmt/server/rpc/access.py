"""AccessService: tokens issued, listed, rotated and revoked, and who the caller is."""

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.access import AccessToken, Role
from debt_mgmt.server.actor import LOCAL, SYSTEM
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import judged, opening, reading
from debt_mgmt.server.rpc.names import ROLE
from debt_mgmt.server.rpc.pages import page_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.server.security.identity import LOCAL_IDENTITY
from debt_mgmt.server.security.tokens import digest_of_secret, new_secret
from debt_mgmt.v1 import access_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call

OVERLAP_MOST = timedelta(days=30)
ACCOUNTS_MOST = 200
RESERVED = frozenset({SYSTEM.name, LOCAL.name})
"""Names that stand for others in the journal."""


class AccessService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def GetCaller(self, request: wire.GetCallerRequest, call: "Call") -> wire.GetCallerResponse:
        engine, who = self.engine, call.identity
        expires = None
        if who.expires_at != LOCAL_IDENTITY.expires_at:
            expires = convert.timestamp(convert.ERA + timedelta(seconds=who.expires_at))
        return wire.GetCallerResponse(
            **reading(engine.house_revision(), engine.clock()),
            name=who.name,
            role=ROLE.wire[who.role],
            account_ids=sorted(who.accounts or ()),
            expire_time=expires,
            authenticated=who is not LOCAL_IDENTITY,
        )

    async def IssueToken(self, request: wire.IssueTokenRequest, call: "Call") -> wire.IssueTokenResponse:
        engine, read = self.engine, Reader()
        request_id = read.request_id(request.request_id)
        name = read.id(request.name, "name")
        if name in RESERVED:
            read.problem("name", f"must be none of {', '.join(sorted(RESERVED))}, which stand for the service itself")
        role = read.choice(request.role, ROLE, "role")
        accounts = read.several(request.account_ids, "account_ids", read.account_id)
        if len(accounts) > ACCOUNTS_MOST:
            read.problem("account_ids", f"has {len(accounts)} items, at most {ACCOUNTS_MOST} are accepted")
        length = read.duration(request, "time_to_live")
        note = read.text(request.note, "note")
        read.done()
        secret = new_secret()
        expires_at = engine.clock() + length if length is not None else None
        command = c.IssueToken(name, digest_of_secret(secret), role, tuple(accounts), expires_at, note)
        asked = (name, role, accounts, length, note)
        return wire.IssueTokenResponse(**await self.made(command, asked, request_id, secret, call))

    async def RotateToken(self, request: wire.RotateTokenRequest, call: "Call") -> wire.RotateTokenResponse:
        read = Reader()
        request_id = read.request_id(request.request_id)
        name = read.id(request.name, "name")
        overlap = read.duration(request, "overlap", most=OVERLAP_MOST)
        read.done()
        secret = new_secret()
        command = c.RotateToken(name, digest_of_secret(secret), overlap)
        return wire.RotateTokenResponse(**await self.made(command, (name, overlap), request_id, secret, call))

    async def made(
        self,
        command: c.IssueToken | c.RotateToken,
        asked: tuple[object, ...],
        request_id: str,
        secret: str,
        call: "Call",
    ) -> dict[str, Any]:
        """The answer with a new secret. The secret is not part of what was asked, so a repeat is known as one."""
        digest = hashlib.blake2b(msgspec.json.encode((type(command).__name__, asked)), digest_size=16).digest()
        committed = await self.engine.submit_house(command, request_id=request_id, actor=call.actor, digest=digest)
        event = committed.events[0]
        answer = {**opening((0, committed.last_position), committed), **judged(committed.events)}
        if isinstance(event, e.TokenIssued | e.TokenRotated):
            answer["token"] = token_message(event.token)
            answer["secret"] = "" if committed.replayed else secret
        return answer

    async def RevokeToken(self, request: wire.RevokeTokenRequest, call: "Call") -> wire.RevokeTokenResponse:
        engine, read = self.engine, Reader()
        request_id = read.request_id(request.request_id)
        name = read.id(request.name, "name")
        reason = read.text(request.reason, "reason")
        read.done()
        committed = await engine.submit_house(c.RevokeToken(name, reason), request_id=request_id, actor=call.actor)
        event = committed.events[0]
        token = engine.house.tokens.get(name)
        if not isinstance(event, e.TokenRevoked) or (token is not None and token.revoked_at != event.at):
            token = None  # it was refused; or the answer is a repeat, and the name stands for another token by now
        return wire.RevokeTokenResponse(
            **opening((0, committed.last_position), committed),
            **judged(committed.events),
            token=token_message(token) if token is not None else None,
        )

    async def ListTokens(self, request: wire.ListTokensRequest, call: "Call") -> wire.ListTokensResponse:
        engine, read = self.engine, Reader()
        size = read.page_size(request.page_size)
        read.done()
        at = engine.clock()
        page, following = page_of(
            [one for one in engine.house.tokens.values() if request.include_ended or one.is_good(at)],
            lambda one: [one.name],
            size,
            request.page_token,
            "ListTokens",
            request.include_ended,
        )
        return wire.ListTokensResponse(
            **reading(engine.house_revision(), at),
            tokens=[token_message(one) for one in page],
            next_page_token=following,
        )


def token_message(token: AccessToken) -> wire.Token:
    return wire.Token(
        name=token.name,
        role=ROLE.wire[Role(token.role)],
        account_ids=token.accounts,
        create_time=convert.timestamp(token.issued_at),
        expire_time=convert.optional_timestamp(token.expires_at),
        revoke_time=convert.optional_timestamp(token.revoked_at),
        rotate_time=convert.optional_timestamp(token.rotated_at),
        previous_expire_time=convert.optional_timestamp(token.previous_until),
        note=token.note,
    )
