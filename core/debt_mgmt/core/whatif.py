"""What if: apply orders, fills, price shocks, leverage or deposits to a copy of an account and show every number."""

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Figures
from debt_mgmt.core.apply import apply
from debt_mgmt.core.decide import decide
from debt_mgmt.core.instrument import MarginBase, margin_base
from debt_mgmt.core.levels import thresholds
from debt_mgmt.core.margin import Summary, World, figures, summarize
from debt_mgmt.core.market import Mark, Unpriced, asset_price
from debt_mgmt.core.money import ONE, RATIO_RESOLUTION, ZERO, owned
from debt_mgmt.core.refusals import Reason, Violation

FACTS = (
    e.FillRecorded,
    e.Transferred,
    e.LeverageSet,
    e.MarginReserved,
    e.Borrowed,
    e.Repaid,
    e.InterestCharged,
)
"""Events of a change itself; the others are what the service does about it."""

EVENTS_APART = 10_000
"""Journal positions between two changes, so that what they create has ids of its own."""

STEP = Decimal("0.01")
GROWTH = Decimal("1.2")
HIGHEST = Decimal(4)
"""Rises beyond +400 % are not searched."""
LOWEST = Decimal("-0.9999")


class ChangeOutcome(msgspec.Struct, frozen=True):
    """What one change did: applied, or refused with every reason; the account after it, and profit that it realised."""

    applied: bool
    violations: tuple[Violation, ...] = ()
    figures: Figures = Figures()
    realized_pnl: Decimal | None = None
    """In the account's currency; None where nothing was realised."""


class Shocks(msgspec.Struct, frozen=True):
    """The uniform move of every price, down (below zero) and up, that first reaches a level; None where none does."""

    down: Decimal | None
    up: Decimal | None


class Simulation(msgspec.Struct, frozen=True):
    """An account before and after changes. `shocks` are by level (WARNING, CRITICAL, LIQUIDATING) and BANKRUPTCY."""

    summary_before: Summary
    summary_after: Summary
    account_after: Account
    world_after: World
    outcomes: tuple[ChangeOutcome, ...]
    shocks: dict[str, Shocks]

    @property
    def before(self) -> Figures:
        return figures(self.summary_before)

    @property
    def after(self) -> Figures:
        return figures(self.summary_after)


def simulate(account: Account, world: World, changes: tuple[c.Change, ...]) -> Simulation:
    """Apply `changes` in order by the deciding code itself, on copies; nothing is journaled.

    An order rests with its margin held; what the service would do next (levels, releases, reductions) is left out.
    """
    before = summarize(account, world)
    folded, there = account, world
    outcomes = []
    for number, change in enumerate(changes):
        there = msgspec.structs.replace(there, position=number * EVENTS_APART)
        folded, there, outcome = changed(folded, there, change)
        shown = figures(summarize(folded, there))
        outcomes.append(msgspec.structs.replace(outcome, figures=shown))
    return Simulation(
        summary_before=before,
        summary_after=summarize(folded, there),
        account_after=folded,
        world_after=there,
        outcomes=tuple(outcomes),
        shocks=shocks(folded, there),
    )


def changed(account: Account, world: World, change: c.Change) -> tuple[Account, World, ChangeOutcome]:
    if isinstance(change, c.SimulatedPriceShock):
        return shocked(account, world, change)
    command = c.ReserveMargin(change) if isinstance(change, c.Order) else change
    decided = msgspec.structs.replace(account, sync=None) if isinstance(change, c.SetLeverage) else account
    if isinstance(change, c.Borrow | c.Repay):
        decided = msgspec.structs.replace(account, dry_run=False)
    events = decide(decided, command, world)  # a live account's leverage as its venue would confirm it
    if events and isinstance(events[0], e.LoanRequested):  # and its loan
        outcome = c.RecordLoanOutcome(events[0].loan.loan_id, confirmed=True)
        events = decide(apply(account, events[0]), outcome, world)
    if events and isinstance(events[0], e.CommandRefused):
        return account, world, ChangeOutcome(False, events[0].violations)
    realized = None
    for event in events:
        if isinstance(event, FACTS):
            account = apply(account, event)
        if isinstance(event, e.FillRecorded) and event.realized_pnl:
            realized = in_currency(account, world, event.settle_asset, event.realized_pnl)
    return account, world, ChangeOutcome(True, realized_pnl=realized)


def in_currency(account: Account, world: World, asset: str, amount: Decimal) -> Decimal | None:
    house = world.house
    try:
        rate = asset_price(asset, account.currency, house.assets, house.instruments, world.marks, {})
    except Unpriced:
        return None
    return owned(amount * rate)


def shocked(account: Account, world: World, shock: c.SimulatedPriceShock) -> tuple[Account, World, ChangeOutcome]:
    if shock.symbol and shock.symbol not in world.marks:
        return account, world, ChangeOutcome(False, (Violation(Reason.MISSING_MARK, shock.symbol),))
    return account, msgspec.structs.replace(world, marks=shocked_marks(world.marks, shock)), ChangeOutcome(True)


def shocked_marks(marks: Mapping[str, Mark], shock: c.SimulatedPriceShock) -> dict[str, Mark]:
    moved = dict(marks)
    for symbol in [shock.symbol] if shock.symbol else list(marks):
        mark = marks[symbol]
        price = shock.price if shock.price is not None else mark.price * (ONE + (shock.fraction or ZERO))
        moved[symbol] = msgspec.structs.replace(mark, price=price, source=f"what-if on {mark.source}")
    return moved


def shocks(account: Account, world: World) -> dict[str, Shocks]:
    """For each level, the uniform move of all prices that reaches it, to 8 decimals."""
    summary = summarize(account, world)
    if not account.positions or summary.missing:
        return {}
    entries = thresholds(world.settings)
    targets: dict[str, Decimal | None] = {level.value: entry for level, entry in entries.items()}
    targets["BANKRUPTCY"] = None
    if moves_linearly(account, summary, world):
        return {name: linear_reach(summary, entry) for name, entry in targets.items()}
    relevant = {mark.symbol: mark for mark in summary.marks}
    narrow = msgspec.structs.replace(world, marks=relevant)
    return {
        name: Shocks(
            down=first_reach(account, narrow, entry, -STEP, LOWEST),
            up=first_reach(account, narrow, entry, STEP, HIGHEST),
        )
        for name, entry in targets.items()
    }


def moves_linearly(account: Account, summary: Summary, world: World) -> bool:
    """Whether equity and margin used are straight lines of a uniform move: every contract linear and counted on its
    mark, no money valued through a mark, and no order against a position, whose margin the larger of both sides is."""

    def fixed(asset: str) -> bool:
        rule = world.house.assets.get(asset)
        return asset == account.currency or rule is None or account.currency in rule.rates or not rule.priced_by

    for use in summary.orders.values():
        against = use.sells if use.position_quantity > 0 else use.buys
        if (use.position_quantity and against) or not fixed(use.instrument.settle):
            return False
    crossed = [one for one in summary.positions if not one.isolated]
    posted = (one.instrument.settle for one in summary.positions if one.isolated)
    held = (asset for asset, balance in account.balances.items() if balance)
    tiered = (world.house.assets.get(asset) for asset in account.balances)
    if any(rule is not None and rule.haircut_tiers for rule in tiered):
        return False
    return all(
        not one.instrument.inverse
        and margin_base(one.instrument.rules, one.position.quantity) is MarginBase.MARK
        and fixed(one.instrument.settle)
        for one in crossed
    ) and all(fixed(asset) for asset in (*posted, *held, *account.debts))


def linear_reach(summary: Summary, threshold: Decimal | None) -> Shocks:
    """The move d at which used(d) = threshold × equity(d), with used(d) = orders + positions × (1 + d) and
    equity(d) = equity + d × net notional."""
    net = sum(
        ((one.notional * one.rate).copy_sign(one.position.quantity) for one in summary.positions if not one.isolated),
        ZERO,
    )
    share = threshold if threshold is not None else ONE
    used, moving = (summary.used, summary.used_by_positions) if threshold is not None else (ZERO, ZERO)
    gap = share * summary.equity - used
    if gap <= 0 or summary.equity <= 0:
        return Shocks(ZERO, ZERO)
    slope = moving - share * net
    if slope == 0:
        return Shocks(None, None)
    move = gap / slope
    if move > 0:
        shown = move.quantize(RATIO_RESOLUTION, ROUND_UP)
        return Shocks(None, shown if move <= HIGHEST else None)
    shown = move.quantize(RATIO_RESOLUTION, ROUND_UP)
    return Shocks(shown if move >= LOWEST else None, None)


def reached(account: Account, world: World, threshold: Decimal | None, move: Decimal) -> bool:
    moved = shocked_marks(world.marks, c.SimulatedPriceShock(fraction=move))
    summary = summarize(account, msgspec.structs.replace(world, marks=moved))
    if threshold is None:
        return summary.equity <= 0
    return summary.equity <= 0 or summary.used >= threshold * summary.equity


def first_reach(
    account: Account, world: World, threshold: Decimal | None, step: Decimal, end: Decimal
) -> Decimal | None:
    """The smallest move in the direction of `step` that reaches `threshold` (None: equity zero).

    Looked for at moves that grow by a fifth: a level that is reached and left again between two of them is passed over.
    """
    if reached(account, world, threshold, ZERO):
        return ZERO
    near, far = ZERO, step
    while not reached(account, world, threshold, far):
        if far == end:
            return None
        near = far
        far = max(far * GROWTH, end) if step < 0 else min(far * GROWTH, end)
    while abs(far - near) > RATIO_RESOLUTION:
        middle = (near + far) / 2
        if reached(account, world, threshold, middle):
            far = middle
        else:
            near = middle
    return far.quantize(RATIO_RESOLUTION, ROUND_UP)
