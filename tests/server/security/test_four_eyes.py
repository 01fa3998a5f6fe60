"""Four eyes, over the wire: what takes protection away from a live account is done by two people, or not at all."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from debt_mgmt.core import commands as c
from debt_mgmt.core.access import Role
from debt_mgmt.core.account import Limits
from debt_mgmt.core.changes import ChangeState
from debt_mgmt.core.settings import FourEyes
from debt_mgmt.server.actor import SYSTEM, Actor
from debt_mgmt.server.four_eyes import SecondPerson
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.security.tokens import digest_of_secret, new_secret
from debt_mgmt.v1 import account_service_pb2, audit_service_pb2, risk_service_pb2, types_pb2
from debt_mgmt.v1.risk_service_pb2 import PROTECTION_FOUR_EYES, RiskLimits
from tests.server.live.desk import FAST
from tests.server.security.door import Door, door
from tests.server.security.signing import ed25519_signer
from tests.support.live_broker import FakeVenue, FakeVenues
from tests.support.service import Clock, Desk, service
from tests.support.wire import call, failure_of, reasons, request_class

PENDING, APPROVED = risk_service_pb2.CHANGE_STATE_PENDING, risk_service_pb2.CHANGE_STATE_APPROVED
REJECTED, EXPIRED = risk_service_pb2.CHANGE_STATE_REJECTED, risk_service_pb2.CHANGE_STATE_EXPIRED


class Floor:
    """A service with a live account `alice` of the owner `desk`, a sandbox account `bob`, and two people."""

    def __init__(self, opened: Door) -> None:
        self.opened = opened
        self.engine = opened.engine
        self.ann: Desk
        self.ben: Desk

    async def people(self) -> None:
        self.ann = await self.person("ann")
        self.ben = await self.person("ben")

    async def person(self, name: str, *accounts: str, role: Role = Role.RISK) -> Desk:
        return self.opened.as_caller(await self.opened.issue(name, role, *accounts))

    async def furnish(self) -> None:
        await self.opened.desk.open("bob", "10000", "USDT", owner="paper-desk")
        request = account_service_pb2.CreateAccountRequest(
            request_id="open-alice", account_id="alice", owner="desk", broker="bybit",
            environment=types_pb2.ENVIRONMENT_LIVE,
        )  # fmt: skip
        await self.opened.desk.accounts.CreateAccount(request)

    def loss_limit(self, account_id: str = "alice") -> str:
        return str(self.engine.account(account_id).limits.max_daily_loss)


@asynccontextmanager
async def floor(
    folder: Path, *, furnished: bool = False, journal: MemoryJournal | None = None, clock: Any = None, **flags: Any
) -> AsyncIterator[Floor]:
    venues = FakeVenues(FakeVenue(clock=clock))
    async with door(folder, journal=journal, clock=clock, venues=venues, pace=FAST, **flags) as opened:
        one = Floor(opened)
        if not furnished:
            await one.furnish()
            await one.people()
        yield one


async def ask(desk: Desk, name: str, **fields: Any) -> Any:
    fields.setdefault("request_id", desk.request_id())
    return await call(desk.channel, f"RiskService/{name}", request_class(f"RiskService/{name}")(**fields))


async def limit(desk: Desk, amount: str, account_id: str = "alice", **fields: Any) -> Any:
    limits = RiskLimits(max_daily_loss=amount)
    return await ask(desk, "SetRiskLimits", account_id=account_id, limits=limits, reason="as agreed", **fields)


async def dry_run(desk: Desk, on: bool, account_id: str = "alice", **fields: Any) -> Any:
    fields.setdefault("request_id", desk.request_id())
    request = account_service_pb2.SetDryRunRequest(account_id=account_id, dry_run=on, reason="tried", **fields)
    return await desk.accounts.SetDryRun(request)


async def listed(desk: Desk, *, decided: bool = False) -> list[Any]:
    request = risk_service_pb2.ListPendingChangesRequest(include_decided=decided)
    return list((await desk.risk.ListPendingChanges(request)).changes)


# the three kinds, the whole way


async def before_resuming(one: Floor, **scope: Any) -> None:
    assert (await ask(one.ann, "HaltTrading", reason="drill", **scope)).accepted


def is_halted(one: Floor) -> bool:
    account = one.engine.account("alice")
    return account.trading_state == "HALTED" or one.engine.house.halt_for("desk") is not None


SCOPES: list[dict[str, Any]] = [{"account_id": "alice"}, {"owner": "desk"}, {"everything": True}]


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: next(iter(scope)))
async def test_a_halt_that_concerns_a_live_account_is_ended_by_two(tmp_path: Path, scope: dict[str, Any]) -> None:
    async with floor(tmp_path) as one:
        await before_resuming(one, **scope)
        asked = await ask(one.ann, "ResumeTrading", reason="it is over", **scope)
        assert (asked.accepted, reasons(asked.violations)) == (False, ["NEEDS_SECOND_PERSON"])
        assert asked.pending_change_id == asked.violations[0].subject != ""
        assert is_halted(one), "nothing is done"
        (waiting,) = await listed(one.ben)
        assert (waiting.change_id, waiting.state, waiting.proposed_by) == (asked.pending_change_id, PENDING, "ann")
        assert (waiting.proposing_method, waiting.reason) == ("RiskService/ResumeTrading", "it is over")
        assert len(waiting.effects) == 1 and "→" in waiting.effects[0]
        own = await ask(one.ann, "ApproveChange", change_id=asked.pending_change_id)
        assert (own.accepted, reasons(own.violations)) == (False, ["SAME_PERSON"])
        assert is_halted(one)
        done = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id, note="I looked")
        assert (done.accepted, list(done.violations)) == (True, [])
        assert (done.change.state, done.change.decided_by, done.change.note) == (APPROVED, "ben", "I looked")
        assert done.change.HasField("carry_out_time")
        assert not is_halted(one)
        assert await listed(one.ben) == []
        assert [change.state for change in await listed(one.ben, decided=True)] == [APPROVED]


async def test_a_limit_is_raised_by_two_and_lowered_by_one(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        assert (await limit(one.ann, "500")).accepted, "a limit where none was"
        asked = await limit(one.ann, "600")
        assert reasons(asked.violations) == ["NEEDS_SECOND_PERSON"]
        assert asked.limits.max_daily_loss == "500" == one.loss_limit()
        (waiting,) = await listed(one.ben)
        assert list(waiting.effects) == ["max_daily_loss 500 → 600"]
        assert waiting.scope == types_pb2.Scope(account_id="alice")
        assert (await limit(one.ann, "400")).accepted, "a lower one never waits, and the proposal stays as it was"
        done = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        assert done.accepted
        assert one.loss_limit() == "600"
        assert (await limit(one.ann, "700", account_id="bob")).accepted, "a sandbox account needs one person"
        assert (await limit(one.ann, "800", account_id="bob")).accepted


async def test_dry_run_is_left_by_two_and_entered_by_one(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        asked = await dry_run(one.ann, False)
        assert (asked.accepted, reasons(asked.violations)) == (False, ["NEEDS_SECOND_PERSON"])
        assert asked.account.dry_run
        done = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        assert done.accepted
        assert not one.engine.account("alice").dry_run
        assert (await dry_run(one.ann, True)).accepted


# one person is one person


async def test_another_secret_of_the_same_name_is_the_same_person(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        asked = await dry_run(one.ann, False)
        secret = new_secret()
        await one.engine.submit_house(
            c.RotateToken("ann", digest_of_secret(secret)), request_id="", actor=SYSTEM
        )  # fmt: skip
        rotated = one.opened.as_caller(secret)
        answer = await ask(rotated, "ApproveChange", change_id=asked.pending_change_id)
        assert reasons(answer.violations) == ["SAME_PERSON"]
        await one.engine.submit_house(c.RevokeToken("ann"), request_id="", actor=SYSTEM)
        again = await one.person("ann", role=Role.ADMIN)
        answer = await ask(again, "ApproveChange", change_id=asked.pending_change_id)
        assert reasons(answer.violations) == ["SAME_PERSON"]
        assert one.engine.account("alice").dry_run


async def test_a_signed_token_with_the_same_subject_is_the_same_person(tmp_path: Path) -> None:
    signer, clock = ed25519_signer(), Clock()
    (tmp_path / "keys").write_bytes(signer.public())
    flags: dict[str, Any] = {"auth": "both", "server__jwt__keys": str(tmp_path / "keys")}
    async with floor(tmp_path, clock=clock, **flags) as one:
        asked = await dry_run(one.ann, False)
        same, other = (
            one.opened.as_caller(signer.sign(clock.now, sub=name, role="risk", accounts="*"))
            for name in ("ann", "carl")
        )
        answer = await ask(same, "ApproveChange", change_id=asked.pending_change_id)
        assert reasons(answer.violations) == ["SAME_PERSON"]
        assert (await ask(other, "ApproveChange", change_id=asked.pending_change_id)).accepted


async def test_a_trader_and_a_stranger_approve_nothing(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        asked = await dry_run(one.ann, False)
        trader = await one.person("tim", role=Role.TRADER)
        request = risk_service_pb2.ApproveChangeRequest(request_id="1", change_id=asked.pending_change_id)
        failure = await failure_of(trader.channel, "RiskService/ApproveChange", request)
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED
        stranger = await one.person("sue", "bob")
        assert await listed(stranger, decided=True) == []
        told = [
            await ask(stranger, kind, change_id=asked.pending_change_id) for kind in ("ApproveChange", "RejectChange")
        ]
        unknown = [await ask(stranger, kind, change_id="change-9999") for kind in ("ApproveChange", "RejectChange")]
        for answer, other in zip(told, unknown, strict=True):
            assert reasons(answer.violations) == ["CHANGE_NOT_FOUND"]
            assert not answer.HasField("change")
            message = answer.violations[0].message.replace(asked.pending_change_id, "…")
            assert message == other.violations[0].message.replace("change-9999", "…")
        assert (await listed(one.ben))[0].state == PENDING


async def test_limited_tokens_propose_and_approve_for_their_own_accounts(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        limited, other = await one.person("lea", "alice"), await one.person("leo", "alice", "bob")
        await ask(one.ann, "HaltTrading", owner="desk", reason="drill")
        of_owner = await ask(one.ann, "ResumeTrading", owner="desk", reason="over")
        asked = await dry_run(limited, False, request_id="same")
        assert [change.change_id for change in await listed(other)] == [asked.pending_change_id]
        answer = await ask(limited, "ApproveChange", change_id=of_owner.pending_change_id)
        assert reasons(answer.violations) == ["CHANGE_NOT_FOUND"]
        await ask(one.ann, "ApproveChange", change_id="change-9999", request_id="same")
        done = await ask(other, "ApproveChange", change_id=asked.pending_change_id, request_id="same")
        assert (done.accepted, done.replayed) == (True, False), "an id that somebody else used is free"
        assert [change.scope.owner for change in await listed(one.ben)] == ["desk"]


# ends


async def test_a_rejected_change_is_done_by_nobody(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        first, second = await dry_run(one.ann, False), await dry_run(one.ann, False)
        assert first.pending_change_id != second.pending_change_id
        no = await ask(one.ben, "RejectChange", change_id=first.pending_change_id, note="not on a Friday")
        assert (no.accepted, no.change.state, no.change.note) == (True, REJECTED, "not on a Friday")
        own = await ask(one.ann, "RejectChange", change_id=second.pending_change_id)
        assert (own.accepted, own.change.decided_by) == (True, "ann")
        for gone in (first, second):
            answer = await ask(one.ben, "ApproveChange", change_id=gone.pending_change_id)
            assert reasons(answer.violations) == ["CHANGE_NOT_FOUND"]
            assert "rejected it" in answer.violations[0].message
        assert one.engine.account("alice").dry_run


async def test_a_change_waits_as_long_as_the_setting_says(tmp_path: Path) -> None:
    clock = Clock()
    async with floor(tmp_path, clock=clock, risk_settings__four_eyes_wait_seconds="600") as one:
        asked = await dry_run(one.ann, False)
        clock.advance(seconds=599)
        await one.engine.sweep()
        assert [change.state for change in await listed(one.ben)] == [PENDING]
        clock.advance(seconds=1)
        assert await listed(one.ben) == []
        assert [change.state for change in await listed(one.ben, decided=True)] == [EXPIRED], "also before the sweep"
        answer = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        assert reasons(answer.violations) == ["CHANGE_NOT_FOUND"]
        assert "expired" in answer.violations[0].message
        await one.engine.sweep()
        assert one.engine.house.changes[asked.pending_change_id].state is ChangeState.EXPIRED
        assert one.engine.account("alice").dry_run


async def test_a_change_that_the_rules_refuse_by_then_says_so(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        first, second = await dry_run(one.ann, False), await dry_run(one.ann, False)
        assert (await ask(one.ben, "ApproveChange", change_id=first.pending_change_id)).accepted
        late = await ask(one.ben, "ApproveChange", change_id=second.pending_change_id)
        assert (late.accepted, reasons(late.violations)) == (False, ["ALREADY_IN_STATE"])
        assert (late.change.state, reasons(late.change.violations)) == (APPROVED, ["ALREADY_IN_STATE"])


# repeats


async def test_a_repeated_request_is_told_of_the_same_change(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        await limit(one.ann, "500")
        asked = await limit(one.ann, "600", request_id="raise")
        again = await limit(one.ann, "600", request_id="raise")
        assert again.replayed and again.pending_change_id == asked.pending_change_id
        assert len(await listed(one.ben)) == 1
        done = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id, request_id="yes")
        position = one.engine.house_revision()
        repeated = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id, request_id="yes")
        assert repeated.replayed and repeated.accepted and repeated.change == done.change
        assert one.engine.house_revision() == position, "a repeat writes nothing"
        await limit(one.ann, "300")
        later = await limit(one.ann, "600", request_id="raise")
        assert later.pending_change_id == asked.pending_change_id and not later.accepted
        assert one.loss_limit() == "300", "neither the repeat nor the approval is done a second time"


async def test_a_request_that_was_done_stays_done_where_it_would_wait_by_now(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        assert (await limit(one.ann, "500", request_id="first")).accepted
        assert (await limit(one.ann, "400")).accepted
        again = await limit(one.ann, "500", request_id="first")
        assert again.accepted and again.replayed
        assert (await listed(one.ben), one.loss_limit()) == ([], "400")
        await ask(one.ann, "HaltTrading", owner="desk", reason="drill")
        asked = await ask(one.ann, "ResumeTrading", owner="desk", reason="over", request_id="resume")
        await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        await ask(one.ann, "HaltTrading", owner="desk", reason="again")
        again = await ask(one.ann, "ResumeTrading", owner="desk", reason="over", request_id="resume")
        assert again.replayed and again.pending_change_id == asked.pending_change_id
        assert is_halted(one)


async def test_two_requests_at_once_do_not_slip_past(tmp_path: Path) -> None:
    """The second is decided on what the first has left, not on what was there when it came."""
    async with floor(tmp_path) as one:
        await limit(one.ann, "500")
        lower = c.SetLimits(Limits(max_daily_loss=Decimal(100)), ("max_daily_loss",), "less")
        higher = c.SetLimits(Limits(max_daily_loss=Decimal(400)), ("max_daily_loss",), "less too, it seems")
        actor = Actor("ann", "RISK")
        _, second = await asyncio.gather(
            one.engine.submit("alice", lower, request_id="a", actor=actor),
            one.engine.submit("alice", higher, request_id="b", actor=actor),
        )
        assert one.loss_limit() == "100"
        assert [event.command for event in second.events] == ["SetRiskLimits"]  # type: ignore[union-attr]


# restarts and kills


async def test_what_waits_still_waits_after_a_restart(tmp_path: Path) -> None:
    journal, clock = MemoryJournal(), Clock()
    async with floor(tmp_path, journal=journal, clock=clock) as one:
        asked = await dry_run(one.ann, False)
        secret = await one.opened.issue("carl", Role.RISK)
    async with floor(tmp_path, journal=journal, clock=clock, furnished=True) as one:
        carl = one.opened.as_caller(secret)
        assert [change.change_id for change in await listed(carl)] == [asked.pending_change_id]
        assert (await ask(carl, "ApproveChange", change_id=asked.pending_change_id)).accepted
        assert not one.engine.account("alice").dry_run


@pytest.mark.parametrize("scope", [{"account_id": "alice"}, {"owner": "desk"}], ids=["account", "owner"])
async def test_what_was_approved_and_not_carried_out_is_carried_out_at_the_start(
    tmp_path: Path, scope: dict[str, Any]
) -> None:
    """Killed between the approval and what was approved."""
    journal, clock = MemoryJournal(), Clock()
    async with floor(tmp_path, journal=journal, clock=clock) as one:
        await before_resuming(one, **scope)
        asked = await ask(one.ann, "ResumeTrading", reason="over", **scope)
        for task in one.engine.tasks:
            task.cancel()
        approval = c.ApproveChange(asked.pending_change_id, "ben")
        await one.engine.submit_house(approval, request_id="yes", actor=Actor("ben", "RISK"))
        assert is_halted(one)
    async with floor(tmp_path, journal=journal, clock=clock, furnished=True) as one:
        assert not is_halted(one)
        change = one.engine.house.changes[asked.pending_change_id]
        assert (change.is_due, change.violations) == (False, ())
        names = {json.loads(row.actor)["name"] for row in await journal.list_rows(actor="ben for ann")}
        assert names == {"ben for ann"}
        rows = len(await journal.list_rows(limit=1000))
        await one.engine.sweep()
        assert len(await journal.list_rows(limit=1000)) == rows, "and once only"


async def test_what_whoever_approved_could_not_wait_for_is_carried_out_soon(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        asked = await dry_run(one.ann, False)
        approval = c.ApproveChange(asked.pending_change_id, "ben")
        await one.engine.submit_house(approval, request_id="yes", actor=Actor("ben", "RISK"))
        await one.engine.sweep()
        assert not one.engine.account("alice").dry_run
        assert (await listed(one.ben, decided=True))[0].HasField("carry_out_time")


async def test_what_was_carried_out_and_not_noted_is_not_done_again(tmp_path: Path) -> None:
    """Killed between what was approved and the note of it: meanwhile the limit was lowered."""
    journal, clock = MemoryJournal(), Clock()
    async with floor(tmp_path, journal=journal, clock=clock) as one:
        await limit(one.ann, "500")
        asked = await limit(one.ann, "600")
        for task in one.engine.tasks:
            task.cancel()
        change_id = asked.pending_change_id
        await one.engine.submit_house(c.ApproveChange(change_id, "ben"), request_id="yes", actor=Actor("ben", "RISK"))
        command = c.CarryOutChange(change_id, one.engine.house.changes[change_id].command)
        await one.engine.submit("alice", command, request_id=f"carry-out/{change_id}", actor=Actor("ben for ann"))
        await limit(one.ann, "300")
    async with floor(tmp_path, journal=journal, clock=clock, furnished=True) as one:
        assert one.loss_limit() == "300"
        assert not one.engine.house.changes[change_id].is_due


# the audit


async def test_the_audit_names_both_and_every_decision_is_reproduced(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        await limit(one.ann, "500")
        asked = await limit(one.ann, "600")
        await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        await ask(one.ann, "HaltTrading", everything=True, reason="drill")
        asked = await ask(one.ann, "ResumeTrading", everything=True, reason="over")
        await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        asked = await dry_run(one.ann, False)
        await ask(one.ben, "RejectChange", change_id=asked.pending_change_id)
        admin = one.opened.desk
        kinds: set[str] = set()
        for name in ("ann", "ben"):
            found = await admin.audit.ListAuditEvents(
                audit_service_pb2.ListAuditEventsRequest(actor=name, page_size=1000)
            )
            of_both = {event.kind for event in found.events if '"ben for ann"' in event.actor}
            assert {"LimitsSet", "TradingResumed"} <= of_both, name
            for event in found.events:
                kinds.add(event.kind)
                request = audit_service_pb2.ExplainEventRequest(event_revision=event.revision)
                answer = await admin.audit.ExplainEvent(request)
                assert answer.reproduced, (event.kind, event.payload)
        assert {"ChangeProposed", "ChangeApproved", "ChangeRejected", "CommandRefused"} <= kinds


# off, live, all


async def four_eyes_of(desk: Desk, account_id: str) -> tuple[bool, str]:
    answer = await desk.risk.GetRiskLimits(risk_service_pb2.GetRiskLimitsRequest(account_id=account_id))
    (found,) = (one for one in answer.protections if one.protection == PROTECTION_FOUR_EYES)
    return found.off, found.note


async def test_off_is_off_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with floor(tmp_path, risk_settings__four_eyes="off") as one:
        assert (await dry_run(one.ann, False)).accepted
        assert await four_eyes_of(one.ann, "alice") == (True, "risk_settings.four_eyes is off")
        assert not one.engine.metrics_snapshot().four_eyes
    assert "four eyes is off" in caplog.text


def test_a_start_without_live_accounts_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    said = SimpleNamespace(mode=FourEyes.UNAUTHENTICATED, has_live_accounts=lambda: False)
    with caplog.at_level(logging.INFO):
        SecondPerson.say(cast("SecondPerson", said))
        assert [one.levelno for one in caplog.records] == [logging.INFO] and "FOUR EYES" not in caplog.text
        said.has_live_accounts = lambda: True
        SecondPerson.say(cast("SecondPerson", said))
    assert caplog.records[-1].levelno == logging.WARNING and "FOUR EYES IS OFF" in caplog.text


async def test_all_is_for_sandbox_accounts_too(tmp_path: Path) -> None:
    async with floor(tmp_path, risk_settings__four_eyes="all") as one:
        await limit(one.ann, "500", account_id="bob")
        asked = await limit(one.ann, "600", account_id="bob")
        assert reasons(asked.violations) == ["NEEDS_SECOND_PERSON"]
        await ask(one.ann, "HaltTrading", owner="paper-desk", reason="drill")
        asked = await ask(one.ann, "ResumeTrading", owner="paper-desk", reason="over")
        assert reasons(asked.violations) == ["NEEDS_SECOND_PERSON"]
        assert (await four_eyes_of(one.ann, "bob"))[0] is False


async def test_live_is_for_what_concerns_an_open_live_account(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        assert (await four_eyes_of(one.ann, "alice"))[0] is False
        assert await four_eyes_of(one.ann, "bob") == (True, "risk_settings.four_eyes is live, and this account is not")
        for scope in ({"owner": "paper-desk"}, {"account_id": "bob"}):
            await ask(one.ann, "HaltTrading", reason="drill", **scope)
            assert (await ask(one.ann, "ResumeTrading", reason="over", **scope)).accepted
        await ask(one.ann, "HaltTrading", reason="drill", everything=True)
        asked = await ask(one.ann, "ResumeTrading", reason="over", everything=True, request_id="resume")
        await one.opened.desk.accounts.CloseAccount(
            account_service_pb2.CloseAccountRequest(request_id="close", account_id="alice")
        )
        again = await ask(one.ann, "ResumeTrading", reason="over", everything=True, request_id="resume")
        assert again.replayed and again.pending_change_id == asked.pending_change_id
        assert (await ask(one.ann, "ResumeTrading", reason="over", everything=True)).accepted


async def test_without_authentication_it_is_off_and_says_so_loudly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    journal = MemoryJournal()
    async with service(
        journal=journal, venues=FakeVenues(FakeVenue()), pace=FAST, risk_settings__four_eyes="all"
    ) as desk:
        await desk.open("bob", "10000", "USDT")
        await ask(desk, "HaltTrading", reason="drill", account_id="bob")
        assert (await ask(desk, "ResumeTrading", reason="over", account_id="bob")).accepted
        off, note = await four_eyes_of(desk, "bob")
        assert off and "nobody can be told from anybody" in note
        assert b"debt_mgmt_four_eyes 0.0" in await metrics_of(desk)
        assert "four eyes is off" in caplog.text and "FOUR EYES IS OFF" not in caplog.text
        request = account_service_pb2.CreateAccountRequest(
            request_id="open-alice", account_id="alice", broker="bybit", environment=types_pb2.ENVIRONMENT_LIVE
        )
        await desk.accounts.CreateAccount(request)
    async with service(journal=journal, venues=FakeVenues(FakeVenue()), pace=FAST, risk_settings__four_eyes="all"):
        assert "FOUR EYES IS OFF" in caplog.text


async def metrics_of(desk: Desk, token: str = "") -> bytes:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{desk.running.metrics_port}/metrics", headers=headers) as answer,
    ):
        return await answer.read()


async def test_a_change_that_waits_is_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with floor(tmp_path) as one:
        await limit(one.ann, "500")
        asked = await limit(one.ann, "600")
        assert one.engine.metrics_snapshot().changes_waiting == 1
        text = await metrics_of(one.opened.bare, one.opened.admin_secret)
        assert b"debt_mgmt_changes_waiting 1.0" in text and b"debt_mgmt_four_eyes 1.0" in text
        (line,) = (line for line in caplog.messages if asked.pending_change_id in line)
        assert "by ann" in line and "max_daily_loss 500 → 600" in line


# other doors


async def test_a_live_account_is_not_opened_outside_of_dry_run(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        request = account_service_pb2.CreateAccountRequest(
            request_id="open", account_id="erin", broker="bybit", environment=types_pb2.ENVIRONMENT_LIVE, dry_run=False
        )
        failure = await failure_of(one.opened.desk.channel, "AccountService/CreateAccount", request)
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "open it in dry run" in failure.message
        request.dry_run = True
        failure = await failure_of(one.opened.desk.channel, "AccountService/CreateAccount", request)
        assert "mirrors" in failure.message, "now only that the key is alice's keeps it out"


async def test_the_cool_down_of_breakers_is_a_limit_like_others(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        for seconds, waits in ((7200, False), (60, True)):
            limits = RiskLimits(breaker_cool_down=Duration(seconds=seconds))
            answer = await ask(one.ann, "SetRiskLimits", account_id="alice", limits=limits, reason="tried")
            assert bool(answer.pending_change_id) is waits


async def test_the_list_has_pages_newest_first(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        asked = [(await dry_run(one.ann, False)).pending_change_id for _ in range(5)]
        found: list[str] = []
        token = ""
        while True:
            request = risk_service_pb2.ListPendingChangesRequest(page_size=2, page_token=token)
            page = await one.ben.risk.ListPendingChanges(request)
            found += [change.change_id for change in page.changes]
            token = page.next_page_token
            if not token:
                break
        assert found == asked[::-1]
