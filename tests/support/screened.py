"""Accounts watched by the screen, and campaigns of marks that look whether it ever misses one."""

import math
import random
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import MarginMode, PositionMode
from debt_mgmt.core.decide import decide
from debt_mgmt.core.instrument import Instrument, InstrumentKind, MarginBase, VenueRules
from debt_mgmt.core.margin import summarize
from debt_mgmt.core.screen import Screen
from debt_mgmt.core.settings import RiskSettings
from tests.support.desk import FREE, HOUSE, Desk, kinds
from tests.support.instruments import ALL, FLAT, STEPPED_TIERS, inverse, linear

D = Decimal

ON_ENTRY = VenueRules(initial_margin_base=MarginBase.ENTRY, maintenance_margin_base=MarginBase.ENTRY)
WITH_FEE = VenueRules(fee_in_maintenance=True, fee_in_initial=True)
FLOATING_SHORTS = msgspec.structs.replace(ON_ENTRY, short_margin_base=MarginBase.MARK)
INSTRUMENTS = (
    *ALL,
    linear("XRPUSDT", lot="1", tick="0.0001", table=STEPPED_TIERS, rules=WITH_FEE, taker_fee_rate="0.0005"),
    linear("ADAUSDT", lot="1", tick="0.0001", rules=ON_ENTRY),
    linear("DOTUSDT", lot="0.1", tick="0.001", kind=InstrumentKind.SPOT_MARGIN, rules=FLOATING_SHORTS),
    inverse("ETHUSD", contract_size="10", table=STEPPED_TIERS),
    msgspec.structs.replace(inverse("XRPUSD", contract_size="10", rules=ON_ENTRY), tick=D("0.0001")),
    msgspec.structs.replace(
        linear("ETHUSDT", lot="0.01", tick="0.00001", table=FLAT), symbol="ETHBTC", quote="BTC", settle="BTC"
    ),
)
PRICES = {
    "BTCUSDT": "60000",
    "ETHUSDT": "2500",
    "SOLUSDT": "150",
    "ABCUSDT": "40",
    "BTCUSD": "60010",
    "XRPUSDT": "0.55",
    "ADAUSDT": "0.4",
    "DOTUSDT": "5",
    "ETHUSD": "2501",
    "XRPUSD": "0.5501",
    "ETHBTC": "0.04166",
}
WORTH = {"USDT": 1.0, "USD": 1.0, "BTC": 60000.0, "ETH": 2500.0, "XRP": 0.55}


class Watched(Desk):
    """A desk with a screen beside it, which is told what an engine would tell it."""

    def __init__(self, settings: RiskSettings = HOUSE, instruments: tuple[Instrument, ...] = INSTRUMENTS) -> None:
        super().__init__(settings, instruments=instruments)
        self.screen = Screen()
        self.value("USDT", USD="1", INR="83")
        self.value("USD", INR="83")
        self.value("BTC", haircut="0.05", priced_by="BTCUSDT")
        self.value("ETH", haircut="0.1", priced_by="ETHBTC")
        self.value("XRP", priced_by="XRPUSDT")

    def load(self, *names: str) -> None:
        """The accounts are put on the screen as they stand; all where none is named."""
        for name in names or tuple(self.accounts):
            world = self.world(name)
            self.screen.update(self.accounts[name], summarize(self.accounts[name], world), world)

    def set(self, symbol: str, price: str | Decimal) -> set[str]:
        """A new mark, screened and not assessed; the accounts named."""
        self.mark(symbol, price, assess=False)
        named = self.screen.mark(symbol, self.marks[symbol].price)
        assert len(named) == len(set(named))
        return set(named)

    def reduce(self, name: str) -> None:
        """Carry out the open steps of a reduction; one with nothing left to reduce is ended."""
        while (reduction := self.accounts[name].reduction) is not None and reduction.open_steps:
            step = reduction.open_steps[0]
            position = self.position(name, step.symbol, step.position_side.value)
            if position is None or position.quantity * step.side.sign >= 0:
                self.do(name, c.EndReductionStep(reduction.plan_id, step.step, "nothing is left to reduce"))
                continue
            self.do(
                name,
                c.RecordFill(
                    step.client_order_id,
                    step.symbol,
                    step.side,
                    min(step.quantity, abs(position.quantity)),
                    self.marks[step.symbol].price,
                    position_side=step.position_side,
                    plan_id=reduction.plan_id,
                    step=step.step,
                ),
            )

    def would_happen(self, name: str) -> list[str]:
        """The events that an assessment would make now."""
        return kinds(decide(self.accounts[name], c.Assess(), self.world(name)))

    def figures_agree(self) -> None:
        shown = dict(self.screen.most_utilized(len(self.accounts)))
        for name, account in self.accounts.items():
            summary = summarize(account, self.world(name))
            if summary.missing or summary.used == 0:
                assert name not in shown
            elif summary.equity > 0:
                exact = float(summary.used / summary.equity)
                assert shown[name] == pytest.approx(exact, rel=1e-7, abs=1e-9 * exact * exact)


# A campaign: many kinds of accounts, many marks


@dataclass
class Campaign:
    """Random accounts on random marks. Whatever an assessment would find must have been named by the screen."""

    seed: int
    accounts: int = 30
    looked_at: int = 0
    named_in_vain: int = 0
    """Without anything to decide, though all prices are known and equity is above zero."""
    happened: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        limits = msgspec.structs.replace(HOUSE.limits, breaker_cool_down_seconds=0)
        self.desk = Watched(msgspec.structs.replace(HOUSE, limits=limits))
        late = self.random.choice(sorted(PRICES))
        for symbol, price in PRICES.items():
            if symbol != late:
                self.desk.mark(symbol, price, assess=False)
                self.desk.screen.mark(symbol, D(price))
        for number in range(self.accounts):
            self.open(f"account-{number}")
        self.desk.load()

    def open(self, name: str) -> None:
        rng, desk = self.random, self.desk
        hedge = rng.random() < 0.25
        desk.open(
            name,
            currency=rng.choice(("USDT", "USDT", "INR", "USD")),
            asset="USDT",
            position_mode=PositionMode.HEDGE if hedge else PositionMode.ONE_WAY,
            margin_mode=MarginMode.ISOLATED if rng.random() < 0.2 else MarginMode.CROSS,
        )
        symbols = rng.sample(sorted(PRICES), rng.randint(1, 4))
        needed, fills = 0.0, []
        for symbol in symbols:
            instrument = desk.house.instruments[symbol]
            leverage = rng.choice((1, 2, 3, 5))
            desk.leverage(name, symbol, leverage)
            if rng.random() < 0.2:
                desk.do(name, c.SetMarginMode(symbol, MarginMode.ISOLATED))
            for leg in rng.sample(("LONG", "SHORT"), rng.randint(1, 2)) if hedge else ("NET",):
                notional = 10 ** rng.uniform(2.5, 5.5)
                quantity = self.contracts(instrument, notional)
                side = {"LONG": "BUY", "SHORT": "SELL"}.get(leg) or rng.choice(("BUY", "SELL"))
                fills.append((side, quantity, symbol, leg))
                needed += notional / leverage
        asset = rng.choice(("USDT", "USDT", "BTC", "ETH", "USD"))
        deposit = needed / rng.uniform(0.3, 0.95) / WORTH[asset]
        desk.deposit(name, D(f"{deposit:.8f}"), asset)
        if rng.random() < 0.3:
            desk.deposit(name, D(f"{needed * rng.uniform(0, 0.3) / WORTH['BTC']:.8f}"), "BTC")
        for side, quantity, symbol, leg in fills:
            desk.fill(name, side, quantity, symbol, PRICES[symbol], leg=leg)
        for _ in range(rng.randint(0, 3)):
            self.reserve(name)
        desk.do(name, c.Assess())

    def contracts(self, instrument: Instrument, notional: float) -> Decimal:
        if instrument.inverse:
            quantity = notional / float(instrument.contract_size)
        else:
            quantity = notional / float(PRICES[instrument.symbol]) / WORTH[instrument.quote]
        lots = max(1, round(quantity / float(instrument.lot)))
        return lots * instrument.lot

    def reserve(self, name: str) -> None:
        rng, desk = self.random, self.desk
        symbol = rng.choice(sorted(PRICES))
        mark = desk.marks.get(symbol)
        if mark is None:
            return
        instrument = desk.house.instruments[symbol]
        price = (mark.price * D(f"{rng.uniform(0.9, 1.1):.3f}")) // instrument.tick * instrument.tick
        hedge = desk.accounts[name].position_mode is PositionMode.HEDGE
        side = rng.choice(("BUY", "SELL"))
        leg = ("LONG" if side == "BUY" else "SHORT") if hedge else "NET"
        quantity = self.contracts(instrument, 10 ** rng.uniform(2, 4.5))
        desk.reserve(name, side, quantity, symbol, max(price, instrument.tick), leg=leg)

    def run(self, marks: int) -> None:
        rng, desk = self.random, self.desk
        for _ in range(marks):
            symbol = rng.choice(sorted(PRICES))
            tick = desk.house.instruments[symbol].tick
            before = desk.marks[symbol].price if symbol in desk.marks else D(PRICES[symbol])
            move = math.exp(rng.gauss(0, rng.choice((0.0005, 0.0005, 0.005, 0.03, 0.1))))
            pending = {name for name in desk.accounts if desk.would_happen(name)}
            named = desk.set(symbol, max(round(before * D(f"{move:.6f}") / tick) * tick, tick))
            holders = set(desk.screen.holders(symbol))
            assert named <= holders
            self.looked_at += len(holders)
            for name in desk.accounts:
                found = desk.would_happen(name)
                if found and (name in holders or name not in pending):
                    assert name in named, f"seed {self.seed}: {symbol} made {found} for {name} and it was not named"
                    for kind in found:
                        self.happened[kind] = self.happened.get(kind, 0) + 1
                elif name in named and self.is_plain(name):
                    self.named_in_vain += 1
            for name in sorted(named):
                desk.do(name, c.Assess())
                if rng.random() < 0.8:
                    desk.reduce(name)
                    desk.do(name, c.Assess())
                desk.load(name)
            self.trade()
        desk.figures_agree()
        desk.screen.rebase()
        desk.figures_agree()

    def is_plain(self, name: str) -> bool:
        summary = summarize(self.desk.accounts[name], self.desk.world(name))
        return summary.known and summary.equity > 0

    def trade(self) -> None:
        """Now and then somebody trades, deposits, or leaves a reduction half done."""
        rng, desk = self.random, self.desk
        if rng.random() < 0.3:
            name = rng.choice(sorted(desk.accounts))
            account = desk.accounts[name]
            if rng.random() < 0.3:
                self.reserve(name)
            elif account.reservations and rng.random() < 0.5:
                desk.do(name, c.ReleaseReservation(next(iter(account.reservations))))
            elif account.positions and rng.random() < 0.5:
                position = rng.choice(list(account.positions.values()))
                side = "SELL" if position.quantity > 0 else "BUY"
                if position.symbol in desk.marks:
                    desk.fill(name, side, abs(position.quantity), position.symbol, leg=position.side.value)
            elif rng.random() < 0.5:
                desk.deposit(name, D(rng.randrange(1, 5000)), rng.choice(("USDT", "USDT", "USD")))
            else:
                desk.do(name, c.ResumeTrading("the loss is accepted"))
            desk.do(name, c.Assess())
            desk.load(name)


def long_account(settings: RiskSettings = FREE) -> Watched:
    """alice: 1 BTC long at 60,000, 5x, 24,000 USDT: utilisation 0.50."""
    desk = Watched(settings)
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 24_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1)
    desk.load("alice")
    return desk


# Equity is P − 36,000 and margin used P ÷ 5: utilisation is 0.70 at 50,400 and 0.80 at 48,000.
