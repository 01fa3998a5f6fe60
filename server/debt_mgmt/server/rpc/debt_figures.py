"""Figures of debts as the contract shows them: one debt, a day's interest, and the sum over accounts."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

from debt_mgmt.core.account import Account, Debt, RiskLevel
from debt_mgmt.core.interest import CLOCKS, RATE_RESOLUTION, rate_at
from debt_mgmt.core.levels import ASCENDING
from debt_mgmt.core.margin import DebtFigures, Summary, World
from debt_mgmt.core.money import ZERO, owned, ratio, required, text, total
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.names import LENDER, RISK_LEVEL
from debt_mgmt.v1 import debt_service_pb2 as wire

DAYS_OF_YEAR = Decimal(365)
BAD = (RiskLevel.LIQUIDATING, RiskLevel.CRITICAL, RiskLevel.UNKNOWN, RiskLevel.WARNING, RiskLevel.NORMAL)
"""The worst first. An unknown level may be a bad one."""

assert set(BAD) == {*ASCENDING, RiskLevel.UNKNOWN}


def daily_rate(annual_rate: Decimal) -> Decimal:
    """annual rate ÷ 365, rounded up at 18 decimals."""
    return (annual_rate / DAYS_OF_YEAR).quantize(RATE_RESOLUTION, ROUND_CEILING)


def debts_of(account: Account) -> list[tuple[Debt, bool]]:
    """All that the account owes, each with whether it is in a wallet apart, where it is in no figure of margin.

    Such a wallet is not watched for an account that is closed.
    """
    apart = account.debts_apart.values() if account.closed_at is None else ()
    return [*((debt, False) for debt in account.debts.values()), *((debt, True) for debt in apart)]


def debt_message(account: Account, asset: str, world: World, *, apart: bool = False) -> wire.Debt | None:
    """What the account owes in an asset; None where that is nothing."""
    debt = (account.debts_apart if apart else account.debts).get(asset)
    return None if debt is None else debt_of(account, debt, world, apart=apart)


def debt_of(account: Account, debt: Debt, world: World, *, apart: bool = False) -> wire.Debt:
    price = convert.price_of(debt.asset, account, world)
    annual_rate = present_rate(debt, world)
    return wire.Debt(
        account_id=account.account_id,
        asset=debt.asset,
        principal=text(debt.principal),
        accrued_interest=text(debt.accrued_interest),
        annual_rate="" if annual_rate is None else text(annual_rate),
        lender=LENDER.wire[debt.lender],
        interest_clock=debt.clock,
        open_time=convert.timestamp(debt.opened_at),
        last_charge_time=convert.optional_timestamp(debt.charged_at),
        next_charge_time=convert.optional_timestamp(debt.next_charge_at),
        value=None if price is None else text(required(debt.owed * price)),
        separate_wallet=apart,
    )


def present_rate(debt: Debt, world: World) -> Decimal | None:
    """The rate per year at which the debt is charged next; None where its lender has not told it."""
    clock = CLOCKS.get(debt.clock)
    if clock is None or clock.rate_is_kept:
        return debt.annual_rate
    published = rate_at(world.house.borrow_rates.get(debt.asset, ()), world.at)
    return published.annual_rate if published is not None else debt.annual_rate


def daily_interest(debt: Debt, world: World) -> Decimal | None:
    """What a day costs at the present rate, in the asset; compounding within the day is left out."""
    annual_rate, clock = present_rate(debt, world), CLOCKS.get(debt.clock)
    if annual_rate is None:
        return None
    base = debt.owed if clock is not None and clock.compound else debt.principal
    return base * annual_rate / DAYS_OF_YEAR


def summary_message(currency: str, accounts: Sequence[tuple[Account, Summary]], world: World) -> wire.DebtSummary:
    """Accounts valued in one currency as one; an amount that is unknown for one of them is absent."""
    leverages = [one.leverage for account, _ in accounts for one in account.positions.values()]
    levels = {convert.level_now(account, summary, world) for account, summary in accounts}
    message = wire.DebtSummary(
        currency=currency,
        active_leveraged_positions=sum(leverage > 1 for leverage in leverages),
        maximum_leverage=text(max(leverages)) if leverages else None,
        level=RISK_LEVEL.wire[next((level for level in BAD if level in levels), RiskLevel.NORMAL)],
        account_count=len(accounts),
    )
    summaries = [summary for _, summary in accounts]
    if not all(summary.known for summary in summaries):
        return message
    apart = [
        (debt, convert.price_of(debt.asset, account, world))
        for account, _ in accounts
        for debt in account.debts_apart.values()
    ]
    priced = [DebtFigures(debt, price) for debt, price in apart if price is not None]
    secured = [one for summary in summaries for one in summary.debts]
    debts = [*secured, *priced]
    costs = [(daily_interest(one.debt, world), one.rate) for one in debts]
    borrowed = required(total(one.debt.principal * one.rate for one in debts))
    accrued = required(total(one.debt.accrued_interest * one.rate for one in debts))
    owed = required(total(one.debt.principal * one.rate for one in secured))
    owed += required(total(one.debt.accrued_interest * one.rate for one in secured))
    collateral = total(convert.collateral_value(summary) for summary in summaries)
    used, equity = total(one.used for one in summaries), total(one.equity for one in summaries)
    exposure = total(one.exposure for one in summaries)
    known = len(priced) == len(apart)
    if known:
        message.borrowed, message.accrued_interest = text(borrowed), text(accrued)
        message.separate_debt = text(required(total(one.value for one in priced)))
    message.collateral = text(collateral)
    message.available_collateral = text(owned(total(one.available for one in summaries)))
    message.exposure = text(required(exposure))
    if known and all(cost is not None for cost, _ in costs):
        message.daily_cost = text(required(total(cost * rate for cost, rate in costs if cost is not None)))
    shares = {
        "debt_to_collateral": ratio(owed, collateral) if collateral > 0 else None,
        "margin_utilization": ratio(used, equity),
        "maintenance_ratio": ratio(total(one.maintenance for one in summaries), equity),
        "average_leverage": average_leverage(summaries, exposure),
    }
    for name, share in shares.items():
        if share is not None:
            setattr(message, name, text(share))
    return message


def average_leverage(summaries: Sequence[Summary], exposure: Decimal) -> Decimal | None:
    """Leverage of open positions, weighted by notional; None without positions."""
    weighted = ZERO
    for summary in summaries:
        for one in summary.positions:
            weighted += one.notional * one.rate * one.position.leverage
    return ratio(weighted, exposure) if exposure else None
