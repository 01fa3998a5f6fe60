"""Changes that wait for a second person, and halts of nodes, reach those who are configured: once, over restarts."""

from datetime import timedelta
from pathlib import Path

from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.notify.outbox import Aim
from debt_mgmt.v1 import types_pb2
from tests.server.notify.places import Place, place, until
from tests.server.notify.test_telling import telling_of, webhook
from tests.server.security.test_four_eyes import Floor, ask, dry_run, floor
from tests.support.service import Clock

MOMO = types_pb2.Scope(account_id="alice", strategy="momo")


def told(there: Place) -> list[tuple[str, str, str]]:
    return [tuple(one.json["data"][name] for name in ("kind", "severity", "account_id")) for one in there.got]


async def proposed(one: Floor) -> str:
    asked = await dry_run(one.ann, False)
    assert asked.pending_change_id
    return str(asked.pending_change_id)


async def test_a_change_that_waits_is_told_once_and_not_again_after_a_restart(tmp_path: Path) -> None:
    journal, clock = MemoryJournal(), Clock()
    async with place() as there:
        async with floor(tmp_path, journal=journal, clock=clock) as one:
            await proposed(one)
            telling = await telling_of(one.opened.bare, webhook(there, clock))
            change_id = await proposed(one)
            await until(lambda: telling.told == 1 and telling.waiting == 0)
            await telling.stop()
            assert [got.json["data"]["subject"] for got in there.got] == [change_id], "and none of the past"
            assert told(there) == [("CHANGE_PROPOSED", "WARNING", "alice")]
            assert "by ann waits for a second person" in there.got[0].json["data"]["message"]
            missed = await proposed(one)
        async with floor(tmp_path, journal=journal, clock=clock, furnished=True) as one:
            telling = await telling_of(one.opened.bare, webhook(there, clock))
            await until(lambda: telling.told == 1)
            await telling.stop()
            assert [got.json["data"]["subject"] for got in there.got] == [change_id, missed]


async def test_the_second_person_is_reminded_until_the_change_is_decided(tmp_path: Path) -> None:
    clock, aim = Clock(), Aim(escalate_after=timedelta(minutes=10))
    async with place() as there, floor(tmp_path, clock=clock) as one:
        telling = await telling_of(one.opened.bare, webhook(there, clock), aim)
        decided, waiting = await proposed(one), await proposed(one)
        assert (await ask(one.ben, "RejectChange", change_id=decided)).accepted
        for count in (1, 2):
            clock.advance(minutes=10)
            await until(lambda count=count: telling.told == count)  # type: ignore[misc]
        assert (await ask(one.ben, "ApproveChange", change_id=waiting)).accepted
        await until(lambda: not telling.outboxes[0].waiting)
        clock.advance(minutes=30)
        await telling.stop()
        assert [got.json["data"]["subject"] for got in there.got] == [waiting] * 2
        assert [got.json["data"]["reminder"] for got in there.got] == [0, 1]


async def test_halts_of_nodes_and_their_ends_are_told(tmp_path: Path) -> None:
    clock = Clock()
    async with place() as there, floor(tmp_path, clock=clock) as one:
        telling = await telling_of(one.opened.bare, webhook(there, clock))
        assert (await ask(one.ann, "HaltTrading", everything=True, reason="drill")).accepted
        assert (await ask(one.ann, "HaltTrading", node=MOMO, reason="drill")).accepted
        asked = await ask(one.ann, "ResumeTrading", node=MOMO, reason="over")
        assert (await ask(one.ben, "ApproveChange", change_id=asked.pending_change_id)).accepted
        await until(lambda: telling.told == 4)
        await telling.stop()
    assert told(there) == [
        ("TRADING_HALTED", "CRITICAL", ""),
        ("TRADING_HALTED", "CRITICAL", "alice"),
        ("CHANGE_PROPOSED", "WARNING", "alice"),
        ("TRADING_RESUMED", "WARNING", "alice"),
    ]
    assert [got.json["data"]["node"] for got in there.got][:2] == ["the house", "account alice, strategy momo"]
