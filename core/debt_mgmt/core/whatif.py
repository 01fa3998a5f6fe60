"""What if: apply orders, fills, price shocks, leverage or deposits to a copy of an account and show every number."""

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Figures, RiskLevel, position_key
from debt_mgmt.core.apply import apply
from debt_mgmt.core.check import check
from debt_mgmt.core.decide import decide
from debt_mgmt.core.instrument import MarginBase
from debt_mgmt.core.levels import next_level, thresholds
from debt_mgmt.core.margin import Summary, World, figures, summarize
from debt_mgmt.core.market import Mark
from debt_mgmt.core.money import ONE, RATIO_RESOLUTION, ZERO
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.view import AccountView

STEP = Decimal("0.01")
HIGHEST = Decimal(4)
"""Rises beyond +400 % are not searched."""
LOWEST = Decimal("-0.9999")


class ChangeOutcome(msgspec.Struct, frozen=True):
    """What one change did: applied, or refused with every reason."""

    applied: bool
    violations: tuple[Violation, ...] = ()


class Shocks(msgspec.Struct, frozen=True):
    """The uniform move of every price, down (below zero) and up, that first reaches a level; None where none does."""

    down: Decimal | None
    up: Decimal | None


class Simulation(msgspec.Struct, frozen=True):
    before: Figures
    after: Figures
    summary_before: Summary
    summary_after: Summary
    level_before: RiskLevel
    level_after: RiskLevel
    outcomes: tuple[ChangeOutcome, ...]
    shocks: dict[str, Shocks]
    """By level (WARNING, CRITICAL, LIQUIDATING) and BANKRUPTCY, from the state after the changes."""


def simulate(account: Account, world: World, changes: tuple[c.Change, ...]) -> Simulation:
    """Apply `changes` in order by the deciding code itself, on copies; nothing is journaled."""
    before = summarize(account, world)
    folded, there = account, world
    outcomes = []
    for change in changes:
        folded, there, outcome = changed(folded, there, change)
        outcomes.append(outcome)
    after = summarize(folded, there)
    known = after.known
    return Simulation(
        before=figures(before),
        after=figures(after),
        summary_before=before,
        summary_after=after,
        level_before=account.level,
        level_after=next_level(RiskLevel.NORMAL, after.used, after.equity, world.settings)
        if known
        else RiskLevel.UNKNOWN,
        outcomes=tuple(outcomes),
        shocks=shocks(folded, there) if known else {},
    )


def changed(account: Account, world: World, change: c.Change) -> tuple[Account, World, ChangeOutcome]:
    match change:
        case c.SimulatedPriceShock():
            return shocked(account, world, change)
        case c.Order():
            return filled(account, world, change)
        case _:
            events = decide(account, change, world)
            if events and isinstance(events[0], e.CommandRefused):
                return account, world, ChangeOutcome(False, events[0].violations)
            return after_events(account, events), world, ChangeOutcome(True)


def after_events(account: Account, events: tuple[e.Event, ...]) -> Account:
    """The account after the facts among `events`; what the service would do next (levels, releases) is left out."""
    for event in events:
        if isinstance(event, e.FillRecorded | e.Transferred | e.LeverageSet | e.BankruptcyRecorded):
            account = apply(account, event)
    return account


def filled(account: Account, world: World, order: c.Order) -> tuple[Account, World, ChangeOutcome]:
    """The order fills at its margin price if it passes the check."""
    result = check(AccountView(account, world), order, world.at)
    if not result.fits:
        return account, world, ChangeOutcome(False, result.violations)
    mark = world.marks.get(order.symbol)
    price = order.price if order.price is not None else (mark.price if mark is not None else None)
    if price is None:
        return account, world, ChangeOutcome(False, (Violation(Reason.MISSING_MARK, order.symbol),))
    quantity = order.quantity
    if result.reducing:
        held = account.positions[position_key(order.symbol, order.position_side)]
        quantity = min(quantity, abs(held.quantity))
    fill = c.RecordFill("what-if", order.symbol, order.side, quantity, price, position_side=order.position_side)
    return after_events(account, decide(account, fill, world)), world, ChangeOutcome(True)


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
    mark, and no money valued through a mark."""

    def fixed(asset: str) -> bool:
        rule = world.house.assets.get(asset)
        return asset == account.currency or rule is None or account.currency in rule.rates or not rule.priced_by

    crossed = [one for one in summary.positions if not one.isolated]
    return all(
        not one.instrument.inverse
        and one.instrument.rules.initial_margin_base is MarginBase.MARK
        and fixed(one.instrument.settle)
        for one in crossed
    ) and all(fixed(asset) for asset, balance in account.balances.items() if balance)


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
    """The smallest move in the direction of `step` that reaches `threshold` (None: equity zero)."""
    if reached(account, world, threshold, ZERO):
        return ZERO
    near, far = ZERO, step
    while not reached(account, world, threshold, far):
        if far == end:
            return None
        near = far
        far = max(far * 2, end) if step < 0 else min(far * 2, end)
    while abs(far - near) > RATIO_RESOLUTION:
        middle = (near + far) / 2
        if reached(account, world, threshold, middle):
            far = middle
        else:
            near = middle
    return far.quantize(RATIO_RESOLUTION)
