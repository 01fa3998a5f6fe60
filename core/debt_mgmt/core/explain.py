"""Why it happened: a decision told as a summary, its working in numbers, and what would have prevented it."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core import remedies
from debt_mgmt.core.account import Account, RiskLevel
from debt_mgmt.core.apply import apply
from debt_mgmt.core.check import CheckResult, check
from debt_mgmt.core.levels import ASCENDING, RANK, thresholds
from debt_mgmt.core.margin import Summary, World, summarize
from debt_mgmt.core.market import Mark
from debt_mgmt.core.money import text
from debt_mgmt.core.refusals import Violation, sentence
from debt_mgmt.core.view import AccountView
from debt_mgmt.core.working import Figure, account_working, order_working, shown_ratio, threshold_lines


class Explanation(msgspec.Struct, frozen=True):
    """Why an event happened."""

    summary: str
    figures: tuple[Figure, ...] = ()
    violations: tuple[Violation, ...] = ()
    remedy: str = ""


LEVEL_EVENTS = (
    e.RiskLevelChanged | e.IsolatedLevelChanged | e.TradingStateChanged | e.AlertRaised | e.ReductionStarted
    | e.ReductionExtended | e.CancelsRequested | e.BankruptcyRecorded
)  # fmt: skip


Seen = Callable[[tuple[Violation, ...]], tuple[Violation, ...]]
"""What a reader may know of violations."""


def explain(
    before: Account | None,
    command: c.Command,
    world: World,
    decided: Sequence[e.Event],
    asked: e.Event,
    seen: Seen = tuple,
) -> Explanation:
    """Explain `asked`, one of the events `decided` by this command on the account as it was `before`."""
    if isinstance(command, c.CarryOutChange):
        command = c.read_command(command.asked)
    if before is None:
        return Explanation(f"{told(command)}: {e.kind_of(asked)}.")
    if isinstance(asked, e.CommandRefused):
        return refused(before, command, world, asked, seen)
    state = before
    for event in decided:
        if isinstance(event, LEVEL_EVENTS) or event is asked:
            break
        state = apply(state, event)
    summary = summarize(state, world)
    lines = (*account_working(state, summary, world), *threshold_lines(world.settings))
    if isinstance(asked, LEVEL_EVENTS):
        return Explanation(level_words(state, summary, world, decided, asked), lines, (), level_remedy(
            state, summary, world, decided, asked
        ))  # fmt: skip
    order = ordered(before, command, world)
    if order is not None:
        lines = (*account_working(before, summarize(before, world), world), *order_lines(before, world, order))
    return Explanation(f"{told(command)} was carried out: {e.kind_of(asked)}. {standing(summary)}", lines)


# refusals


def refused(account: Account, command: c.Command, world: World, event: e.CommandRefused, seen: Seen) -> Explanation:
    violations = seen(event.violations)
    summary = summarize(account, world)
    lines = account_working(account, summary, world)
    sentences = "; ".join(sentence(one) for one in violations)
    words = f"{told(command)} was refused: {sentences}. {standing(summary)}"
    order = ordered(account, command, world)
    if order is not None:
        lines += order_lines(account, world, order)
        shown = msgspec.structs.replace(order, violations=seen(order.violations))
        remedy = remedies.of_order(account, world, shown)
    else:
        remedy = "; ".join(advice for one in violations if (advice := remedies.advice(one)))
    return Explanation(words, (*lines, *threshold_lines(world.settings)), violations, remedy)


def ordered(account: Account, command: c.Command, world: World) -> CheckResult | None:
    """The check that a command about an order was decided by."""
    if not isinstance(command, c.ReserveMargin | c.PlaceOrder):
        return None
    return check(AccountView(account, world), command.order, world.at)


def order_lines(account: Account, world: World, result: CheckResult) -> list[Figure]:
    return order_working(account, summarize(account, world), world, result)


# levels and reductions


def level_words(account: Account, summary: Summary, world: World, decided: Sequence[e.Event], asked: e.Event) -> str:
    change = next((one for one in decided if isinstance(one, e.RiskLevelChanged)), None)
    plan = next((one.reduction for one in decided if isinstance(one, e.ReductionStarted)), None)
    parts: list[str] = []
    if change is not None and change.after is RiskLevel.UNKNOWN:
        reason = next((one.alert.message for one in decided if isinstance(one, e.AlertRaised)), "prices are missing")
        parts.append(f"the level became UNKNOWN: {reason}")
    elif change is not None:
        entered = thresholds(world.settings).get(change.after)
        over = "" if entered is None else f", entered at {remedies.shown(entered)}"
        rose = RANK.get(change.after, 0) > RANK.get(change.before, 0)
        parts.append(
            f"margin utilization {'rose' if rose else 'fell'} to {shown_ratio(summary)}: the level went from"
            f" {change.before.value} to {change.after.value}{over}"
        )
    if isinstance(asked, e.TradingStateChanged | e.AlertRaised | e.IsolatedLevelChanged | e.CancelsRequested):
        parts.append(own_words(asked))
    if plan is not None:
        steps = ", ".join(f"{one.side.value} {text(one.quantity)} {one.symbol}" for one in plan.steps)
        parts.append(
            f"positions were reduced ({plan.cause.value.lower()}: {plan.reason}) in plan {plan.plan_id}: {steps}"
        )
    if isinstance(asked, e.BankruptcyRecorded):
        parts.append(f"the loss went {text(asked.deficit)} {asked.asset} beyond what stood behind it")
    return f"{'; '.join(dict.fromkeys(parts))}. {standing(summary)}{prices(summary.marks, world)}"


def own_words(event: e.Event) -> str:
    match event:
        case e.TradingStateChanged(before=before, after=after, reason=reason):
            return f"trading went from {before.value} to {after.value}: {reason}"
        case e.AlertRaised(alert=alert):
            return alert.message
        case e.IsolatedLevelChanged(key=key, before=before, after=after):
            return f"the isolated position {key} went from {before.value} to {after.value}"
        case e.CancelsRequested(cancels=cancels, reason=reason):
            return f"{len(cancels)} orders were cancelled: {reason}"
    raise AssertionError(f"{event!r} has no words of its own")


def level_remedy(account: Account, summary: Summary, world: World, decided: Sequence[e.Event], asked: e.Event) -> str:
    change = next((one for one in decided if isinstance(one, e.RiskLevelChanged)), None)
    reached = thresholds(world.settings)
    if change is not None and change.after is RiskLevel.UNKNOWN:
        return f"fresh prices: a mark counts for {world.settings.mark_max_age.total_seconds():g} s"
    if change is not None and change.after in ASCENDING[1:] and RANK[change.after] > RANK.get(change.before, 0):
        return remedies.of_level(account, summary, world, reached[change.after])
    if any(isinstance(one, e.ReductionStarted) for one in decided):
        forced = world.settings.forced_liquidation_threshold
        return remedies.of_level(account, summary, world, forced)
    return ""


# words


def told(command: c.Command) -> str:
    """The command in a few words."""
    name = type(command).__name__
    match command:
        case c.ReserveMargin(order=order) | c.PlaceOrder(order=order):
            limit = f" at {text(order.price)}" if order.price is not None else ""
            return f"{name} {order.side.value} {text(order.quantity)} {order.symbol}{limit}"
        case c.RecordFill(symbol=symbol, side=side, quantity=quantity, price=price):
            return f"{name} {side.value} {text(quantity)} {symbol} at {text(price)}"
        case c.SetLeverage(symbol=symbol, leverage=leverage):
            return f"{name} {symbol} {text(leverage)}"
        case c.ClosePosition(symbol=symbol) | c.SetMarginMode(symbol=symbol) | c.AdjustIsolatedMargin(symbol=symbol):
            return f"{name} {symbol}"
        case c.Transfer(asset=asset, amount=amount):
            return f"{'Deposit' if amount > 0 else 'Withdraw'} {text(abs(amount))} {asset}"
        case c.Borrow(asset=asset, amount=amount):
            return f"{name} {text(amount)} {asset}"
        case c.Repay(asset=asset):
            return f"{name} {asset}"
    return name


def standing(summary: Summary) -> str:
    if not summary.known:
        return f"How the account stood is not known: no price for {', '.join(summary.missing)}."
    return (
        f"The account stood at margin utilization {shown_ratio(summary)}: margin used {rounded(summary.used)}, equity"
        f" {rounded(summary.equity)}."
    )


def prices(marks: Sequence[Mark], world: World) -> str:
    if not marks:
        return ""
    shown = (
        f"{one.symbol} {text(one.price)} from {one.source}, {max(0, one.age_seconds(world.at)):.1f} s old"
        for one in marks
    )
    return f" Prices: {'; '.join(shown)}."


def rounded(amount: Decimal) -> str:
    return text(round(amount, 2))
