"""WatchMargin: snapshots, then each change in full, merged to what the watcher can take, with a token to resume by."""

import base64
import binascii
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from debt_mgmt.core.account import Reduction
from debt_mgmt.core.faults import Fault
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.server.watch import Due, Revision, Watcher
from debt_mgmt.v1 import margin_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.rpc.guard import Call

MIN_INTERVAL_SECONDS = 0.2
HEARTBEAT_SECONDS = 10.0
INTERVAL_MOST = timedelta(hours=1)
DRAIN_SECONDS = 5.0


class _Token(msgspec.Struct, array_like=True):
    """Where a watcher was: the position of every shard, the house log first."""

    positions: list[int]


class Watching:
    """Serves WatchMargin."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def WatchMargin(
        self, request: wire.WatchMarginRequest, call: "Call"
    ) -> AsyncIterator[wire.WatchMarginResponse]:
        engine = self.engine
        read = Reader()
        account_ids = read.several(request.account_ids, "account_ids", read.account_id)
        interval = read.duration(request, "min_interval", most=INTERVAL_MOST)
        heartbeat = read.duration(request, "heartbeat_interval", most=INTERVAL_MOST)
        read.done()
        for account_id in account_ids:
            engine.account(account_id)
        chosen = frozenset(account_ids) if account_ids else call.actor.accounts
        watcher = Watcher(
            chosen,
            interval.total_seconds() if interval is not None else MIN_INTERVAL_SECONDS,
            heartbeat.total_seconds() if heartbeat is not None else HEARTBEAT_SECONDS,
        )
        engine.hub.add(watcher)
        try:
            async for response in self.opening(watcher, request.resume_token):
                yield response
            while True:
                due = await watcher.take()
                async for response in self.said(watcher, due):
                    yield response
                if due.kind == "draining":
                    return
        finally:
            engine.hub.remove(watcher)

    async def opening(self, watcher: Watcher, resume_token: str) -> AsyncIterator[wire.WatchMarginResponse]:
        """What changed since the token, or a snapshot of every account."""
        if resume_token:
            since = self.positions_of(resume_token)
            if since is None:
                response = self.response(watcher)
                response.resync_required.reason = "the resume token is not of this journal, or is damaged"
                yield response
            else:
                for account_id in self.watched(watcher):
                    async for response in self.missed(watcher, account_id, since):
                        yield response
                return
        count = 0
        for account_id in self.watched(watcher):
            response = self.response(watcher, account_id)
            response.snapshot.CopyFrom(self.status(account_id))
            watcher.dirty.pop(account_id, None)
            count += 1
            yield response
        response = self.response(watcher)
        response.snapshot_complete.account_count = count
        yield response

    def watched(self, watcher: Watcher) -> list[str]:
        """The accounts that are told of. A caller who is limited to some may have named one that is still to come."""
        engine = self.engine
        if watcher.account_ids is not None:
            return [account_id for account_id in sorted(watcher.account_ids) if account_id in engine.home]
        return [account_id for account_id in engine.accounts() if engine.account(account_id).closed_at is None]

    async def missed(
        self, watcher: Watcher, account_id: str, since: list[int]
    ) -> AsyncIterator[wire.WatchMarginResponse]:
        """Alerts and liquidations since the token, then the account as it is now."""
        engine = self.engine
        account = engine.account(account_id)
        position = since[engine.home[account_id]]
        for alert in account.alerts:
            if place_in_journal(alert.alert_id) > position:
                response = self.response(watcher, account_id)
                response.alert.CopyFrom(convert.alert(alert, account_id, engine.risk))
                yield response
        for reduction in (*account.past_reductions, *([account.reduction] if account.reduction is not None else [])):
            if (
                place_in_journal(reduction.plan_id) > position
                or reduction.ended_at is None
                or self.ended_since(reduction, account_id, position)
            ):
                response = self.response(watcher, account_id)
                response.liquidation.CopyFrom(convert.liquidation(reduction, account_id, engine.risk))
                yield response
        response = self.response(watcher, account_id)
        response.update.CopyFrom(self.status(account_id))
        yield response

    def ended_since(self, reduction: Reduction, account_id: str, position: int) -> bool:
        """Whether a reduction may have ended after a position: the last one of an account that changed since."""
        account = self.engine.account(account_id)
        changed = self.engine.changed_at.get(account_id, position + 1) > position
        return changed and reduction is account.past_reductions[-1]

    async def said(self, watcher: Watcher, due: Due) -> AsyncIterator[wire.WatchMarginResponse]:
        """The messages that tell what is due."""
        response = self.response(watcher, due.account_id, due.revision)
        match due.kind:
            case "update":
                try:
                    response.update.CopyFrom(self.status(due.account_id))
                except Fault:
                    return
                response.conflated_count = due.conflated
            case "alert":
                assert due.alert is not None
                message = convert.alert(due.alert, due.account_id, self.engine.risk)
                response.alert.CopyFrom(message)
            case "liquidation":
                assert due.liquidation is not None
                message_of_plan = convert.liquidation(due.liquidation, due.account_id, self.engine.risk)
                response.liquidation.CopyFrom(message_of_plan)
            case "heartbeat":
                response.heartbeat.SetInParent()
            case "draining":
                deadline = self.engine.clock() + timedelta(seconds=DRAIN_SECONDS)
                response.draining.deadline.CopyFrom(convert.timestamp(deadline))
            case "resync":
                response.resync_required.reason = "more alerts waited than are kept for a reader that does not read"
                yield response
                async for snapshot in self.opening(watcher, ""):
                    yield snapshot
                return
        yield response

    def status(self, account_id: str) -> wire.MarginStatus:
        engine = self.engine
        account, world = engine.account(account_id), engine.world()
        return convert.margin_status(account, engine.view_of(account, world).summary, world)

    def response(
        self, watcher: Watcher, account_id: str = "", revision: Revision | None = None
    ) -> wire.WatchMarginResponse:
        engine = self.engine
        if revision is None:
            revision = engine.revision(account_id) if account_id in engine.home else engine.house_revision()
        response = wire.WatchMarginResponse(resume_token=self.token(watcher))
        response.revision.shard, response.revision.position = revision
        response.as_of.CopyFrom(convert.timestamp(engine.clock()))
        return response

    def token(self, watcher: Watcher) -> str:
        """How far the watcher was told everything: the heads of the logs, but before what still waits to be said."""
        positions = self.heads()
        for due in watcher.urgent:
            if due.revision is not None:
                shard, position = due.revision
                positions[shard] = min(positions[shard], position - 1)
        if watcher.account_ids is not None:
            told = {0, *(self.engine.home[one] for one in watcher.account_ids if one in self.engine.home)}
            positions = [position if shard in told else 0 for shard, position in enumerate(positions)]
        return base64.urlsafe_b64encode(msgspec.json.encode(_Token(positions))).decode()

    def heads(self) -> list[int]:
        engine = self.engine
        return [engine.house_revision()[1], *(shard.revision.position for shard in engine.shards.values())]

    def positions_of(self, token: str) -> list[int] | None:
        """The positions in a token; None where it is not one of this journal."""
        try:
            positions = msgspec.json.decode(base64.urlsafe_b64decode(token.encode("ascii")), type=_Token).positions
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            return None
        heads = self.heads()
        if len(positions) != len(heads) or any(was > head for was, head in zip(positions, heads, strict=True)):
            return None
        return positions


def place_in_journal(made_id: str) -> int:
    """The position in the id of an alert or a plan, which is made from it."""
    return int(made_id.rpartition("-")[2])
