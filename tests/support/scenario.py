"""Scenarios in the language of the desk: one row per step, with the expected outcome after `->`.

    deposit   alice  1000 USDT
    check     alice  buy 0.05 BTCUSDT   -> fits       margin 500   available 1000   utilization 0.5000

An outcome is a verdict (`fits`, `rejected` and the reasons in their order, `alice WARNING`, `quiet`) and figures by
name. A figure is compared exactly; `~0.33` is compared at the decimals written, `-` means unknown or none. What a row
does not name is not compared, but reasons are named from the first, and a row without outcome must not be refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import MarginMode, PositionMode, PositionSide, position_key
from debt_mgmt.core.margin import figures
from tests.support.desk import Desk, reasons

D = Decimal

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FLAGS = {"reduce-only", "long", "short", "fresh", "stale"}
NAMED = {"at", "fee", "as", "from"}


@dataclass
class Outcome:
    """What a row led to."""

    verdict: tuple[str, ...] = ()
    figures: dict[str, Decimal | str | None] = field(default_factory=dict)


@dataclass
class Row:
    """The words of a row: those by place, those behind a name, and flags."""

    desk: Desk
    words: list[str]
    named: dict[str, str]
    flags: set[str]
    reservations: dict[str, str]

    @property
    def leg(self) -> str:
        return "LONG" if "long" in self.flags else "SHORT" if "short" in self.flags else "NET"


def play(text: str, desk: Desk | None = None) -> Desk:
    """Play every row; the first one whose outcome differs fails with its number and both outcomes."""
    desk = desk or Desk()
    reservations: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        sentence = line.partition("#")[0].strip()
        if not sentence:
            continue
        action, arrow, expected = (part.strip() for part in sentence.partition("->"))
        verb, *words = action.split()
        outcome = VERBS[verb](row_of(desk, words, reservations))
        if not arrow:
            assert "rejected" not in outcome.verdict, f"row {number}: {sentence}\n  came to {shown(outcome)}"
            continue
        for problem in differences(expected.split(), outcome):
            raise AssertionError(f"row {number}: {sentence}\n  {problem}\n  came to {shown(outcome)}")
    return desk


def row_of(desk: Desk, words: list[str], reservations: dict[str, str]) -> Row:
    plain, named, flags = [], {}, set()
    waiting = iter(words)
    for word in waiting:
        if word in NAMED:
            named[word] = next(waiting)
        elif word in FLAGS:
            flags.add(word)
        else:
            plain.append(word)
    return Row(desk, plain, named, flags, reservations)


def differences(expected: list[str], outcome: Outcome) -> list[str]:
    verdict: list[str] = []
    problems: list[str] = []
    waiting = iter(expected)
    for word in waiting:
        if word in outcome.figures:
            wanted = next(waiting)
            if not matches(wanted, outcome.figures[word]):
                problems.append(f"{word} is {outcome.figures[word]}, not {wanted}")
        else:
            verdict.append(word)
    if tuple(verdict) != outcome.verdict[: len(verdict)]:
        problems.append(f"the verdict is not {' '.join(verdict)}")
    return problems


def matches(wanted: str, actual: Decimal | str | None) -> bool:
    if actual is None or wanted == "-":
        return actual is None and wanted == "-"
    if isinstance(actual, str):
        return wanted == actual
    if wanted.startswith("~"):
        return round(actual, max(0, -int(D(wanted[1:]).as_tuple().exponent))) == D(wanted[1:])
    return D(wanted) == actual


def shown(outcome: Outcome) -> str:
    numbers = (f"{name} {value}" for name, value in outcome.figures.items())
    return " ".join((*outcome.verdict, *numbers))


def verdict_on(events: tuple[e.Event, ...], done: str) -> tuple[str, ...]:
    refused = reasons(events)
    return ("rejected", *refused) if refused else (done,)


def account_figures(desk: Desk, account_id: str) -> dict[str, Decimal | str | None]:
    account, summary = desk.accounts[account_id], desk.summary(account_id)
    main = figures(summary)
    known = summary.known
    return {
        "equity": main.equity,
        "used": main.margin_used,
        "available": main.margin_available,
        "utilization": main.margin_utilization,
        "maintenance": main.maintenance_margin,
        "total_value": summary.total_value if known else None,
        "unrealized_pnl": summary.unrealized_pnl if known else None,
        "realized_pnl": sum(account.realized_pnl.values(), D(0)),
        "isolated": summary.isolated_margin if known else None,
        "wallet": sum(account.balances.values(), D(0)),
        "positions": D(len(account.positions)),
        "reservations": D(len(account.reservations)),
        "level": account.level.value,
        "state": account.trading_state.value,
    }


def position_figures(desk: Desk, account_id: str, symbol: str, leg: str) -> dict[str, Decimal | str | None]:
    account = desk.accounts[account_id]
    position = account.positions.get(position_key(symbol, PositionSide(leg)))
    one = next((one for one in desk.summary(account_id).positions if one.position is position), None)
    return {
        **account_figures(desk, account_id),
        "quantity": position.quantity if position else D(0),
        "entry": position.entry_price if position else None,
        "leverage": position.leverage if position else None,
        "unrealized": one.unrealized_pnl if one else D(0),
        "realized": sum(account.realized_pnl.values(), D(0)),
        "posted": position.isolated_margin if position else D(0),
        "notional": one.notional if one else D(0),
    }


def level_changes(happened: dict[str, tuple[e.Event, ...]]) -> Outcome:
    """What prices or time led to: `alice WARNING`, `alice LIQUIDATING`, or `quiet`."""
    words = [
        word
        for account_id, events in happened.items()
        for event in events
        if isinstance(event, e.RiskLevelChanged)
        for word in (account_id, event.after.value)
    ]
    return Outcome(tuple(words) or ("quiet",))


def open_(row: Row) -> Outcome:
    """open bob USDT [hedge] [isolated]: an account without money."""
    account_id, currency, *modes = row.words
    row.desk.open(
        account_id,
        currency=currency,
        position_mode=PositionMode.HEDGE if "hedge" in modes else PositionMode.ONE_WAY,
        margin_mode=MarginMode.ISOLATED if "isolated" in modes else MarginMode.CROSS,
    )
    return Outcome(("opened",))


def deposit(row: Row) -> Outcome:
    """deposit alice 1000 USDT: the first one opens the account."""
    account_id, amount, asset = row.words
    if account_id not in row.desk.accounts:
        row.desk.open(account_id, amount, currency=asset)
        return Outcome(("deposited",), account_figures(row.desk, account_id))
    events = row.desk.deposit(account_id, amount, asset)
    return Outcome(verdict_on(events, "deposited"), account_figures(row.desk, account_id))


def withdraw(row: Row) -> Outcome:
    account_id, amount, asset = row.words
    events = row.desk.deposit(account_id, -D(amount), asset)
    return Outcome(verdict_on(events, "withdrawn"), account_figures(row.desk, account_id))


def leverage(row: Row) -> Outcome:
    account_id, symbol, times = row.words
    events = row.desk.leverage(account_id, symbol, times.removesuffix("x"))
    return Outcome(verdict_on(events, "set"), account_figures(row.desk, account_id))


def margin_mode(row: Row) -> Outcome:
    account_id, symbol, mode = row.words
    events = row.desk.do(account_id, c.SetMarginMode(symbol, MarginMode(mode.upper())))
    return Outcome(verdict_on(events, "set"))


def post(row: Row) -> Outcome:
    """post alice BTCUSDT 100: isolated margin added, or taken away where negative."""
    account_id, symbol, amount = row.words
    events = row.desk.do(account_id, c.AdjustIsolatedMargin(symbol, PositionSide(row.leg), D(amount)))
    return Outcome(verdict_on(events, "set"), position_figures(row.desk, account_id, symbol, row.leg))


def mark(row: Row) -> Outcome:
    symbol, price = row.words
    return level_changes(row.desk.mark(symbol, price))


def wait(row: Row) -> Outcome:
    """wait 30s [fresh]: time passes, and with `fresh` prices keep coming."""
    (duration,) = row.words
    seconds = int(duration[:-1]) * UNITS[duration[-1]]
    return level_changes(row.desk.wait(timedelta(seconds=seconds), fresh="fresh" in row.flags))


def check(row: Row) -> Outcome:
    account_id, side, quantity, symbol = row.words
    result = row.desk.check(
        account_id,
        side,
        quantity,
        symbol,
        row.named.get("at"),
        reduce_only="reduce-only" in row.flags,
        leg=row.leg,
    )
    before, after = result.before, result.after
    held = None
    if after.margin_used is not None and before.margin_used is not None:
        held = after.margin_used - before.margin_used
    verdict = ("fits", "reducing") if result.reducing else ("fits",)
    return Outcome(
        verdict if result.fits else ("rejected", *(violation.reason.value for violation in result.violations)),
        {
            "margin": held,
            "required": result.margin_required,
            "initial": result.initial_margin,
            "available": before.margin_available,
            "utilization": after.margin_utilization,
            "largest_buy": result.largest_buy,
            "largest_sell": result.largest_sell,
        },
    )


def reserve(row: Row) -> Outcome:
    """reserve alice buy 0.05 BTCUSDT [at 49000] [as first]."""
    account_id, side, quantity, symbol = row.words
    events = row.desk.reserve(
        account_id,
        side,
        quantity,
        symbol,
        row.named.get("at"),
        reduce_only="reduce-only" in row.flags,
        leg=row.leg,
    )
    required = None
    for event in events:
        if isinstance(event, e.MarginReserved):
            required = event.margin_required
            row.reservations[row.named.get("as", event.reservation.reservation_id)] = event.reservation.reservation_id
    return Outcome(verdict_on(events, "held"), {**account_figures(row.desk, account_id), "required": required})


def release(row: Row) -> Outcome:
    """release alice first [0.02]."""
    account_id, name, *quantity = row.words
    command = c.ReleaseReservation(row.reservations.get(name, name), D(quantity[0]) if quantity else None)
    events = row.desk.do(account_id, command)
    remaining = next((event.remaining for event in events if isinstance(event, e.ReservationReduced)), None)
    return Outcome(verdict_on(events, "released"), {**account_figures(row.desk, account_id), "remaining": remaining})


def fill(row: Row) -> Outcome:
    """fill alice buy 0.05 BTCUSDT [at 50000] [fee 1] [from first]."""
    account_id, side, quantity, symbol = row.words
    events = row.desk.fill(
        account_id,
        side,
        quantity,
        symbol,
        row.named.get("at"),
        fee=row.named.get("fee", "0"),
        leg=row.leg,
        reservation_id=row.reservations.get(row.named.get("from", ""), ""),
    )
    return Outcome(verdict_on(events, "filled"), position_figures(row.desk, account_id, symbol, row.leg))


def position(row: Row) -> Outcome:
    account_id, symbol = row.words
    return Outcome((), position_figures(row.desk, account_id, symbol, row.leg))


def account(row: Row) -> Outcome:
    (account_id,) = row.words
    return Outcome((), account_figures(row.desk, account_id))


def close(row: Row) -> Outcome:
    """close alice BTCUSDT [0.02]: asked of the broker, which fills at the mark."""
    account_id, symbol, *quantity = row.words
    events = row.desk.do(
        account_id, c.ClosePosition(symbol, PositionSide(row.leg), D(quantity[0]) if quantity else None, "asked for")
    )
    verdict = verdict_on(events, "closed")
    if verdict == ("closed",):
        row.desk.run_reductions(account_id)
    return Outcome(verdict, position_figures(row.desk, account_id, symbol, row.leg))


def reduce(row: Row) -> Outcome:
    """reduce alice: the broker fills what the running reduction orders. The verdict is the fills."""
    (account_id,) = row.words
    fills = row.desk.run_reductions(account_id)
    words = [word for one in fills for word in (one.side.value.lower(), f"{one.quantity.normalize():f}", one.symbol)]
    return Outcome(tuple(words) or ("nothing",), account_figures(row.desk, account_id))


def limit(row: Row) -> Outcome:
    """limit alice max_position_notional 1000 ..."""
    account_id, *pairs = row.words
    whole = {"max_concurrent_positions", "max_open_reservations"}
    limits: dict[str, Decimal | int] = {
        name: int(value) if name in whole or name.endswith(("_count", "_seconds")) else D(value)
        for name, value in zip(pairs[::2], pairs[1::2], strict=True)
    }
    return Outcome(verdict_on(row.desk.limit(account_id, **limits), "set"))


def halt(row: Row) -> Outcome:
    (account_id,) = row.words
    return Outcome(verdict_on(row.desk.do(account_id, c.HaltTrading("the desk says so")), "halted"))


def resume(row: Row) -> Outcome:
    (account_id,) = row.words
    return Outcome(verdict_on(row.desk.do(account_id, c.ResumeTrading("all is well")), "resumed"))


def reset(row: Row) -> Outcome:
    (account_id,) = row.words
    events = row.desk.do(account_id, c.ResetFunds("monthly"))
    return Outcome(verdict_on(events, "reset"), account_figures(row.desk, account_id))


def value(row: Row) -> Outcome:
    """value BTC by BTCUSDT 0.05 (priced by a mark, haircut) or value USDT INR 83 (a configured rate)."""
    asset, first, second, *rest = row.words
    if first == "by":
        row.desk.value(asset, priced_by=second, haircut=rest[0] if rest else "0")
    else:
        row.desk.value(asset, **{first: second})
    return Outcome()


VERBS: dict[str, Callable[[Row], Outcome]] = {
    "open": open_,
    "deposit": deposit,
    "withdraw": withdraw,
    "leverage": leverage,
    "margin-mode": margin_mode,
    "post": post,
    "mark": mark,
    "wait": wait,
    "check": check,
    "reserve": reserve,
    "release": release,
    "fill": fill,
    "position": position,
    "account": account,
    "close": close,
    "reduce": reduce,
    "limit": limit,
    "halt": halt,
    "resume": resume,
    "reset": reset,
    "value": value,
}
