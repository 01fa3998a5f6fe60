"""What an account has, whether an order fits, margin held, fills, closing and what-if: figures worked out by hand."""

from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio

from debt_mgmt.core.margin import figures, summarize
from debt_mgmt.core.money import text
from debt_mgmt.v1 import margin_service_pb2, types_pb2
from tests.e2e.books import (
    BUY,
    LONG,
    SELL,
    SHORT,
    inverse_contract,
    open_fresh,
    open_hedge,
    open_mixed,
    order,
    put,
    shown,
)
from tests.support.service import Clock, Desk, service
from tests.support.wire import call, reasons

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with service(clock=Clock()) as running:
        await put(running, inverse_contract())
        await open_mixed(running)
        await open_hedge(running)
        yield running


# what an account has


MIXED = {
    "currency": "USDT",
    "wallet_balance": "51250",  # 20,000 + 0.5 × 62,500
    "collateral_value": "47687.5",  # 18,000 without what is posted on ETH, + 31,250 × 0.95
    "total_value": "50200",  # 51,250 − 1,050
    "unrealized_pnl": "-1050",  # 1,250 − 0.04 BTC + 200
    "equity": "46437.5",  # 47,687.5 + 1,250 − 2,500; the isolated 200 stands apart
    "margin_used": "8750",  # 31,250 ÷ 5 + 10,000 ÷ 4
    "initial_margin_positions": "8750",
    "initial_margin_reservations": "0",
    "margin_available": "37687.5",
    "margin_utilization": "0.18842531",
    "maintenance_margin": "225",  # 31,250 × 0.004 + 10,000 × 0.01
    "maintenance_ratio": "0.00484523",
    "isolated_margin": "2000",  # 6,000 ÷ 3
    "realized_pnl": "0",
    "debt": "0",
    "open_positions": 3,
    "open_reservations": 0,
    "stale": False,
    "level": types_pb2.RISK_LEVEL_NORMAL,
    "trading_state": types_pb2.TRADING_STATE_ACTIVE,
}


async def test_margin_of_linear_inverse_isolated_and_haircut_together(desk: Desk) -> None:
    status = await desk.status("mixed")
    assert dict(zip(MIXED, shown(status, *MIXED), strict=True)) == MIXED
    summary = summarize(desk.engine.account("mixed"), desk.engine.world())
    core = figures(summary)
    for field in ("equity", "margin_used", "margin_available", "margin_utilization", "maintenance_ratio"):
        assert getattr(status, field) == text(getattr(core, field))
    assert [mark.symbol for mark in status.marks] == ["BTCUSD-INVERSE", "BTCUSDT", "ETHUSDT"]
    assert [mark.price for mark in status.marks] == ["62500", "62500", "3100"]
    assert [one.target for one in status.shocks] == [1, 2, 3, 4]
    assert all(Decimal(one.down) < 0 and not one.HasField("up") for one in status.shocks)


POSITIONS = {
    "BTCUSD-INVERSE": ["-100", "50000", "62500", "10000", "4", None, "2500", "100", "-2500"],
    "BTCUSDT": ["0.5", "60000", "62500", "31250", "5", None, "6250", "125", "1250"],
    "ETHUSDT": ["2", "3000", "3100", "6200", "3", "2000", "2066.666666666667", "24.8", "200"],
}
POSITION_FIELDS = (
    "quantity",
    "entry_price",
    "mark_price",
    "notional",
    "leverage",
    "isolated_margin",
    "initial_margin",
    "maintenance_margin",
    "unrealized_pnl",
)


async def test_positions_show_their_own_figures(desk: Desk) -> None:
    answer = await desk.margin.ListPositions(margin_service_pb2.ListPositionsRequest(account_id="mixed"))
    found = {one.symbol: shown(one, *POSITION_FIELDS) for one in answer.positions}
    assert found == POSITIONS
    isolated = answer.positions[2]
    # 2,000 of margin on 2 ETH at 3,000: gone at 2,000, and at the maintenance margin of 0.4 % just above it
    assert isolated.bankruptcy_price == "2000"
    assert Decimal(isolated.liquidation_price) == pytest.approx(Decimal(4000) / Decimal("1.992"))
    assert answer.next_page_token == ""


async def test_lists_come_in_pages_that_join_to_the_whole(desk: Desk) -> None:
    symbols: list[str] = []
    token = ""
    for _ in range(3):
        page = await desk.margin.ListPositions(
            margin_service_pb2.ListPositionsRequest(account_id="mixed", page_size=1, page_token=token)
        )
        symbols += [one.symbol for one in page.positions]
        token = page.next_page_token
    assert (symbols, token) == (sorted(POSITIONS), "")
    chosen = margin_service_pb2.ListPositionsRequest(account_id="mixed", symbols=["ETHUSDT", "NOT-HELD"])
    assert [one.symbol for one in (await desk.margin.ListPositions(chosen)).positions] == ["ETHUSDT"]


async def test_a_hedge_account_holds_both_legs(desk: Desk) -> None:
    answer = await desk.margin.ListPositions(margin_service_pb2.ListPositionsRequest(account_id="hedge"))
    legs = [shown(one, "position_side", "quantity", "initial_margin", "unrealized_pnl") for one in answer.positions]
    assert legs == [[LONG, "1", "1550", "100"], [SHORT, "-0.4", "620", "-20"]]
    status = await desk.status("hedge")
    assert shown(status, "equity", "margin_used", "open_positions") == ["10080", "2170", 2]


async def test_a_portfolio_sums_accounts_by_currency(desk: Desk) -> None:
    owner = f"owner-{desk.request_id()}"
    for name, currency, capital in (("a", "USD", "1000"), ("b", "USD", "500"), ("c", "INR", "83000")):
        await desk.open(f"{owner}-{name}", capital, currency, owner=owner)
    await desk.fill(f"{owner}-a", BUY, "0.01", "BTCUSDT", "62000")
    answer = await desk.margin.GetPortfolio(margin_service_pb2.GetPortfolioRequest(owner=owner))
    assert not answer.HasField("portfolio")
    fields = ("currency", "total_value", "equity", "margin_used", "margin_available", "account_count")
    assert [shown(one, *fields) for one in answer.by_currency] == [
        ["INR", "83000", "83000", "0", "83000", 1],
        ["USD", "1505", "1505", "312.5", "1192.5", 2],
    ]
    one = await desk.margin.GetPortfolio(margin_service_pb2.GetPortfolioRequest(account_id=f"{owner}-a"))
    assert shown(one.portfolio, "equity", "unrealized_pnl", "open_positions") == ["1005", "5", 1]
    assert one.portfolio.margin_utilization == "0.31094528"  # 312.5 ÷ 1,005, to 8 places and up


# checks


async def test_a_check_shows_its_working(desk: Desk) -> None:
    answer = await desk.margin.CheckOrder(
        margin_service_pb2.CheckOrderRequest(account_id="mixed", order=order(BUY, "1"))
    )
    result = answer.result
    assert shown(result, "fits", "reducing", "margin_required", "initial_margin", "fee_estimate") == [
        True,
        False,
        "13750",  # 62,500 ÷ 5 × 1.10
        "12500",
        "31.25",
    ]
    # 46,437.5 × 0.80 − 8,750 leaves 28,400 of margin: 2.272 BTC; the other side closes 0.5 first and frees its margin
    assert shown(result, "largest_buy", "largest_sell") == ["2.272", "3.272"]
    assert shown(result.before, "margin_used", "margin_available") == ["8750", "37687.5"]
    assert shown(result.after, "margin_used", "margin_available") == ["21250", "25187.5"]
    assert result.mark.price == "62500"
    refused = await desk.margin.CheckOrder(
        margin_service_pb2.CheckOrderRequest(account_id="mixed", order=order(BUY, "2.273"))
    )
    assert reasons(refused.result.violations) == ["UTILIZATION_AFTER"]
    assert refused.result.largest_buy == "2.272"


async def test_every_broken_rule_is_listed_in_order(desk: Desk) -> None:
    answer = await desk.margin.CheckOrder(
        margin_service_pb2.CheckOrderRequest(account_id="mixed", order=order(BUY, "100.0005", price="62500.05"))
    )
    assert reasons(answer.result.violations) == [
        "QUANTITY_STEP",
        "PRICE_STEP",
        "INSUFFICIENT_MARGIN",
        "UTILIZATION_AFTER",
    ]
    required = answer.result.violations[2]
    assert Decimal(required.value) > Decimal(required.limit) == Decimal("37687.5")
    unknown = await desk.margin.CheckOrder(
        margin_service_pb2.CheckOrderRequest(account_id="mixed", order=order(BUY, "1", "NOSUCH"))
    )
    assert reasons(unknown.result.violations) == ["UNKNOWN_INSTRUMENT"]


async def test_orders_of_a_batch_use_up_margin_for_those_after_them(desk: Desk) -> None:
    orders = [order(BUY, "2"), order(BUY, "1"), order(SELL, "0.5"), order(BUY, "0.2")]
    for mode, fits in (("SEQUENTIAL", [True, False, True, True]), ("INDEPENDENT", [True, True, True, True])):
        answer = await desk.margin.BatchCheckOrders(
            margin_service_pb2.BatchCheckOrdersRequest(
                account_id="mixed",
                orders=orders,
                mode=margin_service_pb2.BatchMode.Value(f"BATCH_MODE_{mode}"),
                detail=margin_service_pb2.CHECK_DETAIL_FULL,
            )
        )
        assert [one.fits for one in answer.results] == fits
        assert answer.results[2].reducing
        assert answer.results[0].margin_required == "27500"
        assert answer.before.margin_used == "8750"
        assert "BTCUSDT" in {mark.symbol for mark in answer.marks}
        assert all(one.HasField("largest_buy") for one in answer.results)


async def test_a_stream_of_checks_goes_on_after_a_malformed_message(desk: Desk) -> None:
    requests = [
        margin_service_pb2.StreamCheckOrdersRequest(sequence=7, account_id="mixed", order=order(BUY, "1")),
        margin_service_pb2.StreamCheckOrdersRequest(sequence=8, account_id="mixed", order=order(0, "x")),
        margin_service_pb2.StreamCheckOrdersRequest(sequence=9, account_id="nobody", order=order(BUY, "1")),
        margin_service_pb2.StreamCheckOrdersRequest(sequence=10, account_id="mixed", order=order(SELL, "0.5")),
    ]
    answers = await call(desk.channel, "MarginService/StreamCheckOrders", *requests)
    assert [one.sequence for one in answers] == [7, 8, 9, 10]
    assert [one.WhichOneof("outcome") for one in answers] == ["result", "error", "error", "result"]
    assert [field.field for field in answers[1].error.field_violations] == ["order.side", "order.quantity"]
    assert [one.error.reason for one in answers[1:3]] == [1, 2]
    assert answers[3].result.reducing


async def test_a_reservation_is_held_used_and_given_back(desk: Desk) -> None:
    name = await open_fresh(desk)
    held = await desk.reserve(name, BUY, "0.1", price="62000")
    assert held.accepted and not held.violations
    assert shown(held, "margin_required", "margin_available", "margin_utilization") == ["3410", "6900", "0.31"]
    reservation = held.reservation
    assert shown(reservation, "remaining_quantity", "price", "leverage", "initial_margin") == [
        "0.1",
        "62000",
        "2",
        "3100",
    ]
    assert reservation.expire_time.ToDatetime(UTC) - reservation.create_time.ToDatetime(UTC) == timedelta(seconds=300)
    filled = await desk.fill(name, BUY, "0.04", "BTCUSDT", "62000", reservation_id=reservation.reservation_id)
    assert shown(filled.reservation, "remaining_quantity", "initial_margin") == ["0.06", "1860"]
    assert shown(filled.position, "quantity", "entry_price") == ["0.04", "62000"]
    listed = await desk.margin.ListReservations(margin_service_pb2.ListReservationsRequest(account_id=name))
    assert [one.remaining_quantity for one in listed.reservations] == ["0.06"]
    status = await desk.status(name)
    # 0.04 × 62,500 ÷ 2 + 0.06 × 62,000 ÷ 2; the position has gained 20
    assert shown(status, "margin_used", "initial_margin_reservations", "equity") == ["3110", "1860", "10020"]
    for quantity, remaining, used in (("0.02", "0.04", "2490"), (None, "0", "1250")):
        answer = await desk.margin.ReleaseReservation(
            margin_service_pb2.ReleaseReservationRequest(
                request_id=desk.request_id(),
                account_id=name,
                reservation_id=reservation.reservation_id,
                quantity=quantity,
            )
        )
        assert (answer.accepted, answer.reservation.remaining_quantity) == (True, remaining)
        assert answer.margin_available == text(Decimal(10020) - Decimal(used))
    again = await desk.margin.ReleaseReservation(
        margin_service_pb2.ReleaseReservationRequest(
            request_id=desk.request_id(), account_id=name, reservation_id=reservation.reservation_id
        )
    )
    assert (again.accepted, reasons(again.violations)) == (False, ["RESERVATION_NOT_FOUND"])


async def test_a_refused_reservation_says_why_and_what_would_fit(desk: Desk) -> None:
    name = await open_fresh(desk)
    answer = await desk.reserve(name, BUY, "1")
    assert not answer.accepted and not answer.HasField("reservation")
    assert reasons(answer.violations) == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    assert shown(answer, "margin_required", "margin_available", "largest_buy") == ["34375", "10000", "0.256"]
    fitting = await desk.reserve(name, BUY, answer.largest_buy)
    assert fitting.accepted


async def test_a_fill_realizes_profit_and_pays_its_fee(desk: Desk) -> None:
    name = await open_fresh(desk)
    opened = await desk.fill(name, BUY, "0.2", "BTCUSDT", "60000", fee="6")
    assert [(one.asset, one.amount) for one in opened.balance_changes] == [("USDT", "-6")]
    assert shown(opened.position, "quantity", "entry_price", "realized_pnl") == ["0.2", "60000", "0"]
    closed = await desk.fill(name, SELL, "0.15", "BTCUSDT", "62000", fee="4.5")
    assert shown(closed.fill, "realized_pnl", "fee", "fee_asset") == ["300", "4.5", "USDT"]
    assert [(one.asset, one.amount) for one in closed.balance_changes] == [("USDT", "295.5")]
    turned = await desk.fill(name, SELL, "0.15", "BTCUSDT", "62500")
    assert shown(turned.position, "quantity", "entry_price") == ["-0.1", "62500"]
    # 10,000 − 6 + 300 − 4.5 + 0.05 × 2,500
    assert shown(turned.after, "equity", "margin_used") == ["10414.5", "3125"]
    assert (await desk.status(name)).realized_pnl == "425"


async def test_a_position_is_closed_through_the_broker(desk: Desk) -> None:
    name = await open_fresh(desk)
    await desk.fill(name, BUY, "0.2", "BTCUSDT", "60000")
    answer = await desk.margin.ClosePosition(
        margin_service_pb2.ClosePositionRequest(
            request_id=desk.request_id(), account_id=name, symbol="BTCUSDT", quantity="0.15", reason="enough"
        )
    )
    assert (answer.accepted, answer.done) == (True, True)
    plan = answer.liquidation
    assert shown(plan, "account_id", "cause", "state", "state_reason") == [
        name,
        margin_service_pb2.LIQUIDATION_CAUSE_REQUESTED,
        margin_service_pb2.LIQUIDATION_STATE_COMPLETED,
        "enough",
    ]
    (step,) = plan.steps
    assert shown(step, "symbol", "side", "quantity") == ["BTCUSDT", SELL, "0.15"]
    assert [(one.quantity, one.price) for one in step.fills] == [("0.15", "62500")]
    status = await desk.status(name)
    assert shown(status, "realized_pnl", "margin_used", "open_positions") == ["375", "1562.5", 1]
    listed = await desk.margin.ListLiquidations(margin_service_pb2.ListLiquidationsRequest(account_id=name))
    assert list(listed.liquidations) == [plan]
    none = await desk.margin.ClosePosition(
        margin_service_pb2.ClosePositionRequest(request_id=desk.request_id(), account_id=name, symbol="SOLUSDT")
    )
    assert (none.accepted, reasons(none.violations)) == (False, ["NO_POSITION"])


async def test_what_if_changes_nothing_and_shows_everything(desk: Desk) -> None:
    name = await open_fresh(desk)
    change = margin_service_pb2.MarginChange
    before = desk.engine.account(name)
    answer = await desk.margin.SimulateMargin(
        margin_service_pb2.SimulateMarginRequest(
            account_id=name,
            changes=[
                change(leverage=margin_service_pb2.SimulatedLeverage(symbol="BTCUSDT", leverage="5")),
                change(fill=margin_service_pb2.SimulatedFill(symbol="BTCUSDT", side=BUY, quantity="0.4")),
                change(price_shock=margin_service_pb2.PriceShock(fraction="-0.10")),
                change(deposit=types_pb2.AssetAmount(asset="USDT", amount="1000")),
                change(order=order(BUY, "10")),
                change(fill=margin_service_pb2.SimulatedFill(symbol="BTCUSDT", side=SELL, quantity="0.4")),
            ],
        )
    )
    assert [one.accepted for one in answer.results] == [True, True, True, True, False, True]
    figures_of = [shown(one.after, "equity", "margin_used") for one in answer.results]
    assert figures_of == [
        ["10000", "0"],
        ["10000", "5000"],
        ["7500", "4500"],
        ["8500", "4500"],
        ["8500", "4500"],
        ["8500", "0"],
    ]
    assert answer.results[5].realized_pnl == "-2500"
    assert (answer.before.figures.equity, answer.after.figures.equity) == ("10000", "8500")
    assert desk.engine.account(name) is before
    held = await desk.margin.SimulateMargin(
        margin_service_pb2.SimulateMarginRequest(
            account_id=name,
            changes=[change(fill=margin_service_pb2.SimulatedFill(symbol="BTCUSDT", side=BUY, quantity="0.2"))],
        )
    )
    # 6,250 (1 + d) = t (10,000 + 12,500 d): leverage 2 reaches 70 % at a fall of 30 %, equity ends at −80 %
    downs = {one.target: one.down for one in held.shocks}
    assert downs[types_pb2.SHOCK_TARGET_WARNING] == "-0.3"
    assert downs[types_pb2.SHOCK_TARGET_BANKRUPTCY] == "-0.8"
