"""Tokens of the house: issued once, kept as hashes, good until they end, and gone for everybody at once."""

import logging
import os
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from debt_mgmt.core.access import Role
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.security.first_token import write_secret
from debt_mgmt.v1 import access_service_pb2 as wire
from debt_mgmt.v1 import access_service_pb2_grpc, account_service_pb2, audit_service_pb2, options_pb2
from tests.server.security.door import Door, code_of, door
from tests.support.service import Clock, service
from tests.support.wire import failure_of, reasons

OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
CALLER = "AccessService/GetCaller"


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Door]:
    async with door(tmp_path, clock=Clock()) as one:
        yield one


def stub(opened: Door, token: str = "") -> Any:
    return access_service_pb2_grpc.AccessServiceStub(opened.channel(token or opened.admin_secret))


def asked(request_id: str = "r1", **fields: object) -> wire.IssueTokenRequest:
    given = {"name": "desk-7", "role": options_pb2.ROLE_TRADER, "account_ids": ["alice"], **fields}
    return wire.IssueTokenRequest(request_id=request_id, **given)  # type: ignore[arg-type]


async def works(opened: Door, token: str) -> bool:
    code = await code_of(stub(opened, token).GetCaller(wire.GetCallerRequest()))
    assert code in (OK, UNAUTHENTICATED)
    return code is OK


async def test_an_issued_token_is_its_holders_name_and_no_more(opened: Door) -> None:
    answer = await stub(opened).IssueToken(asked(note="the engine"))
    assert answer.accepted
    assert answer.secret.startswith("dmt_")
    assert len(answer.secret) >= 4 + 43
    caller = await stub(opened, answer.secret).GetCaller(wire.GetCallerRequest())
    assert (caller.name, caller.role, list(caller.account_ids)) == ("desk-7", options_pb2.ROLE_TRADER, ["alice"])
    assert caller.authenticated


async def test_a_repeated_request_makes_no_second_token_and_shows_no_secret(opened: Door) -> None:
    first = await stub(opened).IssueToken(asked())
    again = await stub(opened).IssueToken(asked())
    assert (again.replayed, again.secret, again.token) == (True, "", first.token)
    other = await failure_of(opened.channel(opened.admin_secret), "AccessService/IssueToken", asked(name="other"))
    assert other.reason == "REQUEST_ID_REUSED"
    assert await works(opened, first.secret)


async def test_a_name_stands_for_one_good_token(opened: Door) -> None:
    await stub(opened).IssueToken(asked())
    second = await stub(opened).IssueToken(asked("r2"))
    assert (second.accepted, reasons(second.violations), second.secret) == (False, ["TOKEN_EXISTS"], "")
    await stub(opened).RevokeToken(wire.RevokeTokenRequest(request_id="r3", name="desk-7"))
    third = await stub(opened).IssueToken(asked("r4"))
    assert third.accepted
    assert await works(opened, third.secret)


@pytest.mark.parametrize("name", ["local", "debt-mgmt", "", "a b", "x" * 65])
async def test_some_names_are_nobodys(opened: Door, name: str) -> None:
    failure = await failure_of(opened.channel(opened.admin_secret), "AccessService/IssueToken", asked(name=name))
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["name"])


async def test_a_token_ends_when_it_expires(opened: Door) -> None:
    answer = await stub(opened).IssueToken(asked(time_to_live=Duration(seconds=60)))
    assert await works(opened, answer.secret)
    opened.engine.clock.advance(seconds=59)  # type: ignore[attr-defined]
    assert await works(opened, answer.secret)
    opened.engine.clock.advance(seconds=1)  # type: ignore[attr-defined]
    failure = await failure_of(opened.channel(answer.secret), CALLER, wire.GetCallerRequest())
    assert (failure.code, failure.message) == (UNAUTHENTICATED, "the token has expired")
    listed = await stub(opened).ListTokens(wire.ListTokensRequest())
    assert [one.name for one in listed.tokens] == ["admin"]
    listed = await stub(opened).ListTokens(wire.ListTokensRequest(include_ended=True))
    assert [one.name for one in listed.tokens] == ["admin", "desk-7"]


async def test_a_revoked_token_is_refused_at_once(opened: Door) -> None:
    answer = await stub(opened).IssueToken(asked())
    assert await works(opened, answer.secret)
    ended = await stub(opened).RevokeToken(wire.RevokeTokenRequest(request_id="r2", name="desk-7", reason="lost"))
    assert ended.accepted
    failure = await failure_of(opened.channel(answer.secret), CALLER, wire.GetCallerRequest())
    assert (failure.code, failure.message) == (UNAUTHENTICATED, "the token was revoked")
    again = await stub(opened).RevokeToken(wire.RevokeTokenRequest(request_id="r3", name="desk-7"))
    assert reasons(again.violations) == ["TOKEN_NOT_FOUND"]


async def test_a_rotated_token_has_a_new_secret_and_the_old_one_for_a_while(opened: Door) -> None:
    first = (await stub(opened).IssueToken(asked())).secret
    answer = await stub(opened).RotateToken(
        wire.RotateTokenRequest(request_id="r2", name="desk-7", overlap=Duration(seconds=60))
    )
    assert [await works(opened, one) for one in (first, answer.secret)] == [True, True]
    opened.engine.clock.advance(seconds=61)  # type: ignore[attr-defined]
    assert [await works(opened, one) for one in (first, answer.secret)] == [False, True]
    last = await stub(opened).RotateToken(wire.RotateTokenRequest(request_id="r3", name="desk-7"))
    assert [await works(opened, one) for one in (first, answer.secret, last.secret)] == [False, False, True]
    absent = await stub(opened).RotateToken(wire.RotateTokenRequest(request_id="r4", name="nobody"))
    assert reasons(absent.violations) == ["TOKEN_NOT_FOUND"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "a token is needed"),
        ("", "a token is needed"),
        ("Bearer", "must be `Bearer TOKEN`"),
        ("Bearer ", "must be `Bearer TOKEN`|not valid"),
        ("Basic YWRtaW46YWRtaW4=", "must be `Bearer TOKEN`"),
        ("Bearer dmt_guessed", "not valid"),
        ("Bearer dmt_", "not valid"),
        ("Bearer " + "a" * 8186, "longer than"),
        ("dmt_without_scheme", "must be `Bearer TOKEN`"),
    ],
)
async def test_a_header_that_is_none_lets_nobody_in(opened: Door, header: str | None, words: str) -> None:
    metadata = () if header is None else (("authorization", header),)
    bare: Any = access_service_pb2_grpc.AccessServiceStub(opened.bare.channel)
    with pytest.raises(grpc.aio.AioRpcError, match=words) as failed:
        await bare.GetCaller(wire.GetCallerRequest(), metadata=metadata)
    assert failed.value.code() is UNAUTHENTICATED


async def test_headers_beyond_all_bounds_end_the_call_and_not_the_service(opened: Door) -> None:
    bare: Any = access_service_pb2_grpc.AccessServiceStub(opened.bare.channel)
    metadata = (("authorization", "Bearer " + "a" * 1_000_000),)
    with pytest.raises(grpc.aio.AioRpcError):
        await bare.GetCaller(wire.GetCallerRequest(), metadata=metadata)
    assert await works(opened, opened.admin_secret)


async def test_the_journal_holds_no_secret(tmp_path: Path) -> None:
    journal = MemoryJournal()
    async with door(tmp_path, journal=journal, clock=Clock()) as opened:
        secrets = [opened.admin_secret, (await stub(opened).IssueToken(asked())).secret]
        rotated = await stub(opened).RotateToken(wire.RotateTokenRequest(request_id="r2", name="desk-7"))
        secrets.append(rotated.secret)
        await opened.desk.open("alice", "1000", "USDT")
        found = await opened.desk.audit.ListAuditEvents(audit_service_pb2.ListAuditEventsRequest(page_size=1000))
    for secret in secrets:
        assert len(secret) > 40
        assert secret not in str(found)
        assert secret.removeprefix("dmt_") not in str(found)
    issued = [one for one in found.events if one.kind == "TokenIssued"]
    assert '"name":"admin"' in issued[-1].actor


async def test_tokens_outlive_a_restart(tmp_path: Path) -> None:
    journal = MemoryJournal()
    async with door(tmp_path, journal=journal) as opened:
        secret = await opened.issue("desk-7", Role.TRADER, "alice")
        gone = await opened.issue("gone", Role.TRADER)
        await stub(opened).RevokeToken(wire.RevokeTokenRequest(request_id="r1", name="gone"))
    (tmp_path / "admin.token").rename(tmp_path / "kept")
    async with door(tmp_path, journal=journal) as opened:
        assert not (tmp_path / "admin.token").exists(), "there is an administrator"
        opened.admin_secret = (tmp_path / "kept").read_text().strip()
        assert [await works(opened, one) for one in (secret, gone, opened.admin_secret)] == [True, False, True]


async def test_the_first_token_is_for_the_services_user_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with door(tmp_path / "deeper") as opened:
            file = tmp_path / "deeper" / "admin.token"
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert opened.bare.running.admin_token_file == file
    assert str(file) in caplog.text
    assert opened.admin_secret not in caplog.text
    assert [one.name for one in file.parent.iterdir()] == ["admin.token"]


async def test_whoever_has_lost_every_token_starts_again(tmp_path: Path) -> None:
    journal = MemoryJournal()
    async with door(tmp_path, journal=journal) as opened:
        await opened.issue("limited", Role.ADMIN, "alice")
        await stub(opened).RevokeToken(wire.RevokeTokenRequest(request_id="r1", name="admin"))
        lost = opened.admin_secret
    async with door(tmp_path, journal=journal) as opened:
        assert opened.admin_secret != lost
        assert [await works(opened, one) for one in (lost, opened.admin_secret)] == [False, True]


def test_a_secret_takes_the_place_of_a_file_that_others_could_read(tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    file.write_text("old")
    file.chmod(0o644)
    file.with_name("admin.token.part").symlink_to(tmp_path / "elsewhere")
    write_secret(file, "new")
    assert file.read_text() == "new\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_secret_takes_the_place_of_nothing_but_a_file(tmp_path: Path, kind: str) -> None:
    """Run by root and told to use a device, the service must not make a file of it."""
    place = tmp_path / "admin.token"
    if kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    before = place.lstat()
    with pytest.raises(OSError, match="not a plain file"):
        write_secret(place, "secret")
    assert place.lstat() == before
    assert [one.name for one in tmp_path.iterdir()] == ["admin.token"]


async def test_without_authentication_this_machine_is_the_administrator() -> None:
    async with service() as desk:
        bare: Any = access_service_pb2_grpc.AccessServiceStub(desk.channel)
        caller = await bare.GetCaller(wire.GetCallerRequest())
        assert (caller.name, caller.role, caller.authenticated) == ("local", options_pb2.ROLE_ADMIN, False)
        assert desk.running.admin_token_file is None


async def test_failed_sign_ins_are_told(opened: Door) -> None:
    authentication = opened.bare.running.entrance.authentication
    assert authentication is not None
    told: list[tuple[str, str, str]] = []
    authentication.on_failure = lambda why, peer, method: told.append((why, peer, method))
    await failure_of(
        opened.channel("dmt_guessed"), "AccountService/ListAccounts", account_service_pb2.ListAccountsRequest()
    )
    (failure,) = told
    assert failure[0] == "the token is not valid"
    assert failure[1].startswith("ipv4:127.0.0.1:")
    assert failure[2] == "AccountService/ListAccounts"


async def test_a_flood_of_forged_tokens_is_remembered_within_bounds(opened: Door) -> None:
    authentication = opened.bare.running.entrance.authentication
    assert authentication is not None
    for number in range(10_000):
        with pytest.raises(Exception, match="not valid"):
            authentication.identify(f"Bearer dmt_{number}")
    assert len(authentication.refused) <= 4096
    assert await works(opened, opened.admin_secret)


async def test_expiry_counts_from_the_services_time(opened: Door) -> None:
    answer = await stub(opened).IssueToken(asked(time_to_live=Duration(seconds=90)))
    made = answer.token
    assert made.expire_time.ToDatetime() - made.create_time.ToDatetime() == timedelta(seconds=90)
