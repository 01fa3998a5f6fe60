"""Over any life of borrowing, trading and settling: the books balance, ledger by ledger, and replay as they were."""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, MarginMode, PositionMode
from tests.support.desk import FREE, Desk, decode, postings_in, sums_by_asset

D = Decimal
CODEC = msgspec.json.Decoder(Account)
CLOCKS = ("binance_hourly", "bybit_hourly", "okx_hourly", "kraken_4h", "cryptocom_hourly")
VERBS = (
    *("borrow", "repay", "wait", "fill") * 2,
    *("repay all", "fund", "mark", "convert", "fee", "rate", "reset", "withdraw", "reserve"),
)


@st.composite
def lives(draw: st.DrawFn) -> Desk:
    """A desk whose account `alice` has borrowed, traded and been settled with, in any order."""
    desk = Desk(FREE)
    desk.value("BTC", priced_by="BTCUSDT", haircut="0.05")
    desk.value("USDC", USDT="1")
    for asset in ("USDT", "BTC"):
        desk.house_do(c.SetBorrowRate(asset, D("0.35"), draw(st.sampled_from(CLOCKS))))
    for symbol, price in (("BTCUSDT", 50_000), ("BTCUSD", 50_000), ("ETHUSDT", 2_500)):
        desk.mark(symbol, price)
    desk.open(
        "alice",
        draw(st.integers(500, 50_000)),
        position_mode=draw(st.sampled_from(PositionMode)),
        margin_mode=draw(st.sampled_from(MarginMode)),
    )
    desk.deposit("alice", draw(st.integers(0, 3_000)), "USDC") if draw(st.booleans()) else None
    for _ in range(draw(st.integers(3, 14))):
        step(desk, draw)
    return desk


def step(desk: Desk, draw: st.DrawFn) -> None:
    share = draw(st.integers(1, 1000))
    asset, symbol = ("USDT", "BTCUSDT") if share % 3 else ("BTC", "BTCUSD")
    amount = D(share * 7) / (1 if asset == "USDT" else 100_000)
    leg = "NET"
    if desk.account().position_mode is PositionMode.HEDGE:
        leg = "LONG" if share % 2 else "SHORT"
    match draw(st.sampled_from(VERBS)):
        case "borrow":
            desk.do("alice", c.Borrow(asset, amount))
        case "repay":
            desk.do("alice", c.Repay(asset, round(amount / 3, 6)))
        case "repay all":
            desk.do("alice", c.Repay(asset))
        case "wait":
            desk.wait(timedelta(minutes=share), fresh=True)
            desk.do("alice", c.ChargeInterest())
        case "fill":
            side = "buy" if draw(st.booleans()) else "sell"
            desk.fill("alice", side, D(share) / 100 if symbol == "BTCUSDT" else share, symbol, leg=leg)
        case "fund":
            rate = D(draw(st.integers(-30, 30))) / 1000
            at = desk.now.replace(minute=0, second=0)
            desk.do("alice", c.SettleFunding(symbol, rate, D(50_000), at))
        case "mark":
            desk.mark("BTCUSDT", 25_000 + share * 60)
        case "convert":
            desk.do("alice", c.ConvertAssets(asset))
        case "fee":
            desk.fill(
                "alice", "buy", "0.001", fee=str(share * 10), fee_asset=asset, leg="LONG" if leg != "NET" else leg
            )
        case "rate":
            desk.house_do(c.SetBorrowRate(asset, D(share) / 500, "okx_hourly"))
        case "reset" if share > 900:
            desk.do("alice", c.ResetFunds("again"))
        case "withdraw":
            desk.do("alice", c.Transfer(asset, -amount))
        case "reserve":
            desk.reserve("alice", "buy" if share % 2 else "sell", D(share) / 1000, leg=leg)


@given(lives())
@settings(max_examples=150)
def test_every_ledger_is_what_the_account_says(desk: Desk) -> None:
    """wallet = balances, debt = −owed, house = interest earned; and all sides of all movements cancel out."""
    desk.run_reductions("alice")
    ledgers: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in desk.journal["alice"]:
        event = decode(row)
        assert not any(sums_by_asset(postings_in(event)).values())
        for posting in postings_in(event):
            ledgers[posting.ledger][posting.asset] += posting.amount
    account = desk.account()
    assert nonzero(ledgers["wallet"]) == nonzero(account.balances)
    assert nonzero(ledgers["debt"]) == {asset: -debt.owed for asset, debt in account.debts.items()}
    charged = [event for event in desk.events("alice") if isinstance(event, e.InterestCharged)]
    assert sum(ledgers["house"].values(), D(0)) == sum((event.amount for event in charged), D(0))
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for amounts in ledgers.values():
        for asset, amount in amounts.items():
            totals[asset] += amount
    assert not any(totals.values())


def nonzero(amounts: dict[str, Decimal]) -> dict[str, Decimal]:
    return {asset: amount for asset, amount in amounts.items() if amount}


@given(lives())
@settings(max_examples=80)
def test_the_journal_alone_gives_the_same_account(desk: Desk) -> None:
    assert desk.replayed("alice") == desk.account()
    assert CODEC.decode(msgspec.json.encode(desk.account())) == desk.account()


@given(lives())
@settings(max_examples=80)
def test_nothing_more_happens_while_nothing_changes(desk: Desk) -> None:
    desk.run_reductions("alice")
    desk.do("alice", c.ChargeInterest())
    assert desk.do("alice", c.Assess()) == ()
    assert desk.do("alice", c.ChargeInterest()) == ()


@given(lives())
@settings(max_examples=80)
def test_equity_is_wallet_and_profit_less_debts(desk: Desk) -> None:
    """By hand, from the account: collateral at its weight, cross profit, debts in full."""
    account, summary = desk.account(), desk.summary()
    weight = {"USDT": D(1), "USDC": D(1), "BTC": desk.marks["BTCUSDT"].price}
    posted: dict[str, Decimal] = defaultdict(Decimal)
    equity = D(0)
    for one in summary.positions:
        if one.isolated:
            posted[one.instrument.settle] += one.position.isolated_margin
        else:
            equity += one.unrealized_pnl * weight[one.instrument.settle]
    for asset in {*account.balances, *posted}:
        free = account.balances.get(asset, D(0)) - posted[asset]
        equity += free * weight[asset] * (D("0.95") if asset == "BTC" and free > 0 else 1)
    for asset, debt in account.debts.items():
        assert debt.principal >= 0
        assert debt.accrued_interest >= 0
        assert debt.owed > 0, "no debt of nothing"
        equity -= debt.owed * weight[asset]
    assert summary.equity == equity
