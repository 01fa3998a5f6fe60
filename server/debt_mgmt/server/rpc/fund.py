"""FundService: an account's capital, what is put in and taken out, and the way back to the start."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Figures
from debt_mgmt.core.margin import Summary, World, figures, summarize
from debt_mgmt.core.money import ZERO, owned, text
from debt_mgmt.core.refusals import Reason
from debt_mgmt.core.resets import next_reset
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import carried_out, reading, refusal_of, verdict
from debt_mgmt.server.rpc.fund_history import list_fund_history
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.server.shard_answers import Committed
from debt_mgmt.v1 import fund_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class FundService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def GetFunds(self, request: wire.GetFundsRequest, call: "Call") -> wire.GetFundsResponse:
        engine = self.engine
        read = Reader()
        account_id = read.account_id(request.account_id)
        read.done()
        view, world = engine.view(account_id), engine.world()
        return wire.GetFundsResponse(
            **reading(engine.revision(account_id), world.at), funds=funds_message(view.account, view.summary, world)
        )

    async def Deposit(self, request: wire.DepositRequest, call: "Call") -> wire.DepositResponse:
        account_id, command, request_id = read_transfer(request, 1)
        committed, account = await carried_out(
            self.engine, account_id, command, request_id=request_id, actor=call.actor
        )
        return wire.DepositResponse(
            **verdict(self.engine, account_id, committed),
            balance=balance_message(account, command.asset),
            after=after_message(self.engine, account, committed),
        )

    async def Withdraw(self, request: wire.WithdrawRequest, call: "Call") -> wire.WithdrawResponse:
        account_id, command, request_id = read_transfer(request, -1)
        committed, account = await carried_out(
            self.engine, account_id, command, request_id=request_id, actor=call.actor
        )
        return wire.WithdrawResponse(
            **verdict(self.engine, account_id, committed),
            balance=balance_message(account, command.asset),
            after=after_message(self.engine, account, committed),
            largest_amount=largest_amount(committed.events),
        )

    async def ResetFunds(self, request: wire.ResetFundsRequest, call: "Call") -> wire.ResetFundsResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        reason = read.text(request.reason, "reason")
        read.done()
        committed, account = await carried_out(
            engine, account_id, c.ResetFunds(reason), request_id=request_id, actor=call.actor
        )
        world = msgspec.structs.replace(engine.world(), at=committed.at)
        return wire.ResetFundsResponse(
            **verdict(engine, account_id, committed),
            funds=funds_message(account, summarize(account, world), world, figures_in(committed.events)),
        )

    async def ListFundHistory(self, request: wire.ListFundHistoryRequest, call: "Call") -> wire.ListFundHistoryResponse:
        return await list_fund_history(self.engine, request)


def read_transfer(request: wire.DepositRequest | wire.WithdrawRequest, sign: int) -> tuple[str, c.Transfer, str]:
    """The account, the command and the request id of a deposit (sign 1) or a withdrawal (-1)."""
    read = Reader()
    request_id = read.request_id(request.request_id)
    account_id = read.account_id(request.account_id)
    asset = read.asset(request.asset)
    amount = read.positive(request.amount, "amount")
    reason = read.text(request.reason, "reason")
    read.done()
    return account_id, c.Transfer(asset, amount * sign, reason), request_id


def balance_message(account: Account, asset: str) -> types_pb2.AssetAmount:
    return types_pb2.AssetAmount(asset=asset, amount=text(account.balances.get(asset, ZERO)))


def figures_in(events: "Sequence[e.Event]") -> Figures | None:
    """The figures that a command left, as they are kept with its first event."""
    shown: Figures | None = getattr(events[0], "figures", None) if events else None
    return shown


def after_message(
    engine: "Engine", account: Account, committed: "Committed[e.AccountEvent]"
) -> types_pb2.MarginFigures:
    """The account after the command; after a refusal, which changes nothing, as it is at the present marks."""
    shown = figures_in(committed.events)
    if shown is None:
        shown = figures(summarize(account, engine.world()))
    return convert.margin_figures(shown, engine.risk, account.level)


def largest_amount(events: "Sequence[e.Event]") -> str | None:
    """The most that could have been taken, where that is why a withdrawal was refused."""
    refused = refusal_of(events)
    for violation in refused.violations if refused is not None else ():
        if violation.reason is Reason.INSUFFICIENT_BALANCE:
            return convert.optional_text(violation.limit)
    return None


def funds_message(account: Account, summary: Summary, world: World, shown: Figures | None = None) -> wire.Funds:
    """The capital at these figures, or at those of `shown`, which were kept with an event."""
    if shown is None:
        shown = figures(summary)
    starting: types_pb2.AssetAmount | None = None
    if account.starting_capital is not None:
        asset = account.starting_asset or account.currency
        starting = types_pb2.AssetAmount(asset=asset, amount=text(account.starting_capital))
    collateral: Decimal | None = None
    unrealized: Decimal | None = None
    if summary.known:
        collateral, unrealized = convert.collateral_value(summary), owned(summary.unrealized_pnl)
    return wire.Funds(
        account_id=account.account_id,
        currency=account.currency,
        balances=convert.asset_amounts(account.balances),
        starting_capital=starting,
        available_balance=convert.optional_text(shown.margin_available),
        used_margin=convert.optional_text(shown.margin_used),
        collateral_value=convert.optional_text(collateral),
        realized_pnl=convert.optional_text(convert.total_in_currency(account.realized_pnl, account, world)),
        unrealized_pnl=convert.optional_text(unrealized),
        last_reset_time=convert.optional_timestamp(account.last_reset_at),
        next_reset_time=convert.optional_timestamp(next_reset_of(account, world)),
        reset_count=account.reset_count,
        realized_pnl_today=convert.optional_text(convert.realized_today(account, world)),
    )


def next_reset_of(account: Account, world: World) -> datetime | None:
    house = world.house
    return next_reset(account, house.reset_schedule, house.reset_schedule_since, world.at)
