"""The check before a loan: may an account borrow this, why not, and how much could it be."""

from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from debt_mgmt.core.account import Account, Debt, Figures, Lender
from debt_mgmt.core.check import seconds
from debt_mgmt.core.interest import CLOCKS, RATE_RESOLUTION, BorrowRate, charge_after, charge_of, rate_at
from debt_mgmt.core.margin import Summary, World, collateral_value, figures, figures_of, rate_for, summarize
from debt_mgmt.core.market import Mark, Unpriced
from debt_mgmt.core.money import ZERO, owned, ratio, required
from debt_mgmt.core.refusals import Reason, Violation, by_precedence
from debt_mgmt.core.settings import RiskSettings, effective_limits
from debt_mgmt.core.view import standing_violations

AMOUNT_STEP = Decimal("1E-8")
"""To which the largest loan is rounded down."""


class LoanCheck(msgspec.Struct, frozen=True):
    """The answer to a wish to borrow. `rate` None: the house does not lend the asset; figures None: unknown."""

    violations: tuple[Violation, ...] = ()
    rate: BorrowRate | None = None
    margin_required: Decimal | None = None
    """Debts afterwards ÷ the highest leverage × the house's buffer: that much must be available."""
    largest_amount: Decimal | None = None
    before: Figures = Figures()
    after: Figures = Figures()


class LoanFigures(msgspec.Struct, frozen=True):
    """The account after borrowing an amount, in its currency."""

    equity: Decimal
    margin_required: Decimal
    used: Decimal
    """With what the debts need."""


class Lending(msgspec.Struct, frozen=True):
    """What a loan of one asset to one account rests on. Amounts of money in the account's currency."""

    account: Account
    world: World
    summary: Summary
    asset: str
    rate: BorrowRate | None
    """None: a venue lends it, at a rate of its own."""
    price: Decimal
    leverage: Decimal
    held: Decimal
    """Of the asset, without what is posted on isolated positions."""

    def after(self, amount: Decimal) -> LoanFigures:
        """Equity falls by the haircut on what is borrowed and by the charge for opening."""
        counted = collateral_value(self.asset, self.held + amount, self.price, self.world.house)
        counted -= collateral_value(self.asset, self.held, self.price, self.world.house)
        owing = (amount + opening_charge(self.debt, self.rate, amount)) * self.price
        needed = (self.summary.debt_value + owing) / self.leverage
        return LoanFigures(
            equity=self.summary.equity + counted - owing,
            margin_required=needed * self.world.settings.margin_buffer,
            used=self.summary.used + needed,
        )

    @property
    def debt(self) -> Debt | None:
        return self.account.debts.get(self.asset)

    def violations(self, amount: Decimal) -> list[Violation]:
        """What the size of the loan breaks."""
        after, threshold = self.after(amount), self.world.settings.liquidation_threshold
        found: list[Violation] = []
        available = max(ZERO, after.equity - self.summary.used)
        if after.margin_required > available:
            found.append(
                Violation(
                    Reason.INSUFFICIENT_MARGIN,
                    self.asset,
                    required(after.margin_required),
                    owned(available),
                    owned(available),
                )
            )
        if after.used > threshold * after.equity:
            headroom = owned(max(ZERO, threshold * after.equity - self.summary.used))
            share = ratio(after.used, after.equity)
            found.append(Violation(Reason.UTILIZATION_AFTER, self.asset, share, threshold, headroom))
        return found

    def largest(self) -> Decimal:
        """The largest multiple of AMOUNT_STEP that breaks nothing, by bisection: a larger loan never needs less."""
        room = (self.summary.equity - self.summary.used) * self.leverage / self.price
        low, high = 0, max(0, int((room / AMOUNT_STEP).to_integral_value(ROUND_FLOOR))) + 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.violations(middle * AMOUNT_STEP):
                high = middle
            else:
                low = middle
        return low * AMOUNT_STEP


def debt_leverage(account: Account, settings: RiskSettings) -> Decimal:
    """The leverage that loans are counted at: the highest that house, account and broker allow."""
    limits = effective_limits(settings.limits, account.limits)
    caps = (settings.max_leverage, limits.max_leverage, settings.broker_max_leverage.get(account.broker))
    return min(cap for cap in caps if cap is not None)


def debt_margin(account: Account, world: World, summary: Summary) -> Decimal:
    """What debts need beyond margin used before money may leave, in the account's currency."""
    return summary.debt_value / debt_leverage(account, world.settings) if summary.debts else ZERO


def check_loan(account: Account, world: World, asset: str, amount: Decimal, *, apart: bool = False) -> LoanCheck:
    """Whether the account may borrow `amount`: every rule that refuses it, and the largest amount that none would.

    A live account borrows from its venue. How much can be lent `apart`, against a wallet that is not the account's,
    only the venue can tell; then every rule counts but that of the size.
    """
    used = dict[str, Mark]()
    summary = summarize(account, world)
    shown = figures(summary)
    found = standing_loan_violations(account, world, summary, asset)
    try:
        price = rate_for(account, world, asset, used)
    except Unpriced as unpriced:
        if unpriced.missing not in summary.missing:
            found.append(Violation(Reason.MISSING_MARK, unpriced.missing))
        return LoanCheck(by_precedence(found), house_rate(world, asset), before=shown)
    found += stale(world, {**{mark.symbol: mark for mark in summary.marks}, **used})
    rate = house_rate(world, asset) if account.sync is None else None
    debt = account.debts.get(asset)
    unlent = account.sync is None and (rate is None or (debt is not None and debt.lender is not Lender.HOUSE))
    if unlent or apart or not summary.known:
        return LoanCheck(by_precedence(found), rate, before=shown, largest_amount=ZERO if unlent else None)
    lending = lending_of(account, world, summary, asset, rate, price)
    sized = lending.violations(amount)
    after = lending.after(amount)
    return LoanCheck(
        violations=by_precedence([*found, *sized]),
        rate=rate,
        margin_required=required(after.margin_required),
        largest_amount=ZERO if found else lending.largest(),
        before=shown,
        after=figures_of(after.equity, summary.used, summary.maintenance),
    )


def largest_loan(account: Account, world: World, asset: str) -> Decimal | None:
    """The most that the account could borrow now; None where a price is missing."""
    return check_loan(account, world, asset, AMOUNT_STEP).largest_amount


def lending_of(
    account: Account, world: World, summary: Summary, asset: str, rate: BorrowRate | None, price: Decimal
) -> Lending:
    leverage = debt_leverage(account, world.settings)
    return Lending(account, world, summary, asset, rate, price, leverage, spendable(account, world, asset))


def spendable(account: Account, world: World, asset: str) -> Decimal:
    """The balance of an asset without what is posted on isolated positions."""
    instruments = world.house.instruments
    posted = (one.isolated_margin for one in account.positions.values() if instruments[one.symbol].settle == asset)
    return account.balances.get(asset, ZERO) - sum(posted, ZERO)


def value_of(account: Account, world: World, asset: str, amount: Decimal) -> Decimal | None:
    """An amount in the account's currency, at full price; None where a price is missing."""
    try:
        return owned(amount * rate_for(account, world, asset, {}))
    except Unpriced:
        return None


def house_rate(world: World, asset: str) -> BorrowRate | None:
    """What the house lends the asset at now; None where it does not."""
    return rate_at(world.house.borrow_rates.get(asset, ()), world.at)


def standing_loan_violations(account: Account, world: World, summary: Summary, asset: str) -> list[Violation]:
    """What refuses a loan whatever its size."""
    found = list(standing_violations(account, world, summary))
    debt = account.debts.get(asset)
    if account.sync is None:  # else the venue says what it lends
        if debt is not None and debt.lender is not Lender.HOUSE:
            note = "the house lends to sandbox accounts only"
            found.append(Violation(Reason.NOT_SUPPORTED, f"borrowing {asset}", note=note))
        elif house_rate(world, asset) is None:
            found.append(Violation(Reason.NOT_SUPPORTED, f"borrowing {asset}", note="the house does not lend it"))
    if debt_leverage(account, world.settings) <= 1:
        note = "the account's highest leverage is 1, so it holds what it owns"
        found.append(Violation(Reason.NOT_SUPPORTED, f"borrowing {asset}", note=note))
    return found


def stale(world: World, marks: dict[str, Mark]) -> list[Violation]:
    """Marks too old for new risk."""
    max_age = world.settings.pre_trade_max_age
    return [
        Violation(Reason.STALE_MARK, mark.symbol, seconds(world.at - mark.received_at), seconds(max_age))
        for mark in marks.values()
        if mark.received_at < world.at - max_age
    ]


def opening_charge(debt: Debt | None, rate: BorrowRate | None, amount: Decimal) -> Decimal:
    """Interest charged at once for borrowing `amount` more; what a venue charges is not known before it does."""
    if rate is None:
        return ZERO
    grown = grown_debt(debt, rate, amount, rate.effective_at)
    clock = CLOCKS[grown.clock]
    if not clock.opening_periods or grown.annual_rate is None:
        return ZERO
    return charge_of(clock, grown.opened_at, grown.opened_at, amount, grown.annual_rate, clock.opening_periods).amount


def grown_debt(debt: Debt | None, rate: BorrowRate, amount: Decimal, at: datetime) -> Debt:
    """The debt after borrowing `amount` more at `at`. What is borrowed on top joins the charges of what is owed.

    Where the clock keeps the rate of the opening, the debt's becomes the average by principal, rounded up.
    """
    if debt is None:
        clock = CLOCKS[rate.clock]
        return Debt(
            asset=rate.asset,
            principal=amount,
            opened_at=at,
            annual_rate=rate.annual_rate,
            clock=rate.clock,
            next_charge_at=charge_after(clock, at, at),
        )
    annual_rate, principal = rate.annual_rate, debt.principal + amount
    if CLOCKS[debt.clock].rate_is_kept and debt.annual_rate is not None:
        weighted = debt.annual_rate * debt.principal + rate.annual_rate * amount
        annual_rate = (weighted / principal).quantize(RATE_RESOLUTION, ROUND_CEILING)
    return msgspec.structs.replace(debt, principal=principal, annual_rate=annual_rate)
