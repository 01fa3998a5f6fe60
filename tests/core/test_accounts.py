"""Accounts from opening to closing, the reset of paper capital, and the house that they live in."""

from decimal import Decimal

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Environment, RiskLevel, TradingState
from debt_mgmt.core.house import House, apply_house, decide_house
from debt_mgmt.core.instrument import Tier, instrument_problems
from debt_mgmt.core.market import AssetRule
from tests.support.desk import FREE, NOON, Desk, decode, encode, kinds, reasons
from tests.support.instruments import BTCUSDT, FLAT, linear, tiers
from tests.support.scenario import play

D = Decimal


def test_a_sandbox_begins_with_ten_million_rupees() -> None:
    desk = Desk()
    desk.do("alice", c.CreateAccount("alice", "desk", "paper", Environment.SANDBOX, ""))
    account = desk.account()
    assert (account.currency, account.balances) == ("INR", {"INR": D(10_000_000)})
    assert (account.starting_asset, account.starting_capital) == ("INR", D(10_000_000))
    assert desk.figures().margin_available == 10_000_000


def test_a_real_account_begins_with_nothing() -> None:
    desk = Desk()
    for environment in (Environment.TESTNET, Environment.LIVE):
        account = desk.open(environment.value, 1_000, environment=environment)
        assert account.balances == {}
        assert account.starting_capital is None


def test_available_and_used_less_realised_is_the_capital() -> None:
    """With no open profit: what was earned or lost explains all of the difference."""
    desk = play(
        """
        deposit  alice 10000 USDT
        mark     ABCUSDT 100
        fill     alice buy 50 ABCUSDT
        mark     ABCUSDT 110
        fill     alice sell 20 ABCUSDT
        fill     alice sell 30 ABCUSDT
        fill     alice buy 40 ABCUSDT
        reserve  alice buy 10 ABCUSDT
        """,
        Desk(FREE),
    )
    summary = desk.summary()
    realized = desk.account().realized_pnl["USDT"]
    assert realized == 500
    assert summary.available + summary.used - realized == 10_000


def test_fees_are_paid_from_the_wallet_and_are_no_part_of_realised_profit() -> None:
    desk = Desk(FREE)
    desk.value("BNB", USDT="600")
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.fill("alice", "buy", 10, "ABCUSDT", fee="0.5")
    desk.fill("alice", "sell", 10, "ABCUSDT", 110, fee="0.001", fee_asset="BNB")
    account = desk.account()
    assert account.realized_pnl == {"USDT": D(100)}
    assert account.fees_paid == {"USDT": D("0.5"), "BNB": D("0.001")}
    assert account.balances == {"USDT": D("10099.5"), "BNB": D("-0.001")}
    assert desk.summary().equity == D("10099.5") - D("0.6")


def test_a_rebate_is_a_fee_below_zero() -> None:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.fill("alice", "buy", 10, "ABCUSDT", fee="-0.25")
    assert desk.account().balances == {"USDT": D("10000.25")}


def test_a_reset_clears_everything_in_one_event() -> None:
    desk = play(
        """
        deposit   alice 10000 USDT
        deposit   alice 500 USDT
        leverage  alice ABCUSDT 5x
        mark      ABCUSDT 100
        fill      alice buy 450 ABCUSDT
        reserve   alice sell 10 ABCUSDT
        mark      ABCUSDT 80               -> alice LIQUIDATING
        """,
        Desk(),
    )
    before = desk.account()
    assert before.reduction is not None
    assert before.breakers
    events = desk.do("alice", c.ResetFunds("monthly"))
    assert kinds(events) == ["FundsReset", "BaselinesSet"]
    account = desk.account()
    assert account.balances == {"USDT": D(10_000)}
    assert (account.positions, account.reservations, account.breakers, account.reduction) == ({}, {}, {}, None)
    assert (account.realized_pnl, account.level, account.trading_state) == ({}, RiskLevel.NORMAL, TradingState.ACTIVE)
    assert (account.reset_count, account.last_reset_at) == (1, desk.now)
    assert account.leverage == {"ABCUSDT": D(5)}, "what was chosen stays"
    assert account.baselines is not None
    assert account.baselines.peak_equity == 10_000
    assert desk.summary().available == 10_000
    assert desk.replayed("alice") == account


def test_a_reset_does_not_lift_a_halt_that_somebody_set() -> None:
    desk = Desk(FREE)
    desk.open("alice", 10_000)
    desk.do("alice", c.HaltTrading("under review"))
    desk.do("alice", c.ResetFunds("daily"))
    assert desk.account().trading_state is TradingState.HALTED


def test_an_account_is_closed_when_nothing_is_open_and_stays_closed() -> None:
    play(
        """
        deposit  alice 1000 USDT
        mark     ABCUSDT 100
        reserve  alice buy 1 ABCUSDT as first
        """,
        desk := Desk(FREE),
    )
    assert reasons(desk.do("alice", c.CloseAccount("done"))) == ["OPEN_POSITIONS"]
    desk.do("alice", c.ReleaseReservation(next(iter(desk.account().reservations))))
    assert kinds(desk.do("alice", c.CloseAccount("done"))) == ["AccountClosed"]
    assert reasons(desk.do("alice", c.CloseAccount("again"))) == ["ALREADY_IN_STATE"]
    assert reasons(desk.deposit("alice", 5)) == ["ACCOUNT_CLOSED"]
    assert reasons(desk.do("alice", c.ResetFunds("daily"))) == ["ACCOUNT_CLOSED"]
    assert reasons(desk.reserve("alice", "buy", 1, "ABCUSDT")) == ["ACCOUNT_CLOSED"]
    assert desk.do("alice", c.Assess()) == ()


def test_a_halt_stops_new_risk_until_somebody_resumes() -> None:
    desk = play(
        """
        deposit  alice 10000 USDT
        mark     ABCUSDT 100
        fill     alice buy 10 ABCUSDT
        halt     alice
        check    alice buy 1 ABCUSDT     -> rejected TRADING_HALTED
        check    alice sell 10 ABCUSDT   -> fits reducing
        mark     ABCUSDT 101             -> quiet
        account  alice                   -> state HALTED
        resume   alice
        check    alice buy 1 ABCUSDT     -> fits
        resume   alice                   -> rejected ALREADY_IN_STATE
        """,
        Desk(FREE),
    )
    assert [alert.kind.value for alert in desk.account().alerts] == ["TRADING_HALTED", "TRADING_RESUMED"]


def test_resuming_while_critical_goes_on_reducing() -> None:
    desk = play(
        """
        deposit   alice 10000 USDT
        leverage  alice ABCUSDT 5x
        mark      ABCUSDT 100
        fill      alice buy 420 ABCUSDT   -> level CRITICAL  state REDUCING
        halt      alice
        account   alice                   -> state HALTED
        resume    alice
        account   alice                   -> state REDUCING
        """,
        Desk(FREE),
    )
    desk.fill("alice", "sell", 200, "ABCUSDT")
    assert desk.account().trading_state is TradingState.ACTIVE


# The house


def test_putting_what_is_there_changes_nothing() -> None:
    house = House()
    (event,) = decide_house(house, c.PutInstrument(BTCUSDT), NOON)
    house = apply_house(house, event)
    assert decide_house(house, c.PutInstrument(BTCUSDT), NOON) == ()
    rule = AssetRule("BTC", D("0.05"))
    (event,) = decide_house(house, c.SetAssetRule(rule), NOON)
    house = apply_house(house, event)
    assert decide_house(house, c.SetAssetRule(rule), NOON) == ()
    assert (house.instruments, house.assets) == ({"BTCUSDT": BTCUSDT}, {"BTC": rule})


def test_a_halt_of_everyone_covers_each_owner() -> None:
    house = House()
    for command in (c.HaltHouse("one", "desk"), c.HaltHouse("all")):
        (event,) = decide_house(house, command, NOON)
        house = apply_house(house, decode(encode(event)))
    assert house.halt_for("desk") is not None
    assert house.halt_for("desk").reason == "all"  # type: ignore[union-attr]
    assert house.halt_for("another") is not None
    (event,) = decide_house(house, c.ResumeHouse("over"), NOON)
    house = apply_house(house, event)
    assert house.halt_for("another") is None
    assert house.halt_for("desk").reason == "one"  # type: ignore[union-attr]


BAD_TABLES = [
    ((), "tiers"),
    (tiers("5 - 0.01 10"), "tiers[0].notional_from"),
    (tiers("0 100 0.01 10", "101 - 0.02 5"), "tiers[1].notional_from"),
    (tiers("0 100 0.01 10", "90 - 0.02 5"), "tiers[1].notional_from"),
    (tiers("0 100 0.02 10", "100 - 0.01 5"), "tiers[1].maintenance_rate"),
    (tiers("0 100 0.01 10", "100 - 0.02 20"), "tiers[1].max_leverage"),
    (tiers("0 100 0.01 10", "100 - 0.02 5 7"), "tiers[1].deduction"),
    (tiers("0 - 0.2 10"), "tiers[0].max_leverage"),
    (tiers("0 - 0.01 0.5"), "tiers[0].max_leverage"),
    (tiers("0 - 0 10"), "tiers[0].maintenance_rate"),
    (tiers("0 - 1 1"), "tiers[0].maintenance_rate"),
    (tiers("0 - 0.01 10 -1"), "tiers[0].deduction"),
    (tiers("0 100 0.01 10", "100 50 0.02 5"), "tiers[1].notional_to"),
]


@pytest.mark.parametrize(("table", "field"), BAD_TABLES, ids=[str(number) for number in range(len(BAD_TABLES))])
def test_risk_tables_with_holes_steps_or_falling_rates_are_found_out(table: tuple[Tier, ...], field: str) -> None:
    found = instrument_problems(linear("ABCUSDT", table=table))
    assert field in [name for name, _ in found]


def test_sound_terms_have_no_problems_and_others_are_named() -> None:
    assert instrument_problems(linear("ABCUSDT", table=FLAT)) == []
    odd = linear("ABCUSDT", lot="0", tick="-1", contract_size="0", min_notional=D(-1))
    assert {name for name, _ in instrument_problems(odd)} == {"lot", "tick", "contract_size", "min_notional"}
