"""The engine and a naive model of an account live through the same days side by side, and must agree at every step."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Side
from debt_mgmt.core.levels import ASCENDING
from tests.support.desk import FREE, Desk
from tests.support.instruments import BTCUSD, ETHUSDT, linear
from tests.support.naive import Naive, Terms

D = Decimal
TOLERANCE = Fraction(1, 10**9)

ABCUSDT = linear("ABCUSDT", lot="0.001", tick="0.01", contract_size="2")
PRICES = {"ABCUSDT": D(100), "ETHUSDT": D(2500), "BTCUSD": D(50000)}
LOTS = {"ABCUSDT": D("0.001"), "ETHUSDT": D("0.01"), "BTCUSD": D(1)}
DOLLARS_PER_LOT = {"ABCUSDT": D("0.2"), "ETHUSDT": D(25), "BTCUSD": D(100)}

symbols = st.sampled_from(sorted(PRICES))
shares = st.integers(1, 400).map(lambda permille: D(permille) / 1000)
factors = st.integers(-250, 300).map(lambda permille: 1 + D(permille) / 1000)
leverages = st.sampled_from([D(1), D("1.5"), D(2), D(3), D(5), D(6)])


class DeskBesideModel(RuleBasedStateMachine):
    @initialize(capital=st.integers(1_000, 50_000), coins=st.integers(0, 2))
    def open_account(self, capital: int, coins: int) -> None:
        self.desk = Desk(FREE, instruments=[ABCUSDT, ETHUSDT, BTCUSD])
        self.desk.value("BTC", priced_by="BTCUSD", haircut="0.05")
        self.desk.value("USD", USDT="1")
        self.model = Naive(
            {
                "ABCUSDT": Terms("USDT", Fraction(2)),
                "ETHUSDT": Terms("USDT", Fraction(1)),
                "BTCUSD": Terms("BTC", Fraction(100), inverse=True),
            },
            {"BTC": Fraction(5, 100)},
            {"BTC": "BTCUSD"},
        )
        for symbol, price in PRICES.items():
            self.desk.mark(symbol, price)
            self.model.marks[symbol] = Fraction(price)
        self.desk.open("alice", capital)
        self.model.cash["USDT"] = Fraction(capital)
        if coins:
            self.deposit(D(coins), "BTC")

    def quantity_of(self, symbol: str, share: Decimal) -> Decimal:
        """About `share` of 60,000 dollars, in whole lots."""
        lots = max(1, int(60_000 * share / DOLLARS_PER_LOT[symbol]))
        return lots * LOTS[symbol]

    @rule(amount=st.integers(1, 5_000), asset=st.sampled_from(["USDT", "BTC"]))
    def deposit_some(self, amount: int, asset: str) -> None:
        self.deposit(D(amount) if asset == "USDT" else D(amount) / 10_000, asset)

    def deposit(self, amount: Decimal, asset: str) -> None:
        self.desk.deposit("alice", amount, asset)
        self.model.cash[asset] = self.model.cash.get(asset, Fraction(0)) + Fraction(amount)
        self.model.settle_level()

    @rule(symbol=symbols, side=st.sampled_from(Side), share=shares, factor=st.none() | factors)
    def fill(self, symbol: str, side: Side, share: Decimal, factor: Decimal | None) -> None:
        quantity = self.quantity_of(symbol, share)
        price = self.desk.marks[symbol].price if factor is None else PRICES[symbol] * (9 + factor) / 10
        self.desk.fill("alice", side.value, quantity, symbol, price)
        self.model.fill(symbol, side is Side.BUY, Fraction(quantity), Fraction(price))
        self.model.settle_level()

    @rule(symbol=symbols, share=st.sampled_from([D("0.5"), D(1), D(2)]))
    def trade_against_what_is_held(self, symbol: str, share: Decimal) -> None:
        """Half of it closed, all of it, or turned round."""
        held = self.desk.position(symbol=symbol)
        if held is None:
            return
        side = Side.SELL if held.quantity > 0 else Side.BUY
        quantity, price = abs(held.quantity) * share, self.desk.marks[symbol].price
        self.desk.fill("alice", side.value, quantity, symbol, price)
        self.model.fill(symbol, side is Side.BUY, Fraction(quantity), Fraction(price))
        self.model.settle_level()

    @rule(symbol=symbols, side=st.sampled_from(Side), share=shares, factor=st.none() | factors)
    def reserve(self, symbol: str, side: Side, share: Decimal, factor: Decimal | None) -> None:
        quantity = self.quantity_of(symbol, share)
        tick = D("0.1")
        price = None if factor is None else self.desk.marks[symbol].price * (9 + factor) / 10 // tick * tick
        asked = self.model.order(
            symbol, side is Side.BUY, Fraction(quantity), None if price is None else Fraction(price)
        )
        fits = self.model.fits(asked)
        events = self.desk.reserve("alice", side.value, quantity, symbol, price)
        assert isinstance(events[0], e.MarginReserved if fits else e.CommandRefused)
        if isinstance(events[0], e.MarginReserved):
            assert events[0].reservation.reduce_only is asked.reduces
            self.model.orders[events[0].reservation.reservation_id] = asked
            self.model.settle_level()

    @precondition(lambda self: self.model.orders)
    @rule(
        which=st.integers(0, 99),
        part=st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1)]),
        fills=st.booleans(),
    )
    def release_or_fill_an_order(self, which: int, part: Fraction, fills: bool) -> None:
        names = sorted(self.model.orders)
        name = names[which % len(names)]
        order = self.model.orders[name]
        quantity = order.quantity * part
        exact = D(quantity.numerator) / D(quantity.denominator)
        if fills:
            price = self.desk.marks[order.symbol].price
            side = "buy" if order.buys else "sell"
            self.desk.fill("alice", side, exact, order.symbol, price, reservation_id=name)
            self.model.fill(order.symbol, order.buys, quantity, Fraction(price))
        else:
            self.desk.do("alice", c.ReleaseReservation(name, exact))
        order.quantity -= quantity
        if order.quantity == 0:
            del self.model.orders[name]
        self.model.settle_level()

    @precondition(lambda self: self.model.orders)
    @rule(which=st.integers(0, 99))
    def release_too_much(self, which: int) -> None:
        names = sorted(self.model.orders)
        name = names[which % len(names)]
        more = self.desk.account().reservations[name].quantity + D("0.001")
        (event,) = self.desk.do("alice", c.ReleaseReservation(name, more))
        assert isinstance(event, e.CommandRefused)

    @rule(symbol=symbols, leverage=leverages)
    def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        allowed = self.model.may_set(symbol, Fraction(leverage))
        events = self.desk.leverage("alice", symbol, leverage)
        assert isinstance(events[0], e.LeverageSet if allowed else e.CommandRefused)
        if allowed:
            self.model.leverage[symbol] = Fraction(leverage)
            self.model.settle_level()

    @rule(symbol=symbols, factor=factors)
    def mark(self, symbol: str, factor: Decimal) -> None:
        self.desk.mark(symbol, PRICES[symbol] * factor)
        self.model.marks[symbol] = Fraction(PRICES[symbol] * factor)
        self.model.settle_level()

    @precondition(lambda self: self.desk.account().reduction is not None)
    @rule()
    def let_the_broker_reduce(self) -> None:
        """Which orders are sent is the engine's; what they do to the account is the model's."""
        for one in self.desk.run_reductions("alice"):
            self.model.fill(one.symbol, one.side is Side.BUY, Fraction(one.quantity), Fraction(one.price))
        if not self.model.quantity and self.model.equity() < 0:
            self.model.cash = {}
        self.model.level = ASCENDING.index(self.desk.account().level)
        self.model.settle_level()

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "desk"):
            return
        summary, account, model = self.desk.summary(), self.desk.account(), self.model
        coin = model.marks["BTCUSD"] * len(self.desk.journal["alice"]) / 10**12  # each fill rounds its profit in coin
        assert abs(Fraction(summary.equity) - model.equity()) <= TOLERANCE + coin
        assert abs(Fraction(summary.used) - model.used()) <= TOLERANCE
        assert abs(Fraction(summary.available) - model.available()) <= TOLERANCE + coin
        assert {symbol: Fraction(one.quantity) for symbol, one in account.positions.items()} == model.quantity
        for asset, amount in account.realized_pnl.items():
            assert abs(Fraction(amount) - model.realized.get(asset, Fraction(0))) <= TOLERANCE
        assert {name: Fraction(one.quantity) for name, one in account.reservations.items()} == {
            name: one.quantity for name, one in model.orders.items()
        }
        assert account.level is ASCENDING[model.level]

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            assert self.desk.replayed("alice") == self.desk.account()


TestDeskBesideModel = DeskBesideModel.TestCase
TestDeskBesideModel.settings = settings(max_examples=60, stateful_step_count=25)
