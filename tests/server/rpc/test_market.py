"""MarketService: definitions are checked whole, prices are taken or held back, and both are listed by symbol."""

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.core.account import Side
from debt_mgmt.core.defaults import default_instruments
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.rpc.market import MARGIN_RULES, instrument_message, read_instrument
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.server.shard_answers import RequestIdReused
from debt_mgmt.v1 import market_service_pb2 as wire
from debt_mgmt.v1 import types_pb2
from tests.server.rpc.edge import CALL, START, Edge, stream, without_replayed
from tests.server.rpc.test_validate import BAD_DECIMALS


def tier(start: str, end: str | None, rate: str, leverage: str, deduction: str = "0") -> types_pb2.RiskTier:
    return types_pb2.RiskTier(
        notional_from=start, notional_to=end, maintenance_rate=rate, max_leverage=leverage, deduction=deduction
    )


def definition(**fields: Any) -> wire.Instrument:
    given: dict[str, Any] = {
        "symbol": "XBTUSD",
        "kind": types_pb2.INSTRUMENT_KIND_INVERSE,
        "base_asset": "BTC",
        "quote_asset": "USD",
        "settle_asset": "BTC",
        "contract_size": "100",
        "lot": "1",
        "tick": "0.5",
        "min_quantity": "1",
        "maker_fee_rate": "-0.0001",
        "taker_fee_rate": "0.0005",
        "max_leverage": "50",
        "tiers": [tier("0", "10", "0.01", "50"), tier("10", None, "0.02", "25", "0.1")],
    }
    return wire.Instrument(**(given | fields))


def put(request_id: str = "put", **fields: Any) -> wire.PutInstrumentRequest:
    return wire.PutInstrumentRequest(request_id=request_id, instrument=definition(**fields))


async def test_a_definition_is_in_force_at_once(edge: Edge) -> None:
    answer = await edge.market.PutInstrument(put(max_quantity="1000", min_notional="0.001"), CALL)
    expected = definition(max_quantity="1000", min_notional="0.001", margin_rules="house")
    assert answer.instrument == expected
    assert answer.revision.shard == 0
    listed = await edge.market.ListInstruments(wire.ListInstrumentsRequest(symbols=["XBTUSD"]), CALL)
    assert list(listed.instruments) == [expected]
    assert edge.engine.house.instruments["XBTUSD"].contract_size == Decimal(100)


async def test_what_is_absent_in_a_definition_stays_absent(edge: Edge) -> None:
    instrument = (await edge.market.PutInstrument(put(), CALL)).instrument
    for name in ("max_quantity", "min_notional", "effective_time"):
        assert not instrument.HasField(name)


async def test_putting_the_same_again_changes_nothing(edge: Edge) -> None:
    first = await edge.market.PutInstrument(put(), CALL)
    place = edge.engine.house_revision()
    other = await edge.market.PutInstrument(put("another"), CALL)
    assert edge.engine.house_revision() == place
    assert other.instrument == first.instrument
    await edge.market.PutInstrument(put("changed", lot="2"), CALL)
    again = await edge.market.PutInstrument(put(), CALL)
    assert again.replayed
    assert without_replayed(again) == first
    with pytest.raises(RequestIdReused):
        await edge.market.PutInstrument(put(lot="3"), CALL)


def test_every_default_instrument_survives_the_way_over_the_wire() -> None:
    for instrument in default_instruments():
        read = Reader()
        assert read_instrument(read, instrument_message(instrument), START) == instrument
        read.done()
        assert instrument.rules.rules_id in MARGIN_RULES


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"kind": 0}, ["kind"]),
        ({"kind": 9}, ["kind"]),
        ({"symbol": "X Y", "lot": "x"}, ["symbol", "lot"]),
        ({"contract_size": "0", "tick": "-1"}, ["contract_size", "tick"]),
        ({"settle_asset": "USD"}, ["settle_asset"]),
        ({"max_quantity": "0.5"}, ["max_quantity"]),
        ({"margin_rules": "nobody"}, ["margin_rules"]),
        ({"tiers": []}, ["tiers"]),
        ({"tiers": [tier("1", None, "0.01", "50")]}, ["tiers[0].notional_from"]),
        ({"tiers": [tier("0", "10", "0.01", "50"), tier("11", None, "0.02", "25")]}, ["tiers[1].notional_from"]),
        ({"tiers": [tier("0", "10", "0.02", "25"), tier("10", None, "0.01", "25")]}, ["tiers[1].maintenance_rate"]),
        ({"tiers": [tier("0", None, "0.5", "25")]}, ["tiers[0].max_leverage"]),
        ({"tiers": [tier("", None, "1e5", "25", "NaN")]},
         ["tiers[0].notional_from", "tiers[0].maintenance_rate", "tiers[0].deduction"]),
        ({"effective_time": Timestamp(seconds=4_000_000_000)}, ["effective_time"]),
        *(({"taker_fee_rate": text}, ["taker_fee_rate"]) for text in BAD_DECIMALS),
    ],
)  # fmt: skip
async def test_a_definition_that_can_not_be_used_is_refused_field_by_field(
    edge: Edge, fields: dict[str, Any], problems: list[str]
) -> None:
    place = edge.engine.house_revision()
    with pytest.raises(InvalidRequest) as raised:
        await edge.market.PutInstrument(put(**fields), CALL)
    assert [field for field, _ in raised.value.problems] == [f"instrument.{name}" for name in problems]
    assert edge.engine.house_revision() == place


async def test_a_definition_is_required(edge: Edge) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await edge.market.PutInstrument(wire.PutInstrumentRequest(), CALL)
    assert [field for field, _ in raised.value.problems] == ["request_id", "instrument"]


async def test_instruments_and_marks_are_paged_by_symbol(edge: Edge) -> None:
    await edge.mark(ETHUSDT="3000", BTCUSDT="50000")
    first = await edge.market.ListInstruments(wire.ListInstrumentsRequest(page_size=1), CALL)
    assert [one.symbol for one in first.instruments] == ["BTCUSDT"]
    token = first.next_page_token
    rest = await edge.market.ListInstruments(wire.ListInstrumentsRequest(page_token=token), CALL)
    assert ([one.symbol for one in rest.instruments], rest.next_page_token) == (["ETHUSDT"], "")
    with pytest.raises(Fault) as raised:
        await edge.market.ListMarks(wire.ListMarksRequest(page_token=token), CALL)
    assert raised.value.reason is FaultReason.PAGE_TOKEN_INVALID
    marks = (await edge.market.ListMarks(wire.ListMarksRequest(page_size=5), CALL)).marks
    assert [(one.symbol, one.price, one.source) for one in marks] == [
        ("BTCUSDT", "50000", "test"),
        ("ETHUSDT", "3000", "test"),
    ]
    wanted = wire.ListMarksRequest(symbols=["ETHUSDT", "NOUSDT"])
    assert [one.symbol for one in (await edge.market.ListMarks(wanted, CALL)).marks] == ["ETHUSDT"]


# Prices


def price(
    symbol: str = "BTCUSDT", text: str = "50000", seconds: float | None = 0, source: str = "venue"
) -> wire.MarkUpdate:
    update = wire.MarkUpdate(symbol=symbol, price=text, source=source)
    if seconds is not None:
        update.source_time.FromDatetime(START + timedelta(seconds=seconds))
    return update


def batch(*marks: wire.MarkUpdate, clock: int = 0, settle: bool = False) -> wire.PublishMarksRequest:
    return wire.PublishMarksRequest(marks=marks, clock=clock, settle=settle)  # type: ignore[arg-type]


async def publish(edge: Edge, *requests: wire.PublishMarksRequest) -> wire.PublishMarksResponse:
    return await edge.market.PublishMarks(stream(requests), CALL)


async def test_prices_are_taken_and_counted(edge: Edge) -> None:
    answer = await publish(edge, batch(price(), price("ETHUSDT", "3000")), batch(price(text="50001", seconds=None)))
    assert (answer.accepted_count, answer.quarantined_count) == (3, 0)
    mark = edge.engine.marks["BTCUSDT"]
    assert (mark.price, mark.source, mark.recorded) == (Decimal(50001), "venue", False)


async def test_the_last_price_of_a_symbol_counts(edge: Edge) -> None:
    answer = await publish(edge, batch(price(text="1"), price(text="50000")))
    assert (answer.accepted_count, answer.quarantined_count) == (1, 0)
    assert edge.engine.marks["BTCUSDT"].price == 50000


async def test_a_price_without_a_source_has_its_publisher(edge: Edge) -> None:
    await publish(edge, batch(price(source="")))
    assert edge.engine.marks["BTCUSDT"].source == "desk"


BAD_PRICES = [
    *((price(text=text), "INVALID_PRICE") for text in [*BAD_DECIMALS, "0", "-1"]),
    (price("NOUSDT"), "UNKNOWN_SYMBOL"),
    (price("", "1"), "UNKNOWN_SYMBOL"),
    (price(seconds=3600), "INVALID_TIME"),
    (price(text="80000"), "DEVIATION"),
    (price(seconds=-5), "OUT_OF_ORDER"),
    (wire.MarkUpdate(symbol="BTCUSDT", price="1", source_time=Timestamp(seconds=2**50)), "INVALID_TIME"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_PRICES)
async def test_a_bad_price_is_held_back_and_the_stream_goes_on(edge: Edge, bad: wire.MarkUpdate, reason: str) -> None:
    answer = await publish(edge, batch(price()), batch(bad), batch(price("ETHUSDT", "3000")))
    assert (answer.accepted_count, answer.quarantined_count) == (2, 1)
    (held,) = answer.quarantined
    assert wire.QuarantineReason.Name(held.reason) == f"QUARANTINE_REASON_{reason}"
    assert held.message
    assert held.mark.symbol == bad.symbol
    assert held.mark.price == bad.price[:100]
    assert edge.engine.marks["BTCUSDT"].price == 50000


async def test_only_the_first_hundred_held_back_are_told(edge: Edge) -> None:
    batches = [batch(*(price(f"NO{number}-{part}") for number in range(60))) for part in range(3)]
    answer = await publish(edge, *batches)
    assert (answer.accepted_count, answer.quarantined_count, len(answer.quarantined)) == (0, 180, 100)


async def test_recorded_prices_need_their_time(edge: Edge) -> None:
    tape = batch(price(seconds=-1e6), price("ETHUSDT", "3000", None), clock=wire.MARK_CLOCK_TAPE)
    answer = await publish(edge, tape)
    assert (answer.accepted_count, answer.quarantined_count) == (1, 1)
    assert answer.quarantined[0].reason == wire.QUARANTINE_REASON_INVALID_TIME
    mark = edge.engine.marks["BTCUSDT"]
    assert mark.recorded
    assert (mark.source_time, mark.received_at) == (START - timedelta(seconds=1e6), START)


async def test_a_batch_that_settles_waits_for_the_reductions_it_causes(edge: Edge) -> None:
    await edge.open("alice", "2500")
    await edge.mark(BTCUSDT="50000")
    await edge.fill("alice", Side.BUY, "0.08", "BTCUSDT", "50000")
    await publish(edge, batch(price(text="38500"), settle=True))
    account = edge.engine.account("alice")
    assert account.reduction is None
    assert account.past_reductions[-1].ended_at is not None
    assert account.positions["BTCUSDT"].quantity < Decimal("0.08")


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([batch(price(), clock=7)], "clock"),
        ([batch(price()), batch(price(), clock=wire.MARK_CLOCK_TAPE)], "clock"),
        ([batch(price(source="a\x00b"))], "marks[0].source"),
        ([batch(price("ETHUSDT"), price(source="v" * 65))], "marks[1].source"),
    ],
)
async def test_a_malformed_stream_is_an_error(edge: Edge, requests: list[wire.PublishMarksRequest], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await publish(edge, *requests)
    assert [name for name, _ in raised.value.problems] == [field]


async def test_a_batch_may_not_be_too_large(edge: Edge) -> None:
    with pytest.raises(Fault) as raised:
        await publish(edge, batch(*(price() for _ in range(1001))))
    assert raised.value.reason is FaultReason.BATCH_TOO_LARGE
    assert raised.value.metadata == {"items": "1001", "limit": "1000"}


async def test_the_answer_tells_when(edge: Edge) -> None:
    answer = await publish(edge)
    assert (answer.accepted_count, answer.as_of.ToDatetime(UTC)) == (0, START)
