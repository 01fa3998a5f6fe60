"""A desk: accounts, house, prices and clock around the real engine. Every event is checked and journaled on its way."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    Environment,
    Figures,
    Limits,
    MarginMode,
    Position,
    PositionMode,
    PositionSide,
    Posting,
    Side,
    position_key,
)
from debt_mgmt.core.apply import apply
from debt_mgmt.core.check import CheckResult, check
from debt_mgmt.core.decide import decide
from debt_mgmt.core.house import House, apply_house, decide_house
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.limit_sets import Hours, LimitMode, LimitSet, NodeLimits
from debt_mgmt.core.margin import Summary, World, figures, summarize
from debt_mgmt.core.market import AssetRule, Mark
from debt_mgmt.core.scope import HOUSE as HOUSE_SCOPE
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.view import AccountView
from tests.support.instruments import ALL
from tests.support.others import Ordered, Others

D = Decimal
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)

ENCODER = msgspec.json.Encoder()
DECODER: msgspec.json.Decoder[e.AnyEvent] = msgspec.json.Decoder(e.AnyEvent)

NO_LIMITS = Limits(order_rate_interval_seconds=1, breaker_cool_down_seconds=3600)
"""House defaults without any limit, for tests of something else."""

HOUSE = RiskSettings()
"""As the service comes."""

FREE = RiskSettings(limits=NO_LIMITS)


def encode(event: e.Event) -> bytes:
    """The event as the journal keeps it."""
    return ENCODER.encode(event)


def decode(row: bytes) -> e.AnyEvent:
    return DECODER.decode(row)


def postings_in(event: e.Event) -> tuple[Posting, ...]:
    """The movements of money that an event carries."""
    return getattr(event, "postings", ())


def sums_by_asset(postings: Iterable[Posting]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for posting in postings:
        sums[posting.asset] += posting.amount
    return sums


class Desk:
    """Commands go through decide, each event through the journal's codec, and only what was decoded is applied."""

    def __init__(
        self,
        settings: RiskSettings = HOUSE,
        *,
        instruments: Iterable[Instrument] = ALL,
        at: datetime = NOON,
    ) -> None:
        self.settings = settings
        self.house = House()
        self.marks: dict[str, Mark] = {}
        self.now = at
        self.accounts: dict[str, Account] = {}
        self.journal: dict[str, list[bytes]] = {}
        self.ordered: list[Ordered] = []
        """Risk-adding orders, as the order rate of a node counts them."""
        for instrument in instruments:
            self.house_do(c.PutInstrument(instrument))

    # What surrounds the accounts

    def house_do(self, command: c.Command) -> tuple[e.HouseEvent, ...]:
        events = decide_house(self.house, command, self.now)
        for event in events:
            assert decode(encode(event)) == event
            self.house = apply_house(self.house, event)
        return events

    def value(self, asset: str, *, haircut: str = "0", priced_by: str = "", **rates: str) -> None:
        """How an asset is valued and what it counts for."""
        self.house_do(c.SetAssetRule(AssetRule(asset, D(haircut), priced_by, {k: D(v) for k, v in rates.items()})))

    def mark(
        self,
        symbol: str,
        price: str | Decimal | int,
        *,
        age: timedelta = timedelta(0),
        recorded: bool = False,
        assess: bool = True,
    ) -> dict[str, tuple[e.Event, ...]]:
        """A new price; every account is assessed on it. What happened, by account."""
        seen = self.now - age
        self.marks[symbol] = Mark(symbol, D(price), "test", seen, seen, recorded)
        return self.assess_all() if assess else {}

    def forget(self, symbol: str) -> dict[str, tuple[e.Event, ...]]:
        """The price of a symbol is no longer known."""
        self.marks.pop(symbol, None)
        return self.assess_all()

    def wait(self, duration: timedelta, *, fresh: bool = False) -> dict[str, tuple[e.Event, ...]]:
        """Time passes; prices grow old unless `fresh`."""
        self.now += duration
        if fresh:
            for symbol, mark in self.marks.items():
                self.marks[symbol] = msgspec.structs.replace(mark, source_time=self.now, received_at=self.now)
        return self.assess_all()

    def assess_all(self) -> dict[str, tuple[e.Event, ...]]:
        happened = {name: self.do(name, c.Assess()) for name in self.accounts}
        return {name: events for name, events in happened.items() if events}

    def world(self, account_id: str) -> World:
        written = len(self.journal.get(account_id, ()))
        return World(self.house, self.marks, self.settings, self.now, 1, written + 1, outside=self.others)

    @property
    def others(self) -> Others:
        """What all accounts use of the tree of limits."""
        return Others(self.accounts, self.ordered, lambda: World(self.house, self.marks, self.settings, self.now))

    def limit_node(
        self,
        scope: Scope = HOUSE_SCOPE,
        name: str = "",
        *,
        currency: str = "USDT",
        mode: LimitMode = LimitMode.ENFORCED,
        hours: tuple[Hours, ...] = (),
        **limits: Decimal | int | str,
    ) -> tuple[e.HouseEvent, ...]:
        """Set the limits of a node; texts are decimals."""
        values: dict[str, Any] = {name: D(one) if isinstance(one, str) else one for name, one in limits.items()}
        return self.house_do(c.PutLimitSet(LimitSet(scope, name, mode, NodeLimits(**values), hours, currency)))

    # Accounts

    def open(
        self,
        account_id: str = "alice",
        deposit: str | Decimal | int = 0,
        *,
        currency: str = "USDT",
        asset: str = "",
        owner: str = "desk",
        broker: str = "paper",
        environment: Environment = Environment.SANDBOX,
        position_mode: PositionMode = PositionMode.ONE_WAY,
        margin_mode: MarginMode = MarginMode.CROSS,
    ) -> Account:
        self.do(
            account_id,
            c.CreateAccount(
                account_id, owner, broker, environment, currency, position_mode, margin_mode, asset, D(deposit)
            ),
        )
        return self.accounts[account_id]

    def do(self, account_id: str, command: c.Command) -> tuple[e.Event, ...]:
        """Decide, journal, apply. Money must balance in every event, and a refusal must stand alone."""
        account = self.accounts.get(account_id)
        events = decide(account, command, self.world(account_id))
        log = self.journal.setdefault(account_id, [])
        for event in events:
            row = encode(event)
            again = decode(row)
            assert again == event, f"{event!r} came back from the journal as {again!r}"
            assert not any(sums_by_asset(postings_in(event)).values()), f"money appeared or vanished in {event!r}"
            log.append(row)
            account = apply(account, again)
            if isinstance(again, e.MarginReserved | e.OrderPlaced) and not again.reservation.reduce_only:
                self.ordered.append((self.now, account_id, again.reservation))
        assert not any(isinstance(event, e.CommandRefused) for event in events[1:])
        if account is not None:
            self.accounts[account_id] = account
        return events

    def replayed(self, account_id: str) -> Account:
        """The account as its journal alone says it is."""
        account: Account | None = None
        for row in self.journal[account_id]:
            account = apply(account, decode(row))
        assert account is not None
        return account

    def events(self, account_id: str) -> list[e.AnyEvent]:
        """Everything that happened to the account, as its journal has it."""
        return [decode(row) for row in self.journal[account_id]]

    # The usual commands, in short

    def deposit(self, account_id: str, amount: str | Decimal | int, asset: str = "USDT") -> tuple[e.Event, ...]:
        return self.do(account_id, c.Transfer(asset, D(amount)))

    def leverage(self, account_id: str, symbol: str, leverage: str | Decimal | int) -> tuple[e.Event, ...]:
        return self.do(account_id, c.SetLeverage(symbol, D(leverage)))

    def fill(
        self,
        account_id: str,
        side: str,
        quantity: str | Decimal | int,
        symbol: str = "BTCUSDT",
        price: str | Decimal | int | None = None,
        *,
        fee: str | Decimal = "0",
        fee_asset: str = "",
        leg: str = "NET",
        reservation_id: str = "",
    ) -> tuple[e.Event, ...]:
        """Record a fill, at the mark where no price is given."""
        log = self.journal[account_id]
        at = self.marks[symbol].price if price is None else D(price)
        return self.do(
            account_id,
            c.RecordFill(
                f"fill-{len(log) + 1}",
                symbol,
                Side(side.upper()),
                D(quantity),
                at,
                fee=D(fee),
                fee_asset=fee_asset,
                position_side=PositionSide(leg),
                reservation_id=reservation_id,
            ),
        )

    def reserve(
        self,
        account_id: str,
        side: str,
        quantity: str | Decimal | int,
        symbol: str = "BTCUSDT",
        price: str | Decimal | int | None = None,
        *,
        reduce_only: bool = False,
        leg: str = "NET",
        time_to_live: timedelta | None = None,
    ) -> tuple[e.Event, ...]:
        asked = order(side, quantity, symbol, price, reduce_only=reduce_only, leg=leg)
        return self.do(account_id, c.ReserveMargin(asked, time_to_live))

    def limit(self, account_id: str, **limits: Decimal | int) -> tuple[e.Event, ...]:
        return self.do(account_id, c.SetLimits(Limits(**limits), tuple(limits)))  # type: ignore[arg-type]

    def run_reductions(self, account_id: str) -> list[e.FillRecorded]:
        """Fill every open step of the running reduction at the mark, until none is left.

        As a broker's reduce-only orders do: at most what is still held, and nothing where nothing is.
        """
        fills: list[e.FillRecorded] = []
        while (reduction := self.accounts[account_id].reduction) is not None and reduction.open_steps:
            step = reduction.open_steps[0]
            position = self.accounts[account_id].positions.get(position_key(step.symbol, step.position_side))
            held = abs(position.quantity) if position and position.quantity * step.side.sign < 0 else D(0)
            if held == 0:
                self.do(account_id, c.EndReductionStep(reduction.plan_id, step.step, "nothing is left to reduce"))
                continue
            command = c.RecordFill(
                step.client_order_id,
                step.symbol,
                step.side,
                min(step.quantity, held),
                self.marks[step.symbol].price,
                position_side=step.position_side,
                plan_id=reduction.plan_id,
                step=step.step,
            )
            fills += [event for event in self.do(account_id, command) if isinstance(event, e.FillRecorded)]
        return fills

    # Looking

    def account(self, account_id: str = "alice") -> Account:
        return self.accounts[account_id]

    def view(self, account_id: str = "alice") -> AccountView:
        return AccountView(self.accounts[account_id], self.world(account_id))

    def summary(self, account_id: str = "alice") -> Summary:
        return summarize(self.accounts[account_id], self.world(account_id))

    def figures(self, account_id: str = "alice") -> Figures:
        return figures(self.summary(account_id))

    def check(
        self,
        account_id: str,
        side: str,
        quantity: str | Decimal | int,
        symbol: str = "BTCUSDT",
        price: str | Decimal | int | None = None,
        *,
        reduce_only: bool = False,
        leg: str = "NET",
    ) -> CheckResult:
        asked = order(side, quantity, symbol, price, reduce_only=reduce_only, leg=leg)
        return check(self.view(account_id), asked, self.now)

    def position(self, account_id: str = "alice", symbol: str = "BTCUSDT", leg: str = "NET") -> Position | None:
        return self.accounts[account_id].positions.get(position_key(symbol, PositionSide(leg)))


def order(
    side: str,
    quantity: str | Decimal | int,
    symbol: str = "BTCUSDT",
    price: str | Decimal | int | None = None,
    *,
    reduce_only: bool = False,
    leg: str = "NET",
) -> c.Order:
    return c.Order(
        symbol, Side(side.upper()), D(quantity), None if price is None else D(price), reduce_only, PositionSide(leg)
    )


def refusal(events: tuple[e.Event, ...]) -> e.CommandRefused:
    """The refusal that the events are."""
    assert len(events) == 1, events
    assert isinstance(events[0], e.CommandRefused), events
    return events[0]


def reasons(events: tuple[e.Event, ...]) -> list[str]:
    """The reasons of a refusal, in the order given; none where the command was carried out."""
    if events and isinstance(events[0], e.CommandRefused):
        return [violation.reason.value for violation in refusal(events).violations]
    return []


def kinds(events: tuple[e.Event, ...]) -> list[str]:
    return [e.kind_of(event) for event in events]
