"""The working of an account's figures and of an order's, line by line in numbers, in the order of computing."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from debt_mgmt.core.account import Account
from debt_mgmt.core.check import CheckResult
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import Instrument, MarginBase, margin_base, tier_at
from debt_mgmt.core.levels import percent
from debt_mgmt.core.margin import PositionFigures, Summary, World, collateral_value, figures, leverage_of, on_its_way
from debt_mgmt.core.money import ZERO, owned, ratio, required, text
from debt_mgmt.core.settings import RiskSettings


class Figure(msgspec.Struct, frozen=True):
    """One line: a name, its value (None: not known then) and how it came about; no working: it was given."""

    name: str
    value: str | None
    working: str = ""


def account_working(account: Account, summary: Summary, world: World) -> list[Figure]:
    """From balances and prices to margin utilization."""
    lines = [line for one in summary.positions for line in position_working(one, account.currency)]
    collateral = list(collateral_working(account, summary, world.house))
    lines += [line for line, _ in collateral]
    lines += debt_working(summary, account.currency)
    if not summary.known:
        missing = ", ".join(summary.missing)
        unknown = ("equity", "margin_used", "margin_available", "margin_utilization", "maintenance_margin")
        return lines + [Figure(name, None, f"not known: no price for {missing}") for name in unknown]
    shown = figures(summary)
    kept = sum((amount for _, amount in collateral), ZERO)
    cross = sum((one.unrealized_pnl * one.rate for one in summary.positions if not one.isolated), ZERO)
    lines += [
        Figure("collateral_value", text(owned(kept)), "sum of the collateral values"),
        Figure(
            "equity",
            optional(shown.equity),
            f"collateral value {text(owned(kept))} + unrealized PnL of cross positions {text(owned(cross))}"
            f" − debt {text(required(summary.debt_value))}",
        ),
        Figure("initial_margin_positions", text(required(summary.used_by_positions)), "sum over cross positions"),
        *orders_working(summary),
        Figure(
            "margin_used",
            optional(shown.margin_used),
            f"positions {text(required(summary.used_by_positions))} + open orders"
            f" {text(required(summary.used_by_orders))}",
        ),
        Figure(
            "margin_available",
            optional(shown.margin_available),
            f"max(0, equity {optional(shown.equity)} − margin used {optional(shown.margin_used)})",
        ),
        Figure(
            "margin_utilization",
            optional(shown.margin_utilization),
            f"margin used {optional(shown.margin_used)} ÷ equity {optional(shown.equity)}"
            + ("" if shown.margin_utilization is not None else ": equity is not above zero, so above every threshold"),
        ),
        Figure("maintenance_margin", optional(shown.maintenance_margin), "sum over cross positions"),
        Figure(
            "maintenance_ratio",
            optional(shown.maintenance_ratio),
            f"maintenance margin {optional(shown.maintenance_margin)} ÷ equity {optional(shown.equity)}",
        ),
    ]
    return lines


def position_working(one: PositionFigures, currency: str) -> Iterator[Figure]:
    position, instrument, name = one.position, one.instrument, one.position.key
    mark, quantity = text(one.mark.price), text(position.quantity)
    times = "÷" if instrument.inverse else "×"
    size = f"{text(abs(position.quantity))} × contract size {text(instrument.contract_size)}"
    yield Figure(f"mark_price.{position.symbol}", mark, f"from {one.mark.source}")
    yield Figure(f"notional.{name}", text(one.notional), f"{size} {times} mark {mark}, in {instrument.settle}")
    yield Figure(f"initial_margin.{name}", text(required(one.initial_margin)), initial_words(one))
    tier = tier_at(instrument, one.notional)
    fee = f" + closing fee at {text(instrument.taker_fee_rate)}" if instrument.rules.fee_in_maintenance else ""
    base = "" if instrument.rules.maintenance_margin_base is MarginBase.MARK else " at the entry price"
    yield Figure(
        f"maintenance_margin.{name}",
        text(required(one.maintenance_margin)),
        f"notional{base} × tier rate {text(tier.maintenance_rate)} − deduction {text(tier.deduction)}{fee}",
    )
    entry = text(position.entry_price)
    moved = f"(1 ÷ entry {entry} − 1 ÷ mark {mark})" if instrument.inverse else f"(mark {mark} − entry {entry})"
    yield Figure(
        f"unrealized_pnl.{name}",
        text(owned(one.unrealized_pnl)),
        f"{quantity} × contract size {text(instrument.contract_size)} × {moved}, in {instrument.settle}",
    )
    if instrument.settle != currency:
        yield Figure(f"rate.{instrument.settle}", text(one.rate), f"{currency} for one {instrument.settle}")
    if one.isolated:
        yield Figure(
            f"isolated_equity.{name}",
            text(owned(one.isolated_equity)),
            f"posted margin {text(position.isolated_margin)} + unrealized PnL {text(owned(one.unrealized_pnl))}",
        )
        share = ratio(one.maintenance_margin, one.isolated_equity)
        yield Figure(f"maintenance_ratio.{name}", optional(share), "maintenance margin ÷ isolated equity")


def initial_words(one: PositionFigures) -> str:
    position, rules = one.position, one.instrument.rules
    base = margin_base(rules, position.quantity, isolated=one.isolated)
    value = f"notional {text(one.notional)}" if base is MarginBase.MARK else f"notional at entry {position.entry_price}"
    fee = " + closing fee at bankruptcy" if rules.fee_in_initial else ""
    return f"{value} ÷ leverage {text(position.leverage)}{fee}"


def collateral_working(account: Account, summary: Summary, house: House) -> Iterator[tuple[Figure, Decimal]]:
    """What each asset counts for, in the account's currency."""
    posted: dict[str, Decimal] = dict(on_its_way(account, house)) if account.pending else {}
    for one in summary.positions:
        if one.isolated:
            settle = one.instrument.settle
            posted[settle] = posted.get(settle, ZERO) + one.position.isolated_margin
    for asset in sorted({**account.balances, **posted}):
        balance = account.balances.get(asset, ZERO)
        rate = Decimal(1) if asset == account.currency else summary.rates.get(asset)
        if balance == 0 and asset not in posted:
            continue
        if rate is None:
            yield Figure(f"collateral_value.{asset}", None, f"{text(balance)} {asset}: no price"), ZERO
            continue
        amount = balance - posted.get(asset, ZERO)
        value, rule = collateral_value(asset, amount, rate, house), house.assets.get(asset)
        words = f"{text(amount)} {asset}"
        if posted.get(asset):
            words = f"({text(balance)} − posted on isolated positions {text(posted[asset])}) {asset}"
        if rate != 1:
            words += f" × {text(rate)} {account.currency}"
        if rule is not None and rule.haircut_tiers and amount > 0:
            words += ", by the tiers of its haircut"
        elif rule is not None and rule.haircut and amount > 0:
            words += f" × (1 − haircut {text(rule.haircut)})"
        yield Figure(f"collateral_value.{asset}", text(owned(value)), words), value


def debt_working(summary: Summary, currency: str) -> Iterator[Figure]:
    for one in summary.debts:
        words = f"principal {text(one.debt.principal)} + interest {text(one.debt.accrued_interest)}"
        yield Figure(f"debt.{one.debt.asset}", text(required(one.value)), f"({words}) × {text(one.rate)} {currency}")


def orders_working(summary: Summary) -> Iterator[Figure]:
    for symbol, use in sorted(summary.orders.items()):
        yield Figure(
            f"initial_margin_reservations.{symbol}",
            text(required(use.order_margin() * use.rate)),
            f"open buys {text(use.buys.quantity)} need {text(required(use.buys.margin))}, sells"
            f" {text(use.sells.quantity)} need {text(required(use.sells.margin))} {use.instrument.settle}: the larger"
            " side, less what the position holds already",
        )
    yield Figure("initial_margin_reservations", text(required(summary.used_by_orders)), "sum over instruments")


def order_working(account: Account, summary: Summary, world: World, result: CheckResult) -> list[Figure]:
    """From the order's price to what it would have led to."""
    order, settings = result.order, world.settings
    instrument: Instrument | None = world.house.instruments.get(order.symbol)
    asked = f"{order.side.value} {text(order.quantity)} {order.symbol}"
    lines = [Figure("order", asked, "asked for" + (f" at the limit {text(order.price)}" if order.price else ""))]
    if result.reducing or instrument is None or result.mark is None or result.margin_price is None:
        return lines
    leverage = leverage_of(account, settings, order.symbol)
    counted = "the mark" if result.margin_price == result.mark.price else "the limit"
    lines += [
        Figure("order.price", text(result.margin_price), f"{counted}; the mark is {text(result.mark.price)}"),
        Figure("order.leverage", text(leverage), ""),
        Figure(
            "order.initial_margin",
            optional(result.initial_margin),
            f"what opens × price {text(result.margin_price)} ÷ leverage {text(leverage)}, in {account.currency}",
        ),
    ]
    if result.margin_required is None or not summary.known:
        return lines
    added = result.margin_required / settings.margin_buffer
    after = result.after
    lines += [
        Figure(
            "order.margin_added",
            text(required(added)),
            "what margin used grows by: the larger side of all open orders and this one, with the position offset",
        ),
        Figure(
            "order.margin_required",
            text(result.margin_required),
            f"{text(required(added))} × buffer {text(settings.margin_buffer)}; available"
            f" {optional(result.before.margin_available)}",
        ),
        Figure(
            "order.margin_utilization_after",
            optional(after.margin_utilization),
            f"margin used {optional(after.margin_used)} ÷ equity {optional(after.equity)}; at most"
            f" {text(settings.liquidation_threshold)} is accepted",
        ),
        Figure("order.largest_buy", optional(result.largest_buy), "the largest buy that passes every rule"),
        Figure("order.largest_sell", optional(result.largest_sell), "the largest sell that passes every rule"),
    ]
    return lines


def threshold_lines(settings: RiskSettings) -> list[Figure]:
    """What margin utilization is held against."""
    return [
        Figure("margin_call_threshold", text(settings.margin_call_threshold), ""),
        Figure("liquidation_threshold", text(settings.liquidation_threshold), ""),
        Figure("forced_liquidation_threshold", text(settings.forced_liquidation_threshold), ""),
        Figure("liquidation_target", text(settings.liquidation_target), ""),
    ]


def optional(value: Decimal | None) -> str | None:
    return None if value is None else text(value)


def shown_ratio(summary: Summary) -> str:
    return percent(summary.used, summary.equity)
