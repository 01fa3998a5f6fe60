"""Strategies of live accounts: what a venue tells first counts for the strategy whose order it was."""

from debt_mgmt.core.account import Side
from debt_mgmt.core.venue import VenueFill
from debt_mgmt.v1 import margin_service_pb2, rejections_pb2, risk_service_pb2, types_pb2
from tests.server.live.desk import BTC, D, live_service, open_live, paced, until
from tests.support.live_broker import FakeVenue

BUY = types_pb2.SIDE_BUY


async def test_a_fill_that_the_venue_tells_belongs_to_the_strategy_of_its_order(venue: FakeVenue) -> None:
    async with live_service(venue, pace=paced(poll_seconds=60.0)) as desk:
        await open_live(desk)
        await until(lambda: venue.count("changes"))
        order = types_pb2.Order(symbol="BTCUSDT", side=BUY, quantity="0.05", strategy="momo")
        held = await desk.margin.ReserveMargin(
            margin_service_pb2.ReserveMarginRequest(
                request_id="r", account_id="alice", order=order, client_order_id="mine-1"
            )
        )
        assert held.accepted, held.violations
        venue.fills.append(
            VenueFill("t-1", "o-1", BTC, Side.BUY, D("0.05"), D(50_000), venue.clock(), client_order_id="mine-1")
        )
        venue.hold("BTCUSDT", "0.08", "50000")
        venue.push()
        await until(lambda: BTC in desk.engine.account("alice").positions)
        assert desk.engine.account("alice").strategies == {"momo": {BTC: D("0.05")}}
        request = margin_service_pb2.ListPositionsRequest(account_id="alice")
        (position,) = (await desk.margin.ListPositions(request)).positions
        assert [(one.strategy, one.quantity) for one in position.strategies] == [("momo", "0.05")]


async def test_an_instrument_is_halted_by_the_name_that_the_account_knows_it_by(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        node = types_pb2.Scope(account_id="alice", symbol="BTCUSDT")
        request = risk_service_pb2.HaltTradingRequest(request_id="h", node=node, reason="odd")
        assert (await desk.risk.HaltTrading(request)).accepted
        refused = await desk.reserve("alice", BUY, "0.01")
        (violation,) = refused.violations
        assert violation.reason == rejections_pb2.REFUSAL_REASON_HOUSE_HALTED
        assert violation.scope == types_pb2.Scope(account_id="alice", symbol=BTC)
