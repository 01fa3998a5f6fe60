"""What a simulated exchange knows: balances, debts, positions and orders, and a small matching engine."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

from tests.support.venues.records import (
    DOLLARS,
    ZERO,
    Health,
    Interest,
    Kind,
    Leg,
    Listing,
    Mode,
    Order,
    Position,
    Refused,
    Status,
    Trade,
    Why,
)


class Book:
    """The state behind a venue. Every change is told to `told` as (what, subject), so that the venue can push it."""

    def __init__(self, listings: Iterable[Listing], marks: dict[str, Decimal]) -> None:
        self.listings = {listing.symbol: listing for listing in listings}
        self.marks = dict(marks)
        self.balances: dict[str, Decimal] = {}
        self.debts: dict[str, Decimal] = {}
        self.interest: dict[str, Decimal] = {}
        self.interest_paid: list[Interest] = []
        self.positions: dict[tuple[str, Leg], Position] = {}
        self.orders: dict[str, Order] = {}
        self.trades: list[Trade] = []
        self.leverage: dict[tuple[str, Leg], Decimal] = {}
        self.leverage_default = Decimal(10)
        self.leverage_step = Decimal("0.01")
        self.modes: dict[str, Mode] = {}
        self.mode_default = Mode.CROSS
        self.hedge = False
        self.one_way: set[Kind] = set()
        """Kinds that have one position even on a hedge account."""
        self.fee_rate = Decimal("0.0005")
        self.hourly_rates: dict[str, Decimal] = {}
        self.borrow_limits: dict[str, Decimal] = {}
        self.liquidity: Decimal | None = None
        """The most that one market order is filled with; the rest of it is cancelled."""
        self.holding = False
        """Market orders stay open until `fill_held`."""
        self.ids_once = True
        """A client order id is taken for ever; False: while its order is open."""
        self.clock_ahead = timedelta(0)
        self.numbers = count(1_000_001)
        self.told: Callable[[str, str], None] = lambda _what, _subject: None

    def now(self) -> datetime:
        """The venue's own time."""
        return datetime.now(UTC) + self.clock_ahead

    # What is there.

    def listing(self, symbol: str) -> Listing:
        """Raises Refused for a symbol the venue does not know."""
        if symbol not in self.listings:
            raise Refused(Why.UNKNOWN_SYMBOL, symbol)
        return self.listings[symbol]

    def mark(self, symbol: str) -> Decimal:
        self.listing(symbol)
        return self.marks[symbol]

    def dollars(self, asset: str) -> Decimal:
        """The price of an asset in dollars, by the mark of a spot or linear instrument of it."""
        if asset in DOLLARS:
            return Decimal(1)
        for listing in self.listings.values():
            if listing.base == asset and listing.quote in DOLLARS and listing.symbol in self.marks:
                return self.marks[listing.symbol]
        raise Refused(Why.UNKNOWN_SYMBOL, asset)

    def hedged(self, symbol: str) -> bool:
        """Whether a symbol has two positions."""
        return self.hedge and self.listing(symbol).kind not in self.one_way

    def legs(self, symbol: str) -> tuple[Leg, ...]:
        return (Leg.LONG, Leg.SHORT) if self.hedged(symbol) else (Leg.NET,)

    def mode_of(self, symbol: str) -> Mode:
        return self.modes.get(symbol, self.mode_default)

    def leverage_of(self, symbol: str, leg: Leg = Leg.NET) -> Decimal:
        return self.leverage.get((symbol, leg), self.leverage.get((symbol, Leg.NET), self.leverage_default))

    def held(self, symbol: str | None = None) -> list[Position]:
        """Open positions."""
        return [position for position in self.positions.values() if symbol in (None, position.symbol)]

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        return [o for o in self.orders.values() if o.status is Status.OPEN and symbol in (None, o.symbol)]

    def order(self, order_id: str = "", client_order_id: str = "") -> Order:
        """The order of either id; raises Refused."""
        for order in reversed(self.orders.values()):
            if (order_id and order.order_id == order_id) or (
                client_order_id and order.client_order_id == client_order_id
            ):
                return order
        raise Refused(Why.UNKNOWN_ORDER, order_id or client_order_id)

    def profit(self, position: Position) -> Decimal:
        return self.listing(position.symbol).profit(position.quantity, position.entry, self.mark(position.symbol))

    def initial_margin(self, position: Position) -> Decimal:
        """In the settlement asset, at the mark."""
        if position.mode is Mode.ISOLATED:
            return position.margin
        return self.listing(position.symbol).value(position.quantity, self.mark(position.symbol)) / position.leverage

    def maintenance_margin(self, position: Position) -> Decimal:
        """In the settlement asset: rate of the tier less its deduction."""
        listing, mark = self.listing(position.symbol), self.mark(position.symbol)
        tier = listing.tier(position.quantity, mark)
        share = listing.value(position.quantity, mark) / max(
            listing.notional(position.quantity, mark), Decimal("1e-12")
        )
        return max(ZERO, listing.value(position.quantity, mark) * tier.maintenance_rate - tier.deduction * share)

    def order_margin(self, order: Order) -> Decimal:
        """What an open order keeps, in the settlement asset; none for one that only reduces."""
        listing = self.listing(order.symbol)
        if order.reduce_only or (listing.kind is Kind.SPOT and order.leverage is None):
            return ZERO
        price = order.price or self.mark(order.symbol)
        return listing.value(order.left, price) / (order.leverage or self.leverage_of(order.symbol, order.leg))

    def owed(self, asset: str) -> Decimal:
        """Principal and interest."""
        return self.debts.get(asset, ZERO) + self.interest.get(asset, ZERO)

    def equity_of(self, asset: str) -> Decimal:
        """Balance less debt, with what open positions settled in the asset won."""
        won = sum((self.profit(p) for p in self.held() if self.listing(p.symbol).settle == asset), ZERO)
        return self.balances.get(asset, ZERO) - self.owed(asset) + won

    def assets(self) -> list[str]:
        """Every asset that the account has to do with."""
        settled = [self.listing(position.symbol).settle for position in self.held()]
        return sorted({*self.balances, *self.debts, *settled})

    def health(self, assets: Iterable[str] | None = None) -> Health:
        """The account in dollars; of some settlement assets only where `assets` is given."""
        counted = list(self.assets() if assets is None else assets)
        equity = sum((self.equity_of(asset) * self.dollars(asset) for asset in counted), ZERO)
        initial = maintenance = isolated = ZERO
        for position in self.held():
            settle = self.listing(position.symbol).settle
            if settle in counted:
                initial += self.initial_margin(position) * self.dollars(settle)
                maintenance += self.maintenance_margin(position) * self.dollars(settle)
                if position.mode is Mode.ISOLATED:
                    isolated += self.profit(position) * self.dollars(settle)
        for order in self.open_orders():
            settle = self.listing(order.symbol).settle
            if settle in counted:
                initial += self.order_margin(order) * self.dollars(settle)
        return Health(equity, initial, maintenance, isolated)

    def liquidation_price(self, position: Position) -> Decimal | None:
        """Where the margin behind the position meets its maintenance margin, all else standing still; None: nowhere."""
        listing = self.listing(position.symbol)
        mark, maintenance = self.mark(position.symbol), self.maintenance_margin(position)
        if position.mode is Mode.ISOLATED:
            behind = position.margin + self.profit(position)
        else:
            rest = self.health()
            behind = (rest.equity - rest.maintenance_margin) / self.dollars(listing.settle) + maintenance
        cushion = behind - maintenance
        size = abs(position.quantity) * listing.contract_size
        direction = Decimal(1) if position.quantity > 0 else Decimal(-1)
        if listing.kind is Kind.INVERSE:
            inverse = 1 / mark + cushion / (direction * size + maintenance * mark)
            return (1 / inverse).quantize(listing.tick) if inverse > 0 else None
        rate = listing.tier(position.quantity, mark).maintenance_rate
        price = mark - cushion / (size * (direction - rate))
        return price.quantize(listing.tick) if price > 0 else None

    # What is set.

    def set_mark(self, symbol: str, price: Decimal) -> None:
        """Moves a mark; resting orders that it reaches are filled at their price."""
        self.listing(symbol)
        self.marks[symbol] = price
        self.told("mark", symbol)
        for order in self.open_orders(symbol):
            if order.price is not None and (price <= order.price if order.buy else price >= order.price):
                self.fill(order, order.price)

    def set_leverage(self, symbol: str, leverage: Decimal, leg: Leg = Leg.NET) -> None:
        """Raises Refused where the tier of the position (or the first one) allows less, or off the venue's step."""
        listing = self.listing(symbol)
        position = self.positions.get((symbol, leg))
        if leverage < 1:
            raise Refused(Why.BAD_VALUE, f"leverage {leverage}")
        if leverage % self.leverage_step:
            raise Refused(Why.LEVERAGE_STEP, f"leverage {leverage}")
        tier = listing.tier(position.quantity, self.mark(symbol)) if position else listing.tiers[0]
        if leverage > tier.leverage_max:
            raise Refused(Why.LEVERAGE_TOO_HIGH, f"leverage {leverage} above {tier.leverage_max}")
        if position is not None:
            needed = listing.value(position.quantity, self.mark(symbol)) / leverage - self.initial_margin(position)
            if position.mode is Mode.CROSS and needed * self.dollars(listing.settle) > self.health().available:
                raise Refused(Why.NOT_ENOUGH, f"leverage {leverage}")
            position.leverage = leverage
        self.leverage[symbol, leg] = leverage
        self.told("leverage", symbol)

    def set_mode(self, symbol: str, mode: Mode) -> None:
        """Raises Refused where it is so already, or a position or order is open."""
        if self.mode_of(symbol) is mode:
            raise Refused(Why.MODE_SAME, symbol)
        if self.held(symbol) or self.open_orders(symbol):
            raise Refused(Why.MODE_HELD, symbol)
        self.modes[symbol] = mode
        self.told("mode", symbol)

    def set_hedge(self, hedge: bool) -> None:
        """Two positions a symbol, or one; raises Refused with open positions or orders."""
        if self.hedge == hedge:
            raise Refused(Why.HEDGE_SAME)
        if self.held() or self.open_orders():
            raise Refused(Why.HEDGE_HELD)
        self.hedge = hedge

    def adjust_margin(self, symbol: str, leg: Leg, amount: Decimal) -> Position:
        """Adds to (or below zero takes from) the money behind an isolated position."""
        position = self.position(symbol, leg)
        if position.mode is not Mode.ISOLATED:
            raise Refused(Why.NOT_ISOLATED, symbol)
        listing = self.listing(symbol)
        least = listing.value(position.quantity, position.entry) / position.leverage
        if amount > 0 and amount * self.dollars(listing.settle) > self.health().available:
            raise Refused(Why.NOT_ENOUGH, f"{amount} {listing.settle}")
        if amount < 0 and position.margin + amount < least:
            raise Refused(Why.NOT_ENOUGH, f"no more than {position.margin - least} can be taken")
        position.margin += amount
        position.updated_at = self.now()
        self.told("position", symbol)
        return position

    def position(self, symbol: str, leg: Leg = Leg.NET) -> Position:
        """Raises Refused where there is none."""
        self.listing(symbol)
        if (symbol, leg) not in self.positions:
            raise Refused(Why.NO_POSITION, symbol)
        return self.positions[symbol, leg]

    def deposit(self, asset: str, amount: Decimal) -> None:
        """Money arrives, or below zero leaves."""
        self.credit(asset, amount)
        self.told("balance", asset)

    def credit(self, asset: str, amount: Decimal) -> None:
        self.balances[asset] = self.balances.get(asset, ZERO) + amount

    def borrow(self, asset: str, amount: Decimal) -> None:
        """Raises Refused above the limit of the asset; an asset without one can't be borrowed."""
        if amount <= 0:
            raise Refused(Why.BAD_VALUE, f"{amount} {asset}")
        if self.debts.get(asset, ZERO) + amount > self.borrow_limits.get(asset, ZERO):
            raise Refused(Why.BORROW_LIMIT, f"{amount} {asset}")
        self.debts[asset] = self.debts.get(asset, ZERO) + amount
        self.deposit(asset, amount)

    def repay(self, asset: str, amount: Decimal) -> Decimal:
        """Pays interest first, then principal; returns what was paid, never more than is owed."""
        if amount <= 0:
            raise Refused(Why.BAD_VALUE, f"{amount} {asset}")
        if not self.owed(asset):
            raise Refused(Why.NO_DEBT, asset)
        paid = min(amount, self.owed(asset))
        if paid > self.balances.get(asset, ZERO):
            raise Refused(Why.NOT_ENOUGH, f"{paid} {asset}")
        interest = min(paid, self.interest.get(asset, ZERO))
        self.interest[asset] = self.interest.get(asset, ZERO) - interest
        self.debts[asset] = self.debts.get(asset, ZERO) - (paid - interest)
        self.deposit(asset, -paid)
        return paid

    def pass_hours(self, hours: int) -> None:
        """Interest of so many hours, at the hourly rate of each asset, on the principal."""
        for _ in range(hours):
            for asset, principal in self.debts.items():
                rate = self.hourly_rates.get(asset, ZERO)
                if amount := principal * rate:
                    self.interest[asset] = self.interest.get(asset, ZERO) + amount
                    self.interest_paid.append(Interest(asset, amount, rate, principal, self.now()))
                    self.told("balance", asset)

    # What is traded.

    def place(
        self,
        symbol: str,
        buy: bool,
        quantity: Decimal,
        *,
        price: Decimal | None = None,
        leg: Leg = Leg.NET,
        reduce_only: bool = False,
        client_order_id: str = "",
        leverage: Decimal | None = None,
    ) -> Order:
        """Takes an order: at the market it is filled at the mark at once, with a price it rests unless it crosses.

        `leverage` is named by orders of margin trading on spot pairs, whose positions are kept like others.
        Raises Refused.
        """
        listing = self.listing(symbol)
        known = self.orders.values() if self.ids_once else self.open_orders()
        if client_order_id and any(order.client_order_id == client_order_id for order in known):
            raise Refused(Why.DUPLICATE_ID, client_order_id)
        if quantity <= 0 or quantity % listing.lot:
            raise Refused(Why.QUANTITY, str(quantity))
        if quantity < listing.smallest:
            raise Refused(Why.QUANTITY_SMALL, str(quantity))
        if price is not None and (price <= 0 or price % listing.tick):
            raise Refused(Why.PRICE, str(price))
        spot = listing.kind is Kind.SPOT and leverage is None and not reduce_only
        if listing.kind is not Kind.SPOT and (leg is Leg.NET) == self.hedged(symbol):
            raise Refused(Why.WRONG_LEG, symbol)
        now = self.now()
        order = Order(
            str(next(self.numbers)), client_order_id, symbol, buy, leg, quantity, price, reduce_only, leverage, now, now
        )
        if reduce_only or self.closes(order):
            order.quantity = self.reducible(order)
        elif spot:
            self.pay(listing, order)
        else:
            self.afford(listing, order)
        self.orders[order.order_id] = order
        self.told("order", order.order_id)
        mark = self.mark(symbol)
        if (price is None and not self.holding) or (price is not None and (mark <= price if buy else mark >= price)):
            self.execute(order, mark)
        return order

    def closes(self, order: Order) -> bool:
        """On a hedge account, selling a long or buying a short is always reducing."""
        return order.leg is not Leg.NET and order.buy == (order.leg is Leg.SHORT)

    def reducible(self, order: Order) -> Decimal:
        """How much of a reduce-only order can be taken: what is held. Raises Refused where that is nothing."""
        position = self.positions.get((order.symbol, order.leg))
        if position is None or (position.quantity > 0) == order.buy:
            raise Refused(Why.REDUCE_ONLY, order.symbol)
        return min(order.quantity, abs(position.quantity))

    def afford(self, listing: Listing, order: Order) -> None:
        """Raises Refused where the margin of what the order adds is not there."""
        position = self.positions.get((order.symbol, order.leg))
        held = position.quantity if position else ZERO
        after = held + (order.quantity if order.buy else -order.quantity)
        price = order.price or self.mark(order.symbol)
        added = listing.value(after, price) - listing.value(held, price)
        needed = added / (order.leverage or self.leverage_of(order.symbol, order.leg))
        if added > 0 and needed * self.dollars(listing.settle) > self.health().available:
            raise Refused(Why.NOT_ENOUGH, order.symbol)

    def pay(self, listing: Listing, order: Order) -> None:
        """Raises Refused where what a spot order gives away is not there."""
        asset = listing.quote if order.buy else listing.base
        given = order.quantity * (order.price or self.mark(order.symbol)) if order.buy else order.quantity
        if given > self.balances.get(asset, ZERO):
            raise Refused(Why.NOT_ENOUGH, f"{given} {asset}")

    def execute(self, order: Order, price: Decimal) -> None:
        """Fills what the market has; of an order at the market, the rest is cancelled."""
        self.fill(order, price, self.liquidity if order.price is None else None)
        if order.price is None and order.status is Status.OPEN:
            self.cancel(order)

    def fill_held(self) -> None:
        """Fills the market orders that were kept open."""
        for order in self.open_orders():
            if order.price is None:
                self.execute(order, self.mark(order.symbol))

    def fill(self, order: Order, price: Decimal, most: Decimal | None = None) -> None:
        """Fills an open order, fully or with `most`; a reduce-only order never beyond the position."""
        listing = self.listing(order.symbol)
        quantity = order.left if most is None else min(order.left, most)
        if order.reduce_only or self.closes(order):
            position = self.positions.get((order.symbol, order.leg))
            quantity = min(quantity, abs(position.quantity)) if position else ZERO
        if not quantity:
            self.cancel(order)
            return
        value = listing.value(quantity, price)
        fee, signed = value * self.fee_rate, quantity if order.buy else -quantity
        closed = won = ZERO
        if listing.kind is Kind.SPOT and order.leverage is None and not order.reduce_only:
            for asset, amount in ((listing.base, signed), (listing.quote, -signed * price - fee)):
                self.credit(asset, amount)
        else:
            closed, won = self.move(order, listing, signed, price)
            self.credit(listing.settle, won - fee)
        before = (order.average or ZERO) * order.filled
        order.filled += quantity
        order.average = (before + quantity * price) / order.filled
        order.fee += fee
        order.updated_at = self.now()
        if not order.left:
            order.status = Status.FILLED
        self.trades.append(
            Trade(
                str(next(self.numbers)),
                order.order_id,
                order.client_order_id,
                order.symbol,
                order.buy,
                order.leg,
                quantity,
                price,
                fee,
                listing.settle,
                closed,
                won,
                order.updated_at,
            )
        )
        self.told("trade", self.trades[-1].trade_id)
        self.told("order", order.order_id)
        self.told("position", order.symbol)
        self.told("balance", listing.settle)

    def move(self, order: Order, listing: Listing, signed: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
        """Carries a fill into the position; returns the closed part and what it won, in the settlement asset."""
        key, now = (order.symbol, order.leg), self.now()
        position = self.positions.get(key)
        if position is None:
            leverage = order.leverage or self.leverage_of(*key)
            margin = listing.value(signed, price) / leverage
            mode = self.mode_of(order.symbol)
            self.positions[key] = Position(order.symbol, order.leg, signed, price, mode, leverage, margin, now, now)
            return ZERO, ZERO
        position.updated_at = now
        if (position.quantity > 0) == (signed > 0):
            both = position.quantity + signed
            if listing.kind is Kind.INVERSE:
                position.entry = both / (position.quantity / position.entry + signed / price)
            else:
                position.entry = (position.quantity * position.entry + signed * price) / both
            position.quantity = both
            position.margin += listing.value(signed, price) / position.leverage
            return ZERO, ZERO
        closed = min(abs(position.quantity), abs(signed))
        direction = closed if position.quantity > 0 else -closed
        won = listing.profit(direction, position.entry, price)
        position.margin -= position.margin * closed / abs(position.quantity)
        position.realized += won
        position.quantity -= direction
        if not position.quantity:
            del self.positions[key]
        if rest := signed + direction:
            self.move(order, listing, rest, price)
        return closed, won

    def cancel(self, order: Order) -> None:
        """Raises Refused for an order that is not open."""
        if order.status is not Status.OPEN:
            raise Refused(Why.UNKNOWN_ORDER, order.order_id)
        order.status = Status.CANCELLED
        order.updated_at = self.now()
        self.told("order", order.order_id)

    def cancel_all(self, symbol: str | None = None) -> list[Order]:
        cancelled = self.open_orders(symbol)
        for order in cancelled:
            self.cancel(order)
        return cancelled

    # What others do to the account.

    def hold(self, symbol: str, quantity: Decimal, leg: Leg = Leg.NET, entry: Decimal | None = None) -> Position:
        """A position appears that no order of ours made."""
        listing, now = self.listing(symbol), self.now()
        price, leverage = entry or self.mark(symbol), self.leverage_of(symbol, leg)
        margin = listing.value(quantity, price) / leverage
        position = Position(symbol, leg, quantity, price, self.mode_of(symbol), leverage, margin, now, now)
        self.positions[symbol, leg] = position
        self.told("position", symbol)
        return position

    def close_by_hand(self, symbol: str, leg: Leg = Leg.NET, quantity: Decimal | None = None) -> Order:
        """The owner closes a position on the venue's own page."""
        return self.close(symbol, leg, quantity, liquidation=False)

    def liquidate(self, symbol: str, leg: Leg = Leg.NET) -> Order:
        """The venue takes a position away."""
        return self.close(symbol, leg, None, liquidation=True)

    def close(self, symbol: str, leg: Leg, quantity: Decimal | None, *, liquidation: bool) -> Order:
        """Closes at the mark with an order that has no client order id."""
        position, now = self.position(symbol, leg), self.now()
        size = abs(position.quantity) if quantity is None else quantity
        order = Order(str(next(self.numbers)), "", symbol, position.quantity < 0, leg, size, None, True, None, now, now)
        order.liquidation = liquidation
        self.orders[order.order_id] = order
        self.fill(order, self.mark(symbol))
        return order
