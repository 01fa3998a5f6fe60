"""Paper orders over any history: margin is held for what is open and for nothing else, and a replay is the account."""

from datetime import timedelta
from decimal import Decimal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import OrderState
from debt_mgmt.core.margin import OrderUse, mark_used
from tests.support.desk import HOUSE, NO_LIMITS, D, Desk
from tests.support.paper import books_hold, comes, place

RULES = msgspec.structs.replace(
    HOUSE,
    limits=NO_LIMITS,
    slippage_rate=D("0.001"),
    taker_fee_rate=D("0.0005"),
    maker_fee_rate=D("-0.0001"),
    fill_depth=D(2000),
)
SYMBOLS = st.sampled_from(["BTCUSDT", "ETHUSDT"])
SIDES = st.sampled_from(["buy", "sell"])
AWAY = st.integers(-60, 60)
"""Thousandths that a price lies above 50,000 or 3,000."""
QUANTITIES = st.integers(1, 80)
BASES = {"BTCUSDT": (D(50000), D("0.001")), "ETHUSDT": (D(3000), D("0.01"))}


def price_at(symbol: str, away: int) -> Decimal:
    return BASES[symbol][0] * (1000 + away) / 1000


class PaperDesk(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(RULES)
        for symbol in BASES:
            self.desk.mark(symbol, BASES[symbol][0])
        self.desk.open("alice", 4000)
        self.filled: dict[str, Decimal] = {}
        self.seen = 0

    @rule(
        symbol=SYMBOLS,
        side=SIDES,
        lots=QUANTITIES,
        away=st.one_of(st.none(), AWAY),
        time_in_force=st.sampled_from(["GTC", "GTC", "GTC", "IOC", "FOK"]),
        reduce_only=st.booleans(),
        lasts=st.one_of(st.none(), st.integers(1, 20)),
    )
    def orders(
        self,
        symbol: str,
        side: str,
        lots: int,
        away: int | None,
        time_in_force: str,
        reduce_only: bool,
        lasts: int | None,
    ) -> None:
        limit = None if away is None else price_at(symbol, away)
        before = self.desk.account()
        asked = self.desk.check("alice", side, lots * BASES[symbol][1], symbol, limit, reduce_only=reduce_only)
        events = place(
            self.desk,
            side,
            lots * BASES[symbol][1],
            symbol,
            limit,
            time_in_force=time_in_force,
            reduce_only=reduce_only,
            lasts=None if lasts is None else timedelta(seconds=lasts),
        )
        assert isinstance(events[0], e.OrderPlaced) is asked.fits
        if not asked.fits:
            assert self.desk.account() == before

    @rule(symbol=SYMBOLS, away=AWAY)
    def market(self, symbol: str, away: int) -> None:
        price = price_at(symbol, away)
        for fill in comes(self.desk, price, symbol):
            assert fill.mark is not None
            assert fill.mark.price == price
        again = self.desk.do("alice", c.MatchOrders(mark_used(self.desk.marks[symbol])))
        taken: dict[str, Decimal] = {}
        for event in self.desk.events("alice"):
            if isinstance(event, e.FillRecorded) and event.mark == mark_used(self.desk.marks[symbol]):
                taken[event.side] = taken.get(event.side, D(0)) + event.quantity
        assert all(quantity <= depth_of(symbol, price) for quantity in taken.values())
        assert not any(isinstance(one, e.FillRecorded) for one in again)

    @rule(pick=st.integers(0, 20))
    def cancels(self, pick: int) -> None:
        orders = list(self.desk.account().orders)
        if orders:
            chosen = orders[pick % len(orders)]
            before = self.desk.summary().used
            events = self.desk.do("alice", c.CancelOrder(chosen))
            assert not isinstance(events[0], e.CommandRefused)
            assert self.desk.summary().used <= before

    @rule(pick=st.integers(0, 20), lots=QUANTITIES)
    def releases(self, pick: int, lots: int) -> None:
        orders = list(self.desk.account().reservations.values())
        if orders:
            one = orders[pick % len(orders)]
            self.desk.do("alice", c.ReleaseReservation(one.reservation_id, min(one.quantity, D(lots) / 1000)))

    @rule(side=SIDES, lots=QUANTITIES)
    def trades_elsewhere(self, side: str, lots: int) -> None:
        """A fill that was told, on top of the orders."""
        self.desk.fill("alice", side, D(lots) / 1000, price=self.desk.marks["BTCUSDT"].price)

    @rule(side=SIDES, lots=QUANTITIES, away=AWAY)
    def reserves_elsewhere(self, side: str, lots: int, away: int) -> None:
        self.desk.reserve("alice", side, D(lots) / 1000, price=price_at("BTCUSDT", away))

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds: int) -> None:
        self.desk.wait(timedelta(seconds=seconds), fresh=True)
        self.desk.do("alice", c.ExpireReservations())

    @rule()
    def halts_and_resumes(self) -> None:
        self.desk.do("alice", c.HaltTrading("a look"))
        assert all(order.reduce_only for order in self.desk.account().orders.values())
        self.desk.do("alice", c.ResumeTrading("done"))

    @rule()
    def starts_again(self) -> None:
        self.desk.do("alice", c.ResetFunds("again"))
        assert not self.desk.account().orders

    @invariant()
    def orders_and_reservations_are_the_same_thing(self) -> None:
        books_hold(self.desk)

    @invariant()
    def margin_is_held_for_what_is_open(self) -> None:
        """The margin of open orders, counted from the orders alone, is what the account says."""
        account, summary = self.desk.account(), self.desk.summary()
        if not summary.known:
            return
        for symbol, use in summary.orders.items():
            alone: OrderUse = use.copy()
            alone.buys, alone.sells = type(use.buys)(), type(use.sells)()
            for held in account.reservations.values():
                order = account.orders.get(held.reservation_id)
                left = held.quantity
                if order is not None:
                    told = sum(
                        (
                            one.quantity
                            for one in self.desk.events("alice")
                            if isinstance(one, e.ReservationReduced) and one.reservation_id == order.order_id
                        ),
                        D(0),
                    )
                    left = order.quantity - told
                if held.symbol == symbol and not held.reduce_only and held.unit_margin is not None:
                    alone.orders(held.side).add(left, held.unit_margin)
            assert alone.order_margin() == use.order_margin()

    @invariant()
    def nothing_is_filled_twice(self) -> None:
        """What an order says was filled is what its fills say, and never more than was asked for."""
        account = self.desk.account()
        told: dict[str, Decimal] = {}
        for event in self.desk.events("alice"):
            if isinstance(event, e.FillRecorded) and event.order_id:
                told[event.order_id] = told.get(event.order_id, D(0)) + event.quantity
        for order in (*account.orders.values(), *account.past_orders):
            assert order.filled_quantity == told.get(order.order_id, D(0))
            assert order.filled_quantity <= order.quantity
            assert (order.state is OrderState.FILLED) <= (order.filled_quantity > 0)


def depth_of(symbol: str, price: Decimal) -> Decimal:
    lot = BASES[symbol][1]
    return max(D(2000) // (price * lot) * lot, lot)


TestPaperDesk = PaperDesk.TestCase
TestPaperDesk.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
