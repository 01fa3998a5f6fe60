"""DebtService: money borrowed and paid back, what is owed, what secures it, and what it costs."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Debt, Environment, Figures
from debt_mgmt.core.interest import rate_at
from debt_mgmt.core.loans import largest_loan
from debt_mgmt.core.margin import figures, summarize
from debt_mgmt.core.money import text
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import carried_out, reading, refusal_of, verdict
from debt_mgmt.server.rpc.brokers import must_lend
from debt_mgmt.server.rpc.debt_figures import daily_rate, debt_message, debt_of, debts_of, summary_message
from debt_mgmt.server.rpc.interest_charges import list_interest_charges
from debt_mgmt.server.rpc.pages import page_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.server.rpc.venue_requests import loan_request
from debt_mgmt.v1 import debt_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class DebtService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def Borrow(self, request: wire.BorrowRequest, call: "Call") -> wire.BorrowResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        asset = read.asset(request.asset)
        amount = read.positive(request.amount, "amount")
        read.done()
        apart = must_lend(engine.account(account_id))
        await engine.live.try_to_price(engine.account(account_id), asset)
        command = c.Borrow(asset, amount, apart)
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        asked = await loan_request(engine, account_id, committed, call)
        told = answer_of(committed.events)
        assert not isinstance(told, e.Repaid), "a loan is no repayment"
        after = told.after if isinstance(told, e.CommandRefused) else told.figures
        if asked is not None:
            account, after = engine.account(account_id), None
        return wire.BorrowResponse(
            **verdict(engine, account_id, committed),
            debt=debt_message(account, asset, engine.world(), apart=apart),
            largest_amount=convert.optional_text(told.largest_amount),
            before=self.margin_figures(account, told.before),
            after=self.margin_figures(account, after),
            venue_request=asked[0] if asked is not None else None,
        )

    async def Repay(self, request: wire.RepayRequest, call: "Call") -> wire.RepayResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        asset = read.asset(request.asset)
        amount = read.optional(request, "amount", read.positive)
        read.done()
        apart = must_lend(engine.account(account_id))
        command = c.Repay(asset, amount, apart)
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        asked = await loan_request(engine, account_id, committed, call)
        if asked is not None:
            account = engine.account(account_id)
        told: e.AccountEvent | None = answer_of(committed.events) if asked is None else asked[1]
        paid = told if isinstance(told, e.Repaid) else None
        return wire.RepayResponse(
            **verdict(engine, account_id, committed),
            interest_paid=convert.optional_text(paid.interest_paid if paid is not None else None),
            principal_paid=convert.optional_text(paid.principal_paid if paid is not None else None),
            debt=debt_message(account, asset, engine.world(), apart=apart),
            after=self.margin_figures(account, paid.figures if paid is not None and asked is None else None),
            venue_request=asked[0] if asked is not None else None,
        )

    def margin_figures(self, account: Account, shown: Figures | None) -> types_pb2.MarginFigures:
        """The figures kept with the event; where it kept none, those at the present marks."""
        if shown is None:
            shown = figures(summarize(account, self.engine.world()))
        return convert.margin_figures(shown, self.engine.risk, account.level)

    async def GetDebtSummary(self, request: wire.GetDebtSummaryRequest, call: "Call") -> wire.GetDebtSummaryResponse:
        engine, world = self.engine, self.engine.world()
        read = Reader()
        account_id = read.optional_id(request.account_id, "account_id")
        owner = read.optional_id(request.owner, "owner")
        read.done()
        by_currency: dict[str, list[Account]] = {}
        for one in self.accounts(account_id, call):
            if one.closed_at is None and owner in ("", one.owner):
                by_currency.setdefault(one.currency, []).append(one)
        sums = [
            summary_message(currency, [(one, engine.view_of(one, world).summary) for one in accounts], world)
            for currency, accounts in sorted(by_currency.items())
        ]
        return wire.GetDebtSummaryResponse(
            **reading(self.place(account_id), world.at),
            summary=sums[0] if len(sums) == 1 else None,
            by_currency=sums,
        )

    async def ListDebts(self, request: wire.ListDebtsRequest, call: "Call") -> wire.ListDebtsResponse:
        world = self.engine.world()
        read = Reader()
        account_id = read.optional_id(request.account_id, "account_id")
        size = read.page_size(request.page_size)
        asset = read.optional_asset(request.asset, "asset")
        read.done()
        owed = [
            (one, debt, apart)
            for one in self.accounts(account_id, call)
            for debt, apart in debts_of(one)
            if asset in ("", debt.asset)
        ]
        page, following = page_of(owed, place_of, size, request.page_token, "ListDebts", account_id, asset)
        return wire.ListDebtsResponse(
            **reading(self.place(account_id), world.at),
            debts=[debt_of(one, debt, world, apart=apart) for one, debt, apart in page],
            next_page_token=following,
        )

    async def ListInterestCharges(
        self, request: wire.ListInterestChargesRequest, call: "Call"
    ) -> wire.ListInterestChargesResponse:
        return await list_interest_charges(self.engine, request)

    async def ListBorrowRates(self, request: wire.ListBorrowRatesRequest, call: "Call") -> wire.ListBorrowRatesResponse:
        engine, world = self.engine, self.engine.world()
        read = Reader()
        account_id = read.account_id(request.account_id)
        size = read.page_size(request.page_size)
        assets = read.several(request.assets, "assets", read.asset)
        read.done()
        account = engine.account(account_id)
        lent = world.house.borrow_rates if account.environment is Environment.SANDBOX else {}
        found = [
            rate
            for asset, history in lent.items()
            if (not assets or asset in assets) and (rate := rate_at(history, world.at)) is not None
        ]
        page, following = page_of(
            found, lambda rate: [rate.asset], size, request.page_token, "ListBorrowRates", account_id, assets
        )
        return wire.ListBorrowRatesResponse(
            **reading(engine.revision(account_id), world.at),
            rates=[
                wire.BorrowRate(
                    asset=rate.asset,
                    annual_rate=text(rate.annual_rate),
                    daily_rate=text(daily_rate(rate.annual_rate)),
                    interest_clock=rate.clock,
                    available_amount=convert.optional_text(largest_loan(account, world, rate.asset)),
                    effective_time=convert.timestamp(rate.effective_at),
                )
                for rate in page
            ],
            next_page_token=following,
        )

    def accounts(self, account_id: str, call: "Call") -> Iterable[Account]:
        """One account, or all that the caller may see."""
        return map(self.engine.account, [account_id] if account_id else call.actor.seen(self.engine.accounts()))

    def place(self, account_id: str) -> tuple[int, int]:
        return self.engine.revision(account_id) if account_id else self.engine.house_revision()


def place_of(owed: tuple[Account, Debt, bool]) -> list[str | int]:
    """Debts are listed by account, asset and wallet."""
    account, debt, apart = owed
    return [account.account_id, debt.asset, *(["apart"] if apart else [])]


def answer_of(events: "Sequence[e.Event]") -> e.Borrowed | e.Repaid | e.LoanRequested | e.CommandRefused:
    """What became of the request; interest that was due by then may be charged before it."""
    answers = e.Borrowed | e.Repaid | e.LoanRequested
    told = refusal_of(events) or next((one for one in events if isinstance(one, answers)), None)
    assert told is not None, "a loan or a repayment leaves an event or a refusal"
    return told
