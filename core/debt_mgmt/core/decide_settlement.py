"""Deciding what is settled without an order: funding of positions, and the conversion of negative balances."""

from decimal import Decimal

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Environment, Posting
from debt_mgmt.core.draft import Draft, instrument_of, refuse
from debt_mgmt.core.funding import funding_amount, legs_at, owes_funding
from debt_mgmt.core.instrument import notional
from debt_mgmt.core.loans import spendable, value_of
from debt_mgmt.core.margin import Summary, mark_used, rate_for
from debt_mgmt.core.market import Mark, Unpriced
from debt_mgmt.core.money import ZERO, owned, required
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.settings import RiskSettings


def settle_funding(draft: Draft, command: c.SettleFunding) -> None:
    """Pay or receive for every position that was held at the instant; an instant that was settled before is past."""
    account = draft.account
    if not owes_funding(account, command.symbol, command.at):
        return
    instrument = instrument_of(draft, command.symbol)
    asset = instrument.settle
    for side, quantity in legs_at(account, command.symbol, command.at).items():
        amount = funding_amount(instrument, quantity, command.mark, command.rate)
        postings = (Posting("wallet", asset, amount), Posting("funding", asset, -amount)) if amount else ()
        draft.add(
            e.FundingSettled(
                symbol=command.symbol,
                position_side=side,
                funded_at=command.at,
                rate=command.rate,
                mark=command.mark,
                quantity=quantity,
                notional=notional(instrument, quantity, command.mark),
                asset=asset,
                amount=amount,
                postings=postings,
                value=value_of(draft.account, draft.world, asset, amount),
            )
        )


def convert_assets(draft: Draft, command: c.ConvertAssets) -> None:
    """Sell what the account has until the negative balance of `asset` is zero, at the house's conversion ratio."""
    account, asset = draft.account, command.asset
    missing = -account.balances.get(asset, ZERO)
    if account.environment is not Environment.SANDBOX:
        return refuse(draft, "ConvertAssets", Violation(Reason.NOT_SANDBOX, account.account_id))
    if missing <= 0:
        note = Violation(Reason.ALREADY_IN_STATE, asset, note="its balance is not negative")
        return refuse(draft, "ConvertAssets", note)
    used: dict[str, Mark] = {}
    try:
        price = rate_for(account, draft.world, asset, used)
        prices = {one: rate_for(account, draft.world, one, used) for one in sellable(draft, command)}
    except Unpriced as unpriced:
        return refuse(draft, "ConvertAssets", Violation(Reason.MISSING_MARK, unpriced.missing))
    if not prices:
        return refuse(
            draft, "ConvertAssets", Violation(Reason.INSUFFICIENT_BALANCE, command.sell or asset, missing, ZERO, ZERO)
        )
    marks = tuple(mark_used(mark) for mark in used.values())
    ratio = draft.world.settings.conversion_ratio
    for sold, worth in prices.items():
        rate = worth * ratio / price
        amount = min(spendable(draft.account, draft.world, sold), required(missing / rate))
        bought = min(missing, owned(amount * rate))
        if bought <= 0:
            continue
        draft.add(
            e.AssetConverted(
                sold_asset=sold,
                sold_amount=amount,
                bought_asset=asset,
                bought_amount=bought,
                price=rate,
                at=draft.world.at,
                postings=(
                    Posting("wallet", sold, -amount),
                    Posting("conversion", sold, amount),
                    Posting("wallet", asset, bought),
                    Posting("conversion", asset, -bought),
                ),
                sold_value=value_of(draft.account, draft.world, sold, amount),
                bought_value=value_of(draft.account, draft.world, asset, bought),
                reason=command.reason,
                marks=marks,
            )
        )
        missing -= bought
        if missing <= 0:
            return


def sellable(draft: Draft, command: c.ConvertAssets) -> list[str]:
    """What can be sold for it: the asset named, or every positive balance, the account's currency first."""
    account = draft.account
    names = [command.sell] if command.sell else sorted(account.balances, key=lambda one: (one != account.currency, one))
    return [name for name in names if name != command.asset and spendable(draft.account, draft.world, name) > 0]


def to_convert(account: Account, summary: Summary, settings: RiskSettings) -> list[str]:
    """Assets whose negative balance is worth more than the house leaves standing, while there is something to sell."""
    if settings.conversion_threshold is None or account.environment is not Environment.SANDBOX:
        return []
    rates = {**summary.rates, account.currency: Decimal(1)}
    left = dict(account.balances)
    for one in summary.positions:
        if one.isolated:
            left[one.instrument.settle] = left.get(one.instrument.settle, ZERO) - one.position.isolated_margin
    if not any(amount > 0 for amount in left.values()):
        return []
    return [
        asset
        for asset, balance in account.balances.items()
        if balance < 0 and asset in rates and -balance * rates[asset] > settings.conversion_threshold
    ]
