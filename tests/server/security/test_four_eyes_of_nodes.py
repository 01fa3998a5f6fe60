"""Four eyes at the nodes of the tree: sets that allow more and halts that end, where a live account is concerned."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from debt_mgmt.v1 import risk_service_pb2 as wire
from debt_mgmt.v1 import types_pb2
from tests.server.security.test_four_eyes import Floor, ask, floor, listed
from tests.support.service import Desk
from tests.support.wire import reasons


async def put(desk: Desk, most: str, scope: dict[str, str], **fields: Any) -> Any:
    limit_set = wire.LimitSet(
        scope=types_pb2.Scope(**scope), limits=wire.NodeLimits(max_exposure_notional=most), currency="USDT",
        reason="as agreed", **fields,
    )  # fmt: skip
    return await ask(desk, "PutLimitSet", limit_set=limit_set)


def exposure(one: Floor) -> list[str]:
    sets = one.engine.house.limit_sets.values()
    return [f"{each.mode} {each.limits.max_exposure_notional}" for each in sets]


@pytest.mark.parametrize("scope", [{}, {"owner": "desk"}, {"account_id": "alice"}, {"strategy": "momo"}], ids=str)
async def test_a_limit_set_is_raised_by_two_and_lowered_by_one(tmp_path: Path, scope: dict[str, str]) -> None:
    async with floor(tmp_path) as one:
        assert (await put(one.ann, "500", scope)).accepted, "a limit where none was"
        assert (await put(one.ann, "400", scope)).accepted
        asked = await put(one.ann, "600", scope)
        assert (asked.accepted, reasons(asked.violations)) == (False, ["NEEDS_SECOND_PERSON"])
        assert asked.limit_set.limit_set.limits.max_exposure_notional == "400", "nothing is done"
        (waiting,) = await listed(one.ben)
        assert (waiting.change_id, waiting.reason) == (asked.pending_change_id, "as agreed")
        assert waiting.scope == types_pb2.Scope(**scope)
        assert waiting.effects[0].endswith("max_exposure_notional 400 → 600")
        own = await ask(one.ann, "ApproveChange", change_id=asked.pending_change_id)
        assert reasons(own.violations) == ["SAME_PERSON"]
        assert exposure(one) == ["ENFORCED 400"]
        assert (await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)).accepted
        assert exposure(one) == ["ENFORCED 600"]


async def test_a_limit_set_is_taken_away_or_only_watched_by_two(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        assert (await put(one.ann, "500", {"owner": "desk"})).accepted
        shadow = await put(one.ann, "500", {"owner": "desk"}, mode=wire.LIMIT_MODE_SHADOW)
        gone = await ask(one.ann, "DeleteLimitSet", scope=types_pb2.Scope(owner="desk"), reason="over")
        assert [reasons(each.violations) for each in (shadow, gone)] == [["NEEDS_SECOND_PERSON"]] * 2
        assert exposure(one) == ["ENFORCED 500"]
        assert (await ask(one.ben, "ApproveChange", change_id=gone.pending_change_id)).accepted
        assert exposure(one) == []


async def test_what_was_lowered_since_is_not_raised_by_the_approval_of_something_else(tmp_path: Path) -> None:
    """A set is put whole, so one that was proposed before another limit of it was lowered would undo that unseen."""
    async with floor(tmp_path) as one:
        assert (await put_both(one.ann, "400", "3")).accepted
        asked = await put_both(one.ann, "600", "3")
        assert (await put_both(one.ann, "400", "2")).accepted
        answer = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        assert (answer.accepted, reasons(answer.violations)) == (False, ["CHANGE_NOT_FOUND"])
        assert "max_leverage 2 → 3" in answer.violations[0].message
        assert reasons(answer.change.violations) == ["CHANGE_NOT_FOUND"]
        (left,) = one.engine.house.limit_sets.values()
        assert (str(left.limits.max_exposure_notional), str(left.limits.max_leverage)) == ("400", "2")
        again = await ask(one.ann, "PutLimitSet", limit_set=both("600", "2"))
        assert (await put_both(one.ann, "300", "2")).accepted
        assert (await ask(one.ben, "ApproveChange", change_id=again.pending_change_id)).accepted
        assert exposure(one) == ["ENFORCED 600"]


def both(exposure: str, leverage: str) -> wire.LimitSet:
    limits = wire.NodeLimits(max_exposure_notional=exposure, max_leverage=leverage)
    return wire.LimitSet(scope=types_pb2.Scope(owner="desk"), limits=limits, currency="USDT")


async def put_both(desk: Desk, exposure: str, leverage: str) -> Any:
    return await ask(desk, "PutLimitSet", limit_set=both(exposure, leverage))


async def test_what_this_version_can_not_read_ends_and_says_so(tmp_path: Path) -> None:
    """Proposed by a later version, and this one is what the service went back to."""
    async with floor(tmp_path) as one:
        asked = await ask(one.ann, "DeleteLimitSet", scope=types_pb2.Scope(owner="desk"), reason="over")
        assert reasons(asked.violations) == ["LIMIT_SET_NOT_FOUND"]
        await put_both(one.ann, "400", "3")
        asked = await put_both(one.ann, "600", "3")
        changes = one.engine.house.changes
        unread = msgspec.structs.replace(changes[asked.pending_change_id], command=msgspec.Raw(b'{"type":"Unheard"}'))
        changes[asked.pending_change_id] = unread
        answer = await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)
        assert (answer.accepted, reasons(answer.violations)) == (False, ["CHANGE_NOT_FOUND"])
        assert not one.engine.house.changes[asked.pending_change_id].is_due
        assert exposure(one) == ["ENFORCED 400"]


async def test_limits_of_paper_accounts_need_one_person(tmp_path: Path) -> None:
    async with floor(tmp_path) as one:
        for most in ("500", "600"):
            assert (await put(one.ann, most, {"owner": "paper-desk"})).accepted
        assert (await ask(one.ann, "DeleteLimitSet", scope=types_pb2.Scope(owner="paper-desk"), reason="over")).accepted
        assert await listed(one.ben) == []


@pytest.mark.parametrize("scope", [{"account_id": "alice", "strategy": "momo"}, {"strategy": "momo"}], ids=str)
async def test_a_halt_of_a_strategy_is_ended_by_two(tmp_path: Path, scope: dict[str, str]) -> None:
    node = types_pb2.Scope(**scope)
    async with floor(tmp_path) as one:
        assert (await ask(one.ann, "HaltTrading", node=node, reason="drill")).accepted
        asked = await ask(one.ann, "ResumeTrading", node=node, reason="over")
        assert reasons(asked.violations) == ["NEEDS_SECOND_PERSON"]
        assert len(one.engine.house.halts) == 1
        assert (await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)).accepted
        assert not one.engine.house.halts
