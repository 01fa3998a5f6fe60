"""MarginService: what an account has, margin held for orders, fills, closing, what-if, and the live stream."""

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from debt_mgmt.core import account as a
from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.margin import Summary, World, figures, summarize
from debt_mgmt.core.money import ZERO, owned, ratio, required, text, total
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.whatif import shocked, simulate
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import CODEC, carried_out, folded
from debt_mgmt.server.rpc.checks import Checks
from debt_mgmt.server.rpc.fund import after_message
from debt_mgmt.server.rpc.names import LIQUIDATION_CAUSE, SIDE
from debt_mgmt.server.rpc.orders import PaperOrders, fill_message
from debt_mgmt.server.rpc.pages import page_of
from debt_mgmt.server.rpc.seen import as_seen
from debt_mgmt.server.rpc.validate import Reader, order_of, venue_of
from debt_mgmt.server.rpc.watching import Watching
from debt_mgmt.server.shard_answers import Committed, RequestIdReused
from debt_mgmt.v1 import margin_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.rpc.guard import Call

CHANGES_MOST = 500
CLOSE_WAIT_SECONDS = 5.0
"""How long ClosePosition waits for its fills before it answers that they go on."""


class MarginService(Checks, PaperOrders, Watching):
    """The handlers. Checks, paper orders and the stream have files of their own."""

    def __init__(self, engine: Engine, max_batch: int) -> None:
        self.engine = engine
        self.max_batch = max_batch

    # reading

    async def GetPortfolio(self, request: wire.GetPortfolioRequest, call: "Call") -> wire.GetPortfolioResponse:
        read = Reader()
        account_id = read.optional_id(request.account_id, "account_id")
        owner = read.optional_id(request.owner, "owner")
        read.done()
        engine, world = self.engine, self.engine.world()
        ids = [account_id] if account_id else call.actor.seen(engine.accounts())
        accounts = [engine.account(one) for one in ids]
        chosen = [one for one in accounts if one.closed_at is None and owner in ("", one.owner)]
        by_currency: dict[str, list[Account]] = {}
        for one in chosen:
            by_currency.setdefault(one.currency, []).append(one)
        sums = [self.portfolio(currency, by_currency[currency], world) for currency in sorted(by_currency)]
        place = engine.revision(account_id) if account_id else engine.house_revision()
        return wire.GetPortfolioResponse(
            revision=convert.revision(place),
            as_of=convert.timestamp(world.at),
            portfolio=sums[0] if len(sums) == 1 else None,
            by_currency=sums,
        )

    def portfolio(self, currency: str, accounts: list[Account], world: World) -> wire.Portfolio:
        """The sum of accounts valued in one currency; an amount that is unknown for one of them is absent."""
        pairs = [(one, self.engine.view_of(one, world).summary) for one in accounts]
        summaries = [summary for _, summary in pairs]
        message = wire.Portfolio(
            currency=currency,
            account_count=len(accounts),
            open_positions=sum(len(one.positions) for one in accounts),
            stale=any(one.missing or one.stale(world.at, world.settings.mark_max_age) for one in summaries),
        )
        debts = [convert.debt_value(one, summary) for one, summary in pairs]
        if None not in debts:
            message.debt = text(total(one for one in debts if one is not None))
        realized = [convert.total_in_currency(one.realized_pnl, one, world) for one in accounts]
        if None not in realized:
            message.realized_pnl = text(total(one for one in realized if one is not None))
        if not all(summary.known for summary in summaries):
            return message
        used, equity = total(one.used for one in summaries), total(one.equity for one in summaries)
        message.total_value = text(owned(total(one.total_value for one in summaries)))
        message.margin_used = text(required(used))
        message.margin_available = text(owned(total(one.available for one in summaries)))
        message.unrealized_pnl = text(owned(total(one.unrealized_pnl for one in summaries)))
        message.equity = text(owned(equity))
        share = ratio(used, equity)
        if share is not None:
            message.margin_utilization = text(share)
        return message

    async def GetMarginStatus(self, request: wire.GetMarginStatusRequest, call: "Call") -> wire.GetMarginStatusResponse:
        account, world = self.read_account(request.account_id)
        return wire.GetMarginStatusResponse(
            revision=self.place(account),
            as_of=convert.timestamp(world.at),
            status=convert.margin_status(account, self.summary(account, world), world),
        )

    async def ListPositions(self, request: wire.ListPositionsRequest, call: "Call") -> wire.ListPositionsResponse:
        read = self.reader_for(request.account_id)
        size = read.page_size(request.page_size)
        symbols = read.several(request.symbols, "symbols", read.symbol)
        account, world = self.read_account(request.account_id, read)
        found = [
            one
            for one in convert.positions(account, self.summary(account, world), world)
            if not symbols or one.symbol in symbols
        ]
        page, following = page_of(
            found,
            lambda one: [one.symbol, one.position_side],
            size,
            request.page_token,
            "ListPositions",
            account.account_id,
            symbols,
        )
        return wire.ListPositionsResponse(
            revision=self.place(account),
            as_of=convert.timestamp(world.at),
            positions=page,
            next_page_token=following,
        )

    async def ListReservations(
        self, request: wire.ListReservationsRequest, call: "Call"
    ) -> wire.ListReservationsResponse:
        read = self.reader_for(request.account_id)
        size = read.page_size(request.page_size)
        symbols = read.several(request.symbols, "symbols", read.symbol)
        account, world = self.read_account(request.account_id, read)
        found = [one for one in account.reservations.values() if not symbols or one.symbol in symbols]
        page, following = page_of(
            found,
            lambda one: [int(one.reservation_id.rpartition("-")[2])],
            size,
            request.page_token,
            "ListReservations",
            account.account_id,
            symbols,
        )
        return wire.ListReservationsResponse(
            revision=self.place(account),
            as_of=convert.timestamp(world.at),
            reservations=[convert.reservation(one, account, world) for one in page],
            next_page_token=following,
        )

    async def ListLiquidations(
        self, request: wire.ListLiquidationsRequest, call: "Call"
    ) -> wire.ListLiquidationsResponse:
        read = Reader()
        size = read.page_size(request.page_size)
        account_id = read.optional_id(request.account_id, "account_id")
        if request.cause not in wire.LiquidationCause.values():
            read.problem("cause", f"has no value {request.cause}")
        if request.state not in wire.LiquidationState.values():
            read.problem("state", f"has no value {request.state}")
        read.done()
        engine = self.engine
        ids = [account_id] if account_id else call.actor.seen(engine.accounts())
        found = [
            (one, account.account_id)
            for account in map(engine.account, ids)
            for one in (*account.past_reductions, *([account.reduction] if account.reduction else []))
            if request.cause in (0, LIQUIDATION_CAUSE[one.cause])
        ]
        messages = [convert.liquidation(one, owner_id, engine.risk) for one, owner_id in found]
        page, following = page_of(
            [one for one in messages if request.state in (0, one.state)],
            lambda one: [one.create_time.ToMicroseconds(), one.liquidation_id],
            size,
            request.page_token,
            "ListLiquidations",
            account_id,
            request.cause,
            request.state,
            newest_first=True,
        )
        return wire.ListLiquidationsResponse(
            revision=convert.revision(engine.revision(account_id) if account_id else engine.house_revision()),
            as_of=convert.timestamp(engine.clock()),
            liquidations=page,
            next_page_token=following,
        )

    # holding margin

    async def ReserveMargin(self, request: wire.ReserveMarginRequest, call: "Call") -> wire.ReserveMarginResponse:
        account = self.find_account(request.account_id)
        read = Reader(venue_of(account))
        request_id = read.request_id(request.request_id)
        order = order_of(read, request.order, "order", account.position_mode)
        time_to_live = read.duration(request, "time_to_live")
        client_order_id = read.optional_id(request.client_order_id, "client_order_id")
        read.done()
        if account.sync is not None:
            await self.engine.live.try_to_learn(account, [order.symbol])
        command = c.ReserveMargin(order, time_to_live, client_order_id)
        done = await self.engine.submit(request.account_id, command, request_id=request_id, actor=call.actor)
        event = done.events[0]
        response = wire.ReserveMarginResponse(
            revision=self.place_of(request.account_id, done),
            as_of=convert.timestamp(done.at),
            replayed=done.replayed,
            accepted=isinstance(event, e.MarginReserved),
        )
        if isinstance(event, e.CommandRefused):
            response.violations.extend(convert.violations(as_seen(event.violations, call.actor)))
            if event.largest_buy is not None:
                response.largest_buy = text(event.largest_buy)
            if event.largest_sell is not None:
                response.largest_sell = text(event.largest_sell)
        else:
            assert isinstance(event, e.MarginReserved)
            left = await self.as_left(account, done)
            response.reservation.CopyFrom(convert.reservation(event.reservation, left, self.engine.world()))
        if event.margin_required is not None:
            response.margin_required = text(event.margin_required)
        if event.margin_available is not None:
            response.margin_available = text(event.margin_available)
        if event.margin_utilization is not None:
            response.margin_utilization = text(event.margin_utilization)
        return response

    async def ReleaseReservation(
        self, request: wire.ReleaseReservationRequest, call: "Call"
    ) -> wire.ReleaseReservationResponse:
        account = self.find_account(request.account_id)
        read = Reader(venue_of(account))
        request_id = read.request_id(request.request_id)
        reservation_id = read.id(request.reservation_id, "reservation_id")
        quantity = read.optional(request, "quantity", read.positive)
        read.done()
        held = account.reservations.get(reservation_id)
        command = c.ReleaseReservation(reservation_id, quantity)
        done, left = await carried_out(
            self.engine, request.account_id, command, request_id=request_id, actor=call.actor
        )
        event = done.events[0]
        response = wire.ReleaseReservationResponse(
            revision=self.place_of(request.account_id, done),
            as_of=convert.timestamp(done.at),
            replayed=done.replayed,
            accepted=isinstance(event, e.ReservationReduced),
        )
        if isinstance(event, e.CommandRefused):
            response.violations.extend(convert.violations(event.violations))
            return response
        assert isinstance(event, e.ReservationReduced)
        response.reservation.CopyFrom(await self.reduced(left, held, event))
        if event.figures is not None:
            shown = convert.margin_figures(event.figures, self.engine.risk, left.level)
            if shown.HasField("margin_available"):
                response.margin_available = shown.margin_available
            if shown.HasField("margin_utilization"):
                response.margin_utilization = shown.margin_utilization
        return response

    async def reduced(
        self, account: Account, held: a.Reservation | None, event: e.ReservationReduced
    ) -> wire.Reservation:
        """The reservation as the event left it; one that is not `held` any more is read where it was made."""
        if held is None:
            shard, _, position = event.reservation_id.partition("-")
            (row,) = await self.engine.journal.read_rows(int(shard), int(position), int(position))
            made = CODEC.decode_event(row.payload)
            assert isinstance(made, e.MarginReserved | e.OrderPlaced)
            held = made.reservation
        return convert.reservation(
            msgspec.structs.replace(held, quantity=event.remaining), account, self.engine.world()
        )

    # fills and closing

    async def RecordFill(self, request: wire.RecordFillRequest, call: "Call") -> wire.RecordFillResponse:
        account = self.find_account(request.account_id)
        read = Reader(venue_of(account))
        request_id = read.request_id(request.request_id)
        command = self.fill_of(read, request, account)
        read.done()
        if account.sync is not None:
            await self.engine.live.learn(account, [command.symbol])
        held = account.reservations.get(command.reservation_id)
        try:
            done, left = await carried_out(
                self.engine, request.account_id, command, request_id=request_id, actor=call.actor
            )
        except RequestIdReused as reused:
            if reused.request_id == request_id:
                raise
            return self.told_before(account, command)
        event = done.events[0]
        response = wire.RecordFillResponse(
            revision=self.place_of(request.account_id, done),
            as_of=convert.timestamp(done.at),
            replayed=done.replayed,
            accepted=isinstance(event, e.FillRecorded),
            after=after_message(self.engine, left, done),
        )
        if isinstance(event, e.CommandRefused):
            response.violations.extend(convert.violations(event.violations))
            return response
        assert isinstance(event, e.FillRecorded)
        response.fill.CopyFrom(fill_message(event))
        response.balance_changes.extend(convert.asset_amounts(balance_changes(event)))
        if event.position is not None:
            response.position.CopyFrom(self.position_after(left, event.position))
        for follow in done.events[1:]:
            if isinstance(follow, e.ReservationReduced) and follow.reservation_id == command.reservation_id:
                response.reservation.CopyFrom(await self.reduced(left, held, follow))
        return response

    def told_before(self, account: Account, command: c.RecordFill) -> wire.RecordFillResponse:
        """The refusal of a fill whose id is in the books with other terms."""
        return wire.RecordFillResponse(
            revision=self.place(account),
            as_of=convert.timestamp(self.engine.clock()),
            violations=convert.violations([Violation(Reason.DUPLICATE_FILL, command.fill_id)]),
            after=convert.margin_figures(
                figures(summarize(account, self.engine.world())), self.engine.risk, account.level
            ),
        )

    def fill_of(self, read: Reader, request: wire.RecordFillRequest, account: Account) -> c.RecordFill:
        """The fill to record. Without a fee the paper rate counts on a sandbox account, and none elsewhere."""
        symbol = read.symbol(request.symbol)
        quantity = read.positive(request.quantity, "quantity")
        price = read.positive(request.price, "price")
        fee = read.optional(request, "fee", read.decimal)
        instrument = self.engine.house.instruments.get(symbol)
        if fee is None:
            fee = ZERO
            if account.environment is a.Environment.SANDBOX and instrument is not None and read.fine:
                value = quantity * instrument.contract_size
                value = value / price if instrument.inverse else value * price
                fee = required(value * instrument.taker_fee_rate)
        return c.RecordFill(
            fill_id=read.id(request.fill_id, "fill_id"),
            symbol=symbol,
            side=read.choice(request.side, SIDE, "side"),
            quantity=quantity,
            price=price,
            fee=fee,
            fee_asset=read.optional_asset(request.fee_asset, "fee_asset"),
            position_side=read.position_side(request.position_side, "position_side", account.position_mode),
            reservation_id=read.optional_id(request.reservation_id, "reservation_id"),
            order_id=read.optional_id(request.order_id, "order_id"),
            filled_at=read.timestamp(request, "fill_time"),
            strategy=read.optional_id(request.strategy, "strategy"),
        )

    def position_after(self, account: Account, position: a.Position) -> types_pb2.Position:
        """The position as the fill left it, at the present mark where there is one."""
        world = self.engine.world()
        summary = summarize(account, world)
        known = next((one for one in summary.positions if one.position == position), None)
        return convert.position(position, known, account, summary, world)

    async def ClosePosition(self, request: wire.ClosePositionRequest, call: "Call") -> wire.ClosePositionResponse:
        account = self.find_account(request.account_id)
        read = Reader(venue_of(account))
        request_id = read.request_id(request.request_id)
        command = c.ClosePosition(
            symbol=read.symbol(request.symbol),
            position_side=read.position_side(request.position_side, "position_side", account.position_mode),
            quantity=read.optional(request, "quantity", read.positive),
            reason=read.text(request.reason, "reason"),
        )
        read.done()
        done = await self.engine.submit(request.account_id, command, request_id=request_id, actor=call.actor)
        event = done.events[0]
        response = wire.ClosePositionResponse(
            revision=self.place_of(request.account_id, done),
            as_of=convert.timestamp(done.at),
            replayed=done.replayed,
            accepted=not isinstance(event, e.CommandRefused),
        )
        if isinstance(event, e.CommandRefused):
            response.violations.extend(convert.violations(event.violations))
            return response
        left = call.deadline_seconds
        wait = CLOSE_WAIT_SECONDS if left is None else max(0.0, min(CLOSE_WAIT_SECONDS, left - 0.5))
        await self.engine.reductions.idle(request.account_id, wait)
        plan = self.plan_of(request.account_id, event)
        if plan is not None:
            response.liquidation.CopyFrom(convert.liquidation(plan, request.account_id, self.engine.risk))
            response.done = plan.ended_at is not None
        return response

    def plan_of(self, account_id: str, event: e.AccountEvent) -> a.Reduction | None:
        """The plan that a close began or joined, as far as it is now."""
        account = self.engine.account(account_id)
        if isinstance(event, e.ReductionStarted):
            plan_id = event.reduction.plan_id
        else:
            assert isinstance(event, e.ReductionExtended)
            plan_id = event.steps[0].client_order_id.removeprefix("liq-").rpartition("-")[0]
        every = (*account.past_reductions, *([account.reduction] if account.reduction is not None else []))
        return next((one for one in every if one.plan_id == plan_id), None)

    # what if

    async def SimulateMargin(self, request: wire.SimulateMarginRequest, call: "Call") -> wire.SimulateMarginResponse:
        account, world = self.read_account(request.account_id)
        if len(request.changes) > CHANGES_MOST:
            raise Fault(
                FaultReason.BATCH_TOO_LARGE,
                f"{len(request.changes)} changes in one request, at most {CHANGES_MOST} are accepted",
                changes=str(len(request.changes)),
                limit=str(CHANGES_MOST),
            )
        read = Reader(venue_of(account))
        changes: list[c.Change] = []
        there = world
        for index, message in enumerate(request.changes):
            change = self.change_of(read, message, f"changes[{index}]", account, there)
            changes.append(change)
            if isinstance(change, c.SimulatedPriceShock):
                there = shocked(account, there, change)[1]
        read.done()
        found = simulate(account, world, tuple(changes))
        response = wire.SimulateMarginResponse(
            revision=self.place(account),
            as_of=convert.timestamp(world.at),
            before=self.simulated(account, found.summary_before, world),
            after=self.simulated(found.account_after, found.summary_after, found.world_after),
            shocks=convert.shock_distances(found.shocks),
        )
        for outcome in found.outcomes:
            result = response.results.add(
                accepted=outcome.applied,
                violations=convert.violations(as_seen(outcome.violations, call.actor)),
                after=convert.margin_figures(outcome.figures, world.settings, account.level),
            )
            if outcome.realized_pnl is not None:
                result.realized_pnl = text(outcome.realized_pnl)
        return response

    def simulated(self, account: Account, summary: Summary, world: World) -> wire.SimulatedAccount:
        return wire.SimulatedAccount(
            figures=convert.margin_figures(figures(summary), world.settings, account.level),
            positions=convert.positions(account, summary, world),
            marks=convert.marks(summary.marks, world.at, world.settings.mark_max_age),
        )

    def change_of(
        self, read: Reader, message: wire.MarginChange, path: str, account: Account, world: World
    ) -> c.Change:
        """One hypothetical change; what is malformed is noted in `read`, and some valid change returned."""
        kind = read.one_of(message, "change", path)
        nothing = c.SimulatedPriceShock(fraction=ZERO)
        if kind == "order":
            return order_of(read, message.order, f"{path}.order", account.position_mode)
        if kind == "fill":
            return self.simulated_fill(read, message.fill, f"{path}.fill", account, world)
        if kind == "price_shock":
            return price_shock(read, message.price_shock, f"{path}.price_shock")
        if kind == "leverage":
            where = f"{path}.leverage"
            return c.SetLeverage(
                read.symbol(message.leverage.symbol, f"{where}.symbol"),
                read.positive(message.leverage.leverage, f"{where}.leverage"),
            )
        if kind == "deposit":
            where = f"{path}.deposit"
            return c.Transfer(
                read.asset(message.deposit.asset, f"{where}.asset"),
                read.nonzero(message.deposit.amount, f"{where}.amount"),
            )
        return nothing

    def simulated_fill(
        self, read: Reader, message: wire.SimulatedFill, path: str, account: Account, world: World
    ) -> c.RecordFill:
        symbol = read.symbol(message.symbol, f"{path}.symbol")
        price = read.optional(message, "price", read.positive, f"{path}.price")
        if symbol not in world.house.instruments:
            read.problem(f"{path}.symbol", "is no known instrument")
        if price is None:
            mark = world.marks.get(symbol)
            if mark is None:
                read.problem(f"{path}.price", f"is required: {symbol} has no mark")
            price = mark.price if mark is not None else Decimal(1)
        return c.RecordFill(
            fill_id="what-if",
            symbol=symbol,
            side=read.choice(message.side, SIDE, f"{path}.side"),
            quantity=read.positive(message.quantity, f"{path}.quantity"),
            price=price,
            position_side=read.position_side(message.position_side, f"{path}.position_side", account.position_mode),
        )

    # shared

    async def as_left(self, account: Account, done: Committed[e.AccountEvent]) -> Account:
        """The account as a command left it a while ago, where its answer is repeated; else as it is."""
        if not done.replayed:
            return account
        start = (self.engine.home[account.account_id], 0)
        return await folded(self.engine.journal, None, start, account.account_id, done.last_position)

    def reader_for(self, account_id: str) -> Reader:
        """A reader that knows where the account's instruments are; of an unknown account it knows nothing."""
        known = account_id in self.engine.home
        return Reader(venue_of(self.engine.account(account_id)) if known else "")

    def find_account(self, account_id: str) -> Account:
        """The account; an id that can't be one is a malformed request."""
        if account_id not in self.engine.home:
            read = Reader()
            read.account_id(account_id)
            read.done()
        return self.engine.account(account_id)

    def read_account(self, account_id: str, read: Reader | None = None) -> tuple[Account, World]:
        read = read if read is not None else Reader()
        read.account_id(account_id)
        read.done()
        return self.engine.account(account_id), self.engine.world()

    def summary(self, account: Account, world: World) -> Summary:
        return self.engine.view_of(account, world).summary

    def place(self, account: Account) -> types_pb2.Revision:
        return convert.revision(self.engine.revision(account.account_id))

    def place_of(self, account_id: str, done: Committed[e.AccountEvent]) -> types_pb2.Revision:
        return convert.revision((self.engine.home[account_id], done.last_position))


def price_shock(read: Reader, message: wire.PriceShock, path: str) -> c.SimulatedPriceShock:
    symbol = read.symbol(message.symbol, f"{path}.symbol") if message.symbol else ""
    move = read.one_of(message, "move", path)
    if move == "price":
        if not symbol:
            read.problem(f"{path}.symbol", "is required with a price")
        return c.SimulatedPriceShock(symbol, price=read.positive(message.price, f"{path}.price"))
    fraction = read.decimal(message.fraction, f"{path}.fraction") if move else ZERO
    if fraction <= -1:
        read.problem(f"{path}.fraction", "must be above -1")
    return c.SimulatedPriceShock(symbol, fraction=fraction)


def balance_changes(event: e.FillRecorded) -> dict[str, Decimal]:
    changes: dict[str, Decimal] = {}
    for posting in event.postings:
        if posting.ledger == "wallet":
            changes[posting.asset] = changes.get(posting.asset, ZERO) + posting.amount
    return changes
