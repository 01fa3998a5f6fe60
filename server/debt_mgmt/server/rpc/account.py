"""AccountService: opens, shows, syncs and closes accounts, and says what each broker can do."""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Account, Environment, MarginMode, PositionMode
from debt_mgmt.core.apply import apply
from debt_mgmt.core.money import text
from debt_mgmt.core.venue import SyncState, SyncStatus
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import carried_out, opening, reading, verdict
from debt_mgmt.server.rpc.brokers import BROKERS, PAPER, broker_message
from debt_mgmt.server.rpc.changes import verdict_of_account
from debt_mgmt.server.rpc.differences import differences
from debt_mgmt.server.rpc.names import (
    ENVIRONMENT,
    MARGIN_MODE,
    POSITION_MODE,
    PROVENANCE,
    RISK_LEVEL,
    TRADING_STATE,
    Names,
)
from debt_mgmt.server.rpc.pages import cursor_of, page_of, token_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import account_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call

LIVE_CURRENCY = "USDT"
"""What a live account is valued in where nobody says otherwise."""


class AccountService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def CreateAccount(self, request: wire.CreateAccountRequest, call: "Call") -> wire.CreateAccountResponse:
        engine = self.engine
        command, request_id = read_creation(request)
        if command.environment is not Environment.SANDBOX and command.account_id not in engine.home:
            engine.second_person.check_opening(command)
            engine.live.refuse_opening(command.broker, command.environment)
        committed = await engine.submit(
            command.account_id, command, request_id=request_id, actor=call.actor, owner=command.owner
        )
        account: Account | None = None
        for event in committed.events:
            account = apply(account, event)
        assert account is not None
        place = (engine.home[command.account_id], committed.last_position)
        return wire.CreateAccountResponse(
            **opening(place, committed), account=account_message(engine, account, position=committed.last_position)
        )

    async def GetAccount(self, request: wire.GetAccountRequest, call: "Call") -> wire.GetAccountResponse:
        engine = self.engine
        read = Reader()
        account_id = read.account_id(request.account_id)
        read.done()
        account = engine.account(account_id)
        return wire.GetAccountResponse(
            **reading(engine.revision(account_id), engine.clock()), account=account_message(engine, account)
        )

    async def ListAccounts(self, request: wire.ListAccountsRequest, call: "Call") -> wire.ListAccountsResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        owner = read.optional_id(request.owner, "owner")
        broker = read.optional_id(request.broker, "broker")
        environment = read.optional_choice(request.environment, ENVIRONMENT, "environment")
        read.done()
        filters = (owner, broker, environment, request.include_closed)
        cursor = cursor_of(request.page_token, "ListAccounts", *filters)
        ids = call.actor.seen(engine.accounts())
        first = bisect_right(ids, str(cursor[0])) if cursor is not None else 0
        wanted: Iterator[Account] = (
            account
            for account in map(engine.account, islice(ids, first, None))
            if (not owner or account.owner == owner)
            and (not broker or account.broker == broker)
            and (environment is None or account.environment is environment)
            and (request.include_closed or account.closed_at is None)
        )
        found = list(islice(wanted, size + 1))
        page = found[:size]
        following = token_of([page[-1].account_id], "ListAccounts", *filters) if len(found) > size else ""
        return wire.ListAccountsResponse(
            **reading(engine.house_revision(), engine.clock()),
            accounts=[account_message(engine, account) for account in page],
            next_page_token=following,
        )

    async def CloseAccount(self, request: wire.CloseAccountRequest, call: "Call") -> wire.CloseAccountResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        reason = read.text(request.reason, "reason")
        read.done()
        committed, account = await carried_out(
            engine, account_id, c.CloseAccount(reason), request_id=request_id, actor=call.actor
        )
        return wire.CloseAccountResponse(
            **verdict(engine, account_id, committed),
            account=account_message(engine, account, position=committed.last_position),
        )

    async def SyncAccount(self, request: wire.SyncAccountRequest, call: "Call") -> wire.SyncAccountResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        read.done()
        before, committed = await engine.live.sync(account_id, request_id, call.actor)
        return wire.SyncAccountResponse(
            **verdict(engine, account_id, committed),
            account=account_message(engine, engine.account(account_id)),
            differences=await differences(engine, before, committed),
        )

    async def SetDryRun(self, request: wire.SetDryRunRequest, call: "Call") -> wire.SetDryRunResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        reason = read.text(request.reason, "reason")
        if not request.dry_run and not reason.strip():
            read.problem("reason", "is required to leave dry run: from then on orders are sent")
        read.done()
        command = c.SetDryRun(request.dry_run, reason)
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        return wire.SetDryRunResponse(
            **await verdict_of_account(engine, call, account_id, command, request_id, committed),
            account=account_message(engine, account, position=committed.last_position),
        )

    async def ListBrokers(self, request: wire.ListBrokersRequest, call: "Call") -> wire.ListBrokersResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        read.done()
        page, following = page_of(BROKERS, lambda one: [one], size, request.page_token, "ListBrokers")
        return wire.ListBrokersResponse(
            **reading(engine.house_revision(), engine.clock()),
            brokers=[broker_message(one, engine.risk, engine.live.venues) for one in page],
            next_page_token=following,
        )


def read_creation(request: wire.CreateAccountRequest) -> tuple[c.CreateAccount, str]:
    """The command and its request id. Whether the broker can be reached is not looked at here."""
    read = Reader()
    request_id = read.request_id(request.request_id)
    account_id = read.account_id(request.account_id)
    broker = read.optional_id(request.broker, "broker") or PAPER
    if broker not in BROKERS:
        read.problem("broker", f"is not known: {', '.join(sorted(BROKERS))} are")
    environment = read.choice(request.environment, ENVIRONMENT, "environment", Environment.SANDBOX)
    deposit_asset, deposit_amount = "", None
    if request.HasField("initial_deposit"):
        deposit_asset = read.asset(request.initial_deposit.asset, "initial_deposit.asset")
        deposit_amount = read.not_negative(request.initial_deposit.amount, "initial_deposit.amount")
        if environment is not Environment.SANDBOX:
            read.problem("initial_deposit", "only a SANDBOX account begins with a deposit")
    if environment is not Environment.SANDBOX and broker == PAPER:
        read.problem("broker", f"{environment.value} accounts are at an exchange: {', '.join(PROFILES)}")
    if environment is Environment.SANDBOX and request.dry_run:
        read.problem("dry_run", "is of no use on a SANDBOX account: nothing of it leaves this service")
    currency = read.optional_asset(request.currency, "currency")
    if not currency and environment is not Environment.SANDBOX:
        currency = LIVE_CURRENCY
    command = c.CreateAccount(
        account_id=account_id,
        owner=read.optional_id(request.owner, "owner") or account_id,
        broker=broker,
        environment=environment,
        currency=currency,
        position_mode=read.choice(request.position_mode, POSITION_MODE, "position_mode", PositionMode.ONE_WAY),
        margin_mode=read.choice(request.margin_mode, MARGIN_MODE, "margin_mode", MarginMode.CROSS),
        deposit_asset=deposit_asset,
        deposit_amount=deposit_amount,
        dry_run=request.dry_run if request.HasField("dry_run") else None,
    )
    read.done()
    return command, request_id


def account_message(engine: "Engine", account: Account, *, position: int | None = None) -> wire.Account:
    """An account; `position` is that of its last change, where it is known better than by the engine."""
    shard, latest = engine.revision(account.account_id)
    if position is None:
        position = engine.changed_at.get(account.account_id, latest)
    state, reason = convert.trading_state(account, engine.house)
    return wire.Account(
        account_id=account.account_id,
        owner=account.owner,
        broker=account.broker,
        environment=ENVIRONMENT.wire[account.environment],
        currency=account.currency,
        position_mode=POSITION_MODE.wire[account.position_mode],
        margin_mode=MARGIN_MODE.wire[account.margin_mode],
        dry_run=account.dry_run,
        balances=convert.asset_amounts(account.balances),
        level=RISK_LEVEL.wire[account.level],
        trading_state=TRADING_STATE.wire[state],
        trading_state_reason=reason,
        create_time=convert.timestamp(account.created_at),
        close_time=convert.optional_timestamp(account.closed_at),
        revision=convert.revision((shard, position)),
        sync=sync_message(account.sync, engine.clock(), engine) if account.sync is not None else None,
    )


SYNC_STATUS = Names(SyncStatus, wire.SyncStatus, "SYNC_STATUS")


def sync_message(sync: SyncState, at: datetime, engine: "Engine") -> wire.AccountSync:
    """How well the broker's side is known. What was read too long ago is lost, also before that is journaled."""
    health, status, reason = sync.health, sync.status, sync.reason
    if status is SyncStatus.FRESH and sync.at is not None and at - sync.at > engine.risk.live_state_max_age:
        status, reason = SyncStatus.LOST, "it was read too long ago"
    message = wire.AccountSync(
        status=SYNC_STATUS.wire[status],
        reason=reason,
        sync_time=convert.optional_timestamp(sync.at),
        age=convert.duration(max(at - sync.at, timedelta(0))) if sync.at is not None else None,
        venue_currency=health.currency,
        venue_equity=convert.optional_text(health.equity),
        venue_initial_margin=convert.optional_text(health.initial_margin),
        venue_maintenance_margin=convert.optional_text(health.maintenance_margin),
        drifts=[
            wire.FigureDrift(
                name=one.name, own_value=text(one.own), venue_value=text(one.venue), tolerance=text(one.tolerance)
            )
            for _, one in sorted(sync.drift.items())
        ],
    )
    if sync.at is not None:
        message.venue_provenance = PROVENANCE.wire[health.provenance]
    return message
