"""What an event changes equity by, and why: counted when it is decided, at that moment's prices, and kept with it."""

from decimal import Decimal

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Posting, ReductionCause
from debt_mgmt.core.apply import apply
from debt_mgmt.core.instrument import profit
from debt_mgmt.core.limits import worth
from debt_mgmt.core.margin import World, collateral_value, rate_for, summarize, usable_mark
from debt_mgmt.core.market import Unpriced
from debt_mgmt.core.money import ZERO, owned
from debt_mgmt.core.profit import NOTHING, Causes

UNPRICED = Causes(unpriced=True)
WALLET = "wallet"


def with_causes(account: Account | None, event: e.Event, world: World) -> e.Event:
    """The event with what it changes the equity of `account` by, apart from what prices did."""
    if "causes" not in event.__struct_fields__ or isinstance(event, e.EquityRecorded):
        return event
    try:
        causes = causes_of(account, event, world)
    except Unpriced:
        causes = UNPRICED
    if causes == NOTHING and account is not None:
        return event
    return msgspec.structs.replace(event, causes=causes)


def causes_of(account: Account | None, event: e.Event, world: World) -> Causes:
    """Raises Unpriced where a price is missing that an amount needs."""
    if isinstance(event, e.AccountCreated):
        opened = msgspec.structs.replace(apply(None, event), balances={})
        return Causes(transfers=wallet_change(opened, event.postings, world))
    assert account is not None
    match event:
        case e.FillRecorded():
            return causes_of_fill(account, event, world)
        case e.Transferred():
            change = event.equity_change if event.equity_change is not None else event.value
            return Causes(transfers=change)
        case e.FundsReset():
            return Causes(transfers=equity_of(apply(account, event), world) - equity_of(account, world))
        case e.BankruptcyRecorded():
            if not event.postings:
                return NOTHING  # an isolated position's loss: its postings stand in its fill
            return Causes(liquidation_cost=equity_of(apply(account, event), world) - equity_of(account, world))
        case e.InterestCharged():
            return Causes(interest=owned(-event.amount * rate_for(account, world, event.asset, {})))
        case e.FundingSettled():
            return Causes(funding=wallet_change(account, event.postings, world))
        case e.AccountSynced():
            return causes_of_sync(account, event, world)
        case e.AssetConverted():
            if event.bought_value is None or event.sold_value is None:
                return UNPRICED
            return Causes(fees=event.bought_value - event.sold_value)
    raise AssertionError(f"{type(event).__name__} has causes that nobody counts")


def causes_of_sync(account: Account, event: e.AccountSynced, world: World) -> Causes:
    """What the venue's truth changes equity by: interest that grew on a known loan, and whatever else differed."""
    if not (event.balances or event.debts or event.positions or event.vanished):
        return NOTHING
    change = equity_of(apply(account, event), world) - equity_of(account, world)
    interest = ZERO
    for debt in event.debts:
        known = account.debts.get(debt.asset)
        if known is not None and debt.accrued_interest > known.accrued_interest:
            grown = debt.accrued_interest - known.accrued_interest
            interest += owned(-grown * rate_for(account, world, debt.asset, {}))
    return Causes(interest=interest, synced=change - interest)


def equity_of(account: Account, world: World) -> Decimal:
    """Equity with what stands behind isolated positions."""
    summary = summarize(account, world)
    if summary.missing:
        raise Unpriced(summary.missing[0])
    return owned(worth(summary))


def wallet_change(account: Account, postings: tuple[Posting, ...], world: World) -> Decimal:
    """What the wallet's side of the postings changes equity by: full value less haircuts, as collateral counts."""
    change = ZERO
    for asset in dict.fromkeys(posting.asset for posting in postings if posting.ledger == WALLET):
        amount = sum((one.amount for one in postings if one.asset == asset and one.ledger == WALLET), ZERO)
        change += asset_change(account, asset, amount, world)
    return change


def asset_change(account: Account, asset: str, amount: Decimal, world: World, held: Decimal | None = None) -> Decimal:
    """What `amount` more of an asset changes equity by; `held` is what counts of it so far."""
    if not amount:
        return ZERO
    rate = rate_for(account, world, asset, {})
    rule = world.house.assets.get(asset)
    if rule is None or (rule.haircut == 0 and not rule.haircut_tiers):
        return owned(amount * rate)
    held = held if held is not None else account.balances.get(asset, ZERO) - posted_in(account, asset, world)
    house = world.house
    return owned(collateral_value(asset, held + amount, rate, house) - collateral_value(asset, held, rate, house))


def posted_in(account: Account, asset: str, world: World) -> Decimal:
    """What of a balance is posted on isolated positions."""
    instruments = world.house.instruments
    return sum(
        (one.isolated_margin for one in account.positions.values() if instruments[one.symbol].settle == asset), ZERO
    )


def causes_of_fill(account: Account, fill: e.FillRecorded, world: World) -> Causes:
    """Fees and realised PnL; of a forced reduction the fees, the slippage against the mark and what insurance paid."""
    realized = ZERO
    if fill.realized_pnl:
        realized = owned(fill.realized_pnl * rate_for(account, world, fill.settle_asset, {}))
    covered = sum((-one.amount for one in fill.postings if one.ledger == "insurance"), ZERO)
    fees = asset_change(account, fill.fee_asset, -fill.fee, world)
    insured = asset_change(account, fill.settle_asset, covered, world)
    if not is_forced(account, fill):
        return Causes(fees=fees, liquidation_cost=insured, realized=realized)
    return Causes(liquidation_cost=fees + insured + slippage(account, fill, world), realized=realized)


def is_forced(account: Account, fill: e.FillRecorded) -> bool:
    """Whether the fill belongs to a reduction that nobody asked for."""
    if not fill.plan_id:
        return False
    plans = (*((account.reduction,) if account.reduction is not None else ()), *account.past_reductions)
    steps = (step for plan in plans if plan.plan_id == fill.plan_id for step in plan.steps if step.step == fill.step)
    return any(step.cause is not ReductionCause.REQUESTED for step in steps)


def slippage(account: Account, fill: e.FillRecorded, world: World) -> Decimal:
    """What closing at the fill's price gained or lost against closing at the mark."""
    mark = usable_mark(account, world, fill.symbol)
    if mark is None:
        raise Unpriced(fill.symbol)
    held = -fill.side.sign * fill.closed_quantity
    gained = profit(world.house.instruments[fill.symbol], held, mark.price, fill.price)
    return owned(gained * rate_for(account, world, fill.settle_asset, {})) if gained else ZERO
