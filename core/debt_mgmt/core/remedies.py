"""What would have prevented it: the missing margin, the largest quantity, and how far the price was away."""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from debt_mgmt.core.account import Account
from debt_mgmt.core.check import CheckResult, check
from debt_mgmt.core.margin import Summary, World, summarize
from debt_mgmt.core.money import ONE, ZERO, floor_to_step, owned, ratio, required, text
from debt_mgmt.core.refusals import WITHOUT_NUMBERS, Reason, Violation, origin
from debt_mgmt.core.view import AccountView

MOVES = tuple(Decimal(share) for share in ("0.01", "0.02", "0.05", "0.10", "0.20", "0.35", "0.50", "0.75", "0.95"))
"""How far a price is moved, either way, until something passes; then the way is halved."""
HALVINGS = 16

ADVICE: dict[Reason, str] = {
    Reason.ACCOUNT_CLOSED: "a closed account is not opened again: use another one",
    Reason.UNKNOWN_INSTRUMENT: "PutInstrument adds {subject}",
    Reason.TRADING_HALTED: "ResumeTrading lifts the halt of the account",
    Reason.TRADING_REDUCING: "only reducing orders pass until margin utilization is below the threshold again",
    Reason.HOUSE_HALTED: "ResumeTrading lifts the halt of {subject}",
    Reason.ACCOUNT_NOT_SYNCED: "SyncAccount reads the venue's state anew",
    Reason.STALE_MARK: "a mark of {subject} that is at most {limit} s old",
    Reason.MISSING_MARK: "a mark of {subject}",
    Reason.LEVERAGE_ABOVE_ACCOUNT: "leverage of at most {limit} on {subject}",
    Reason.LEVERAGE_ABOVE_BROKER: "leverage of at most {limit} on {subject}",
    Reason.LEVERAGE_ABOVE_TIER: "leverage of at most {limit} on {subject}, or a smaller position",
    Reason.LEVERAGE_STEP: "leverage that is a multiple of {limit}",
    Reason.QUANTITY_BELOW_MINIMUM: "a quantity or value of at least {limit}",
    Reason.QUANTITY_STEP: "a quantity that is a multiple of {limit}",
    Reason.PRICE_STEP: "a price that is a multiple of {limit}",
    Reason.QUANTITY_ABOVE_MAXIMUM: "a quantity of at most {limit}",
    Reason.POSITION_NOTIONAL_LIMIT: "a position worth at most {limit}",
    Reason.EXPOSURE_LIMIT: "at most {headroom} of further exposure",
    Reason.CONCURRENT_POSITIONS: "one of the {limit} open positions closed first",
    Reason.OPEN_RESERVATIONS: "one of the {limit} open reservations released first",
    Reason.ORDER_RATE: "waiting for the next interval: {limit} orders are accepted in each",
    Reason.BREAKER_TRIPPED: "waiting until {note}, or ResumeTrading, which accepts the loss",
    Reason.DAILY_LOSS: "ResumeTrading, which accepts the loss, or the next day",
    Reason.DRAWDOWN: "ResumeTrading, which accepts the loss",
    Reason.INSUFFICIENT_BALANCE: "at most {limit} {subject}",
    Reason.OVER_RELEASE: "a release of at most {limit}",
    Reason.NO_POSITION: "nothing: there was no position {subject} to act on",
    Reason.OPEN_POSITIONS: "closing what is open first",
    Reason.ISOLATED_MARGIN_BELOW_REQUIRED: "leaving at least {limit} posted",
    Reason.DRY_RUN: "SetDryRun, which ends the dry run",
    Reason.CHANGE_PENDING: "waiting for the venue's answer to the last change",
    Reason.NEEDS_SECOND_PERSON: "ApproveChange by somebody else",
    Reason.SAME_PERSON: "ApproveChange by somebody else",
}


def advice(violation: Violation) -> str:
    """What one broken rule asks for; empty where numbers say it better."""
    number = {
        name: text(value) if (value := getattr(violation, name)) is not None else "unknown"
        for name in ("value", "limit", "headroom")
    }
    words = ADVICE.get(violation.reason, "")
    if violation.scope is not None and violation.value is None and violation.reason in WITHOUT_NUMBERS:
        words = f"less use of the {origin(violation.scope, violation.limit_set)}"
    return words.format(subject=violation.subject, note=violation.note, **number)


def of_order(account: Account, world: World, result: CheckResult) -> str:
    """What would have let the order pass."""
    parts: list[str] = []
    order = result.order
    largest = result.largest_buy if order.side.sign > 0 else result.largest_sell
    reasons = {one.reason for one in result.violations}
    if largest:
        parts.append(f"{order.side.value} {text(largest)} {order.symbol} would have passed")
    margin = reasons & {Reason.INSUFFICIENT_MARGIN, Reason.UTILIZATION_AFTER}
    missing = missing_for_order(world, result) if margin else ZERO
    if missing:
        parts.append(f"{text(missing)} {account.currency} more of equity would have let it pass")
    if margin and margin == reasons:
        found = nearest_price(account, world, order.symbol, lambda other: fits(account, other, result))
        if found is not None:
            parts.append(price_words(world, order.symbol, found, "it would have passed"))
    parts += [words for one in result.violations if one.reason not in margin and (words := advice(one))]
    return "; ".join(parts)


def fits(account: Account, world: World, result: CheckResult) -> bool:
    return check(AccountView(account, world), result.order, world.at, with_largest=False).fits


def missing_for_order(world: World, result: CheckResult) -> Decimal:
    """How much more equity the order needed: for its margin with the buffer, and to stay below the threshold."""
    before, after, settings = result.before, result.after, world.settings
    if result.margin_required is None or before.equity is None or before.margin_used is None:
        return ZERO
    for_margin = before.margin_used + result.margin_required - before.equity
    for_level = (after.margin_used or ZERO) / settings.liquidation_threshold - before.equity
    return required(max(ZERO, for_margin, for_level))


def of_level(account: Account, summary: Summary, world: World, threshold: Decimal) -> str:
    """What would have kept margin utilization below `threshold`."""
    if not summary.known or summary.used <= 0:
        return ""
    parts: list[str] = []
    missing = required(summary.used / threshold - summary.equity)
    if missing > 0:
        parts.append(f"{text(missing)} {account.currency} more of equity would have kept it below {shown(threshold)}")
    largest = max(
        (one for one in summary.positions if not one.isolated),
        key=lambda one: one.initial_margin * one.rate,
        default=None,
    )
    if largest is None:
        return "; ".join(parts)
    position = largest.position
    if summary.equity > 0 and missing > 0:
        margin = largest.initial_margin * largest.rate
        over = summary.used - threshold * summary.equity
        share = max(ZERO, ONE - over / margin)
        smaller = floor_to_step(abs(position.quantity) * share, largest.instrument.lot)
        if smaller < abs(position.quantity):
            parts.append(
                f"a position of at most {text(smaller)} {position.symbol} instead of {text(abs(position.quantity))}"
                " would have, too"
            )

    def below(other: World) -> bool:
        figures = summarize(account, other)
        return figures.known and figures.equity > 0 and figures.used < threshold * figures.equity

    found = nearest_price(account, world, position.symbol, below)
    if found is not None:
        parts.append(price_words(world, position.symbol, found, f"it would have been below {shown(threshold)}"))
    return "; ".join(parts)


def nearest_price(account: Account, world: World, symbol: str, passes: Callable[[World], bool]) -> Decimal | None:
    """The price of `symbol` nearest to its mark at which something passes; None where none is near."""
    mark = world.marks.get(symbol)
    if mark is None:
        return None

    def at(factor: Decimal) -> bool:
        moved = msgspec.structs.replace(mark, price=mark.price * factor)
        return passes(msgspec.structs.replace(world, marks={**world.marks, symbol: moved}))

    near = ZERO
    for move in MOVES:
        for sign in (ONE, -ONE):
            if at(ONE + sign * move):
                low, high = near, move
                for _ in range(HALVINGS):
                    middle = (low + high) / 2
                    low, high = (low, middle) if at(ONE + sign * middle) else (middle, high)
                return mark.price * (ONE + sign * high)
        near = move
    return None


def price_words(world: World, symbol: str, price: Decimal, outcome: str) -> str:
    mark = world.marks[symbol].price
    beyond = "above" if price > mark else "below"
    distance = ratio(abs(price - mark), mark) or ZERO
    exact = price.quantize(Decimal(1).scaleb(mark.adjusted() - 7)) if mark else price
    return f"at {beyond} {text(owned(exact))} of {symbol}, {shown(distance)} {beyond} its mark {text(mark)}, {outcome}"


def shown(share: Decimal) -> str:
    return f"{text(round(share * 100, 2))} %"
