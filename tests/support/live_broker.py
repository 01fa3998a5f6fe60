"""A venue in memory behind the protocol of live brokers: it keeps real state, has latency, and can be told to fail."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import msgspec

from debt_mgmt.core.account import Account, Environment, MarginMode, PositionSide, Side, position_key
from debt_mgmt.core.instrument import Instrument, profit
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.venue import VenueBalance, VenueFill, VenueHealth, VenueOrder, VenuePosition, VenueState
from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    BrokerFault,
    BrokerFill,
    BrokerOrder,
    Denied,
    NotPossible,
    Rejected,
    RejectionReason,
    StillOpen,
    Unreachable,
)
from debt_mgmt.server.brokers.live import LiveBroker, PriceFeed, VenueMark
from debt_mgmt.server.brokers.profiles import PROFILES, Feature, VenueProfile
from tests.support.instruments import linear

T = TypeVar("T")
D = Decimal
FEE_RATE = D("0.0005")


class Trouble(msgspec.Struct):
    """A fault that waits for a call: raised before the venue does what it is asked, or `after` it did it."""

    fault: BrokerFault
    times: int
    after: bool = False


class FakeVenue:
    """One account at one venue. Whatever was executed stays executed, whoever hears of it."""

    def __init__(
        self, broker: str = "bybit", clock: Callable[[], datetime] | None = None, symbols: Sequence[str] = ("BTCUSDT",)
    ) -> None:
        self.name = broker
        self.clock = clock or (lambda: datetime.now(UTC))
        self.terms = {
            f"{broker}:{symbol}": msgspec.structs.replace(linear(symbol), symbol=f"{broker}:{symbol}")
            for symbol in symbols
        }
        self.prices: dict[str, Decimal] = {}
        self.balances: dict[str, Decimal] = {"USDT": D(10_000)}
        self.debts: dict[str, tuple[Decimal, Decimal]] = {}
        """Principal and interest by asset, in the wallet of the account."""
        self.apart: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
        """Balance, principal and interest by asset in a wallet that backs no position, where the venue lends there."""
        self.lends_most = D(50_000)
        self.positions: dict[str, VenuePosition] = {}
        self.orders: dict[str, VenueOrder] = {}
        self.leverage: dict[str, Decimal] = {symbol: D(2) for symbol in self.terms}
        self.modes: dict[str, MarginMode] = {}
        self.executed: dict[str, BrokerFill] = {}
        self.executions: Counter[str] = Counter()
        self.fills: list[VenueFill] = []
        self.tells_fills = True
        """False: trades are told too late to explain a state."""
        self.calls: list[str] = []
        """Every call that reached the venue, in order."""
        self.troubles: dict[str, list[Trouble]] = {}
        self.latency: dict[str, float] = {}
        self.hanging: dict[str, bool] = {}
        self.changed = asyncio.Event()
        self.open_brokers = 0
        self.open_feeds = 0
        self.pushes = False
        """Whether marks are pushed; they are asked for where not."""
        self.has_marks = True
        """False: it publishes the last trade only."""
        self.marked = asyncio.Event()
        self.maximum_leverage = D(100)

    # what a test does to it

    def mark(self, symbol: str, price: str) -> None:
        self.prices[f"{self.name}:{symbol}"] = D(price)
        self.marked.set()

    def hold(
        self,
        symbol: str,
        quantity: str,
        entry: str,
        side: PositionSide = PositionSide.NET,
        liquidation_price: str | None = None,
        isolated_margin: str | None = None,
    ) -> None:
        """A position, as after a trade that nobody told the house of."""
        name = f"{self.name}:{symbol}"
        position = VenuePosition(
            name,
            side,
            D(quantity),
            entry_price=D(entry),
            leverage=self.leverage[name],
            margin_mode=MarginMode.CROSS if isolated_margin is None else MarginMode.ISOLATED,
            isolated_margin=None if isolated_margin is None else D(isolated_margin),
            liquidation_price=None if liquidation_price is None else D(liquidation_price),
        )
        self.positions[position.key] = position

    def fail(self, call: str, fault: BrokerFault, times: int = 1_000_000, *, after: bool = False) -> None:
        """The next `times` calls of that name fail so; `after`: what was asked is done, and its answer lost."""
        self.troubles.setdefault(call, []).append(Trouble(fault, times, after))

    def hang(self, call: str, *, after: bool = False) -> None:
        """Calls of that name are never answered; `after`: what was asked is done all the same."""
        self.hanging[call] = after

    def heal(self) -> None:
        self.troubles.clear()
        self.latency.clear()
        self.hanging.clear()

    def push(self) -> None:
        """Something changed: whoever listens is told."""
        self.changed.set()

    def quantity(self, symbol: str, side: PositionSide = PositionSide.NET) -> Decimal:
        position = self.positions.get(position_key(f"{self.name}:{symbol}", side))
        return position.quantity if position is not None else ZERO

    def count(self, call: str) -> int:
        return sum(one.partition(" ")[0] == call for one in self.calls)

    # what it says

    def state(self) -> VenueState:
        held = []
        for position in self.positions.values():
            price = self.prices.get(position.symbol)
            terms = self.terms[position.symbol]
            unrealized = None
            if price is not None and position.entry_price is not None:
                unrealized = profit(terms, position.quantity, position.entry_price, price)
            held.append(
                msgspec.structs.replace(
                    position,
                    mark_price=price,
                    leverage=self.leverage[position.symbol],
                    unrealized_pnl=unrealized,
                )
            )
        open_profit = [one.unrealized_pnl for one in held]
        equity = None
        if None not in open_profit and not self.debts:
            equity = self.balances["USDT"] + sum((one for one in open_profit if one is not None), ZERO)
        return VenueState(
            at=self.clock(),
            balances=tuple(self.balance(asset) for asset in self.balances),
            positions=tuple(held),
            orders=tuple(self.orders.values()),
            health=VenueHealth(currency="USDT", equity=equity),
            leverage=dict(self.leverage),
            margin_modes=dict(self.modes),
            hedge=any(one.side is not PositionSide.NET for one in held),
        )

    def trade(
        self, symbol: str, side: Side, quantity: Decimal, order_id: str, leg: PositionSide = PositionSide.NET
    ) -> None:
        """Remember a trade of the account."""
        number, price = len(self.fills) + 1, self.prices[symbol]
        fill = VenueFill(f"trade-{number}", order_id, symbol, side, quantity, price, self.clock(), leg, order_id)
        self.fills.append(fill)

    def balance(self, asset: str) -> VenueBalance:
        owed = self.debts.get(asset)
        principal, interest = owed if owed is not None else (None, None)
        return VenueBalance(asset, self.balances[asset], debt=principal, interest=interest)

    def owed(self, asset: str, *, apart: bool) -> tuple[Decimal, Decimal, Decimal]:
        """Balance, principal and interest of an asset."""
        if apart:
            return self.apart.get(asset, (ZERO, ZERO, ZERO))
        return self.balances.get(asset, ZERO), *self.debts.get(asset, (ZERO, ZERO))

    def owe(self, asset: str, held: Decimal, principal: Decimal, interest: Decimal, *, apart: bool) -> None:
        if apart:
            self.apart[asset] = (held, principal, interest)
        else:
            self.balances[asset], self.debts[asset] = held, (principal, interest)

    def wallet_apart(self) -> tuple[VenueBalance, ...]:
        return tuple(
            VenueBalance(asset, held, debt=principal, interest=interest)
            for asset, (held, principal, interest) in self.apart.items()
            if held or principal or interest
        )

    def execute(self, order: BrokerOrder) -> BrokerFill:
        """Fill a market order at the mark. The same client order id again is refused, as venues do."""
        if order.client_order_id in self.executed:
            raise Rejected("duplicate client order id", code="110072", reason=RejectionReason.DUPLICATE)
        key = position_key(order.symbol, order.position_side)
        position = self.positions.get(key)
        if position is None or position.quantity * order.side.sign >= 0:
            reason = RejectionReason.NOTHING_TO_REDUCE
            raise Rejected("current position is zero, cannot fix reduce-only order qty", code="110017", reason=reason)
        quantity = min(order.quantity, abs(position.quantity))
        price = self.prices[order.symbol]
        terms = self.terms[order.symbol]
        closed = quantity if position.quantity > 0 else -quantity
        assert position.entry_price is not None
        self.balances["USDT"] += profit(terms, closed, position.entry_price, price)
        fee = quantity * terms.contract_size * price * FEE_RATE
        self.balances["USDT"] -= fee
        left = position.quantity + quantity * order.side.sign
        if left:
            self.positions[key] = msgspec.structs.replace(position, quantity=left)
        else:
            del self.positions[key]
        fill = BrokerFill(f"trade-{len(self.executed) + 1}", quantity, price, fee, "USDT")
        self.executed[order.client_order_id] = fill
        self.trade(order.symbol, order.side, quantity, order.client_order_id, order.position_side)
        self.executions[order.client_order_id] += 1
        return fill

    async def answer(self, call: str, what: Callable[[], T], detail: str = "") -> T:
        """Do `what`, with the latency and the trouble that wait for `call`."""
        await asyncio.sleep(self.latency.get(call, 0))
        self.calls.append(f"{call} {detail}".strip())
        if call in self.hanging:
            if self.hanging[call]:
                what()
            await asyncio.Event().wait()
        for trouble in self.troubles.get(call, ()):
            if trouble.times > 0:
                trouble.times -= 1
                if trouble.after:
                    what()
                raise trouble.fault
        return what()


class FakeBroker:
    """A connection to a fake venue: the real protocol, without a network."""

    def __init__(self, venue: FakeVenue, profile: VenueProfile | None = None) -> None:
        self.venue = venue
        self.profile = profile or PROFILES[venue.name]
        self.connected = False

    async def connect(self) -> None:
        await self.venue.answer("connect", lambda: None)
        self.connected = True
        self.venue.open_brokers += 1

    async def instruments(self, symbols: Sequence[str] = ()) -> list[Instrument]:
        def found() -> list[Instrument]:
            if unknown := [symbol for symbol in symbols if symbol not in self.venue.terms]:
                raise Rejected(f"no such instrument: {unknown[0]}", reason=RejectionReason.INVALID)
            return [self.venue.terms[symbol] for symbol in symbols]

        return await self.venue.answer("instruments", found)

    async def state(self, fills_since: datetime | None = None) -> VenueState:
        def found() -> VenueState:
            state = self.venue.state()
            if fills_since is None or not self.venue.tells_fills:
                return state
            fills = tuple(one for one in self.venue.fills if one.at >= fills_since)
            return msgspec.structs.replace(state, fills=fills)

        return await self.venue.answer("state", found)

    async def changes(self) -> AsyncGenerator[None, None]:
        while True:
            await self.venue.answer("changes", lambda: None)
            await self.venue.changed.wait()
            self.venue.changed.clear()
            yield None

    async def place(self, order: BrokerOrder) -> BrokerFill:
        assert order.reduce_only
        detail = f"{order.side.value} {order.quantity} {order.symbol} {order.client_order_id}"
        return await self.venue.answer("place", lambda: self.venue.execute(order), detail)

    async def find(self, client_order_id: str, symbol: str) -> BrokerFill | StillOpen | None:
        found = self.venue.executed.get
        return await self.venue.answer("find", lambda: found(client_order_id), client_order_id)

    async def set_leverage(self, symbol: str, leverage: Decimal) -> Decimal:
        def done() -> Decimal:
            if leverage > self.venue.maximum_leverage:
                raise Rejected("leverage exceeds the risk limit", code="110013")
            self.venue.leverage[symbol] = leverage
            return leverage

        return await self.venue.answer("set_leverage", done, f"{symbol} {leverage}")

    async def set_margin_mode(self, symbol: str, mode: MarginMode, leverage: Decimal) -> MarginMode:
        def done() -> MarginMode:
            self.venue.modes[symbol] = mode
            return mode

        return await self.venue.answer("set_margin_mode", done, f"{symbol} {mode.value}")

    async def adjust_isolated_margin(self, symbol: str, side: PositionSide, amount: Decimal) -> None:
        def done() -> None:
            key = position_key(symbol, side)
            position = self.venue.positions[key]
            posted = (position.isolated_margin or ZERO) + amount
            self.venue.positions[key] = msgspec.structs.replace(position, isolated_margin=posted)

        await self.venue.answer("adjust_isolated_margin", done, f"{symbol} {amount}")

    async def cancel(self, symbol: str, order_id: str) -> bool:
        return await self.venue.answer(
            "cancel", lambda: self.venue.orders.pop(order_id, None) is not None, f"{symbol} {order_id}"
        )

    async def cancel_all(self) -> int:
        def done() -> int:
            count = len(self.venue.orders)
            self.venue.orders.clear()
            return count

        return await self.venue.answer("cancel_all", done)

    async def loans(self) -> tuple[VenueBalance, ...]:
        return await self.venue.answer("loans", self.venue.wallet_apart)

    async def borrow(self, asset: str, amount: Decimal) -> None:
        await self.venue.answer("borrow", lambda: self.lend(asset, amount), f"{asset} {amount}")

    async def repay(self, asset: str, amount: Decimal) -> None:
        await self.venue.answer("repay", lambda: self.take_back(asset, amount), f"{asset} {amount}")

    def lend(self, asset: str, amount: Decimal) -> None:
        if not self.profile.can(Feature.BORROW):
            raise NotPossible("this venue lends nothing")
        held, principal, interest = self.venue.owed(asset, apart=self.profile.loans_apart)
        if principal + amount > self.venue.lends_most:
            raise Rejected("the borrow amount exceeds the limit", code="3400032")
        self.venue.owe(asset, held + amount, principal + amount, interest, apart=self.profile.loans_apart)

    def take_back(self, asset: str, amount: Decimal) -> None:
        held, principal, interest = self.venue.owed(asset, apart=self.profile.loans_apart)
        if amount > principal + interest:
            raise Rejected("the repayment exceeds what is owed", code="3400044")
        paid = min(amount, interest)
        left = principal - (amount - paid)
        self.venue.owe(asset, held - amount, left, interest - paid, apart=self.profile.loans_apart)

    async def close(self) -> None:
        if self.connected:
            self.connected = False
            self.venue.open_brokers -= 1


class FakeFeed:
    """Public marks of a fake venue: asked for, or pushed where `venue.pushes` says so."""

    def __init__(self, venue: FakeVenue) -> None:
        self.venue = venue
        self.profile = PROFILES[venue.name]
        self.closed = False
        venue.open_feeds += 1

    def mark(self, symbol: str) -> VenueMark:
        return VenueMark(symbol, self.venue.prices[symbol], self.venue.has_marks, self.venue.clock())

    async def instruments(self, symbols: Sequence[str] = ()) -> list[Instrument]:
        terms = self.venue.terms
        return await self.venue.answer("feed_instruments", lambda: [terms[symbol] for symbol in symbols])

    async def marks(self, symbols: Sequence[str]) -> list[VenueMark]:
        def found() -> list[VenueMark]:
            if missing := [symbol for symbol in symbols if symbol not in self.venue.prices]:
                raise Unreachable(f"no price for {missing[0]}")
            return [self.mark(symbol) for symbol in symbols]

        return await self.venue.answer("marks", found, ",".join(symbols))

    async def watch(self, symbols: Sequence[str]) -> AsyncGenerator[VenueMark, None]:
        if not self.venue.pushes:
            raise NotPossible("this venue pushes no marks")
        await self.venue.answer("watch", lambda: None, ",".join(symbols))
        while True:
            self.venue.marked.clear()
            for symbol in symbols:
                if symbol in self.venue.prices:
                    yield self.mark(symbol)
            await self.venue.marked.wait()

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.venue.open_feeds -= 1


class FakeVenues:
    """The venues of a test: those given are enabled, and no others."""

    def __init__(self, *venues: FakeVenue) -> None:
        self.venues = {venue.name: venue for venue in venues}
        self.denied: Denied | None = None
        """Raised where a connection is asked for, as with a malformed key."""

    def problem(self, broker: str, environment: Environment) -> str:
        return "" if broker in self.venues else f"{broker} is not enabled: set brokers.{broker}.enabled"

    def symbols(self, broker: str) -> tuple[str, ...]:
        return ()

    async def open(self, account: Account) -> LiveBroker:
        if self.denied is not None:
            raise self.denied
        return FakeBroker(self.venues[account.broker])

    async def feed(self, broker: str, environment: Environment) -> PriceFeed:
        return FakeFeed(self.venues[broker])


UNREACHABLE = Unreachable("connection refused")
TIMED_OUT = Ambiguous("no answer in time")
BAD_KEY = Denied("API key is invalid", code="10003")
