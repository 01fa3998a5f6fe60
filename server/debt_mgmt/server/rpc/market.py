"""MarketService: defines instruments and takes their prices."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core import instrument as i
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.core.funding import is_full_hour
from debt_mgmt.core.market import FundingRate, Mark
from debt_mgmt.core.money import ZERO, text
from debt_mgmt.core.venue_rules import HOUSE_RULES, VENUES, rule_set
from debt_mgmt.server.prices.marks import MarkUpdate, Quarantined, QuarantineReason
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import judged, opening, reading
from debt_mgmt.server.rpc.leverage import tier_message
from debt_mgmt.server.rpc.names import INSTRUMENT_KIND, QUARANTINE_REASON
from debt_mgmt.server.rpc.pages import page_of
from debt_mgmt.server.rpc.validate import Reader, datetime_of
from debt_mgmt.v1 import market_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call

Listed = TypeVar("Listed", i.Instrument, Mark)

MARKS_MOST = 1000
QUARANTINED_SHOWN = 100
TIERS_MOST = 100
SOURCE_CHARACTERS_MOST = 64
GIVEN_CHARACTERS_MOST = 100

MARGIN_RULES_DEFAULT = HOUSE_RULES
MARGIN_RULES = VENUES
"""Names of margin rules."""


class MarketService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def PutInstrument(self, request: wire.PutInstrumentRequest, call: "Call") -> wire.PutInstrumentResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        command: c.PutInstrument | None = None
        if read.present(request, "instrument"):
            command = c.PutInstrument(read_instrument(read, request.instrument, engine.clock()))
        read.done()
        assert command is not None
        committed = await engine.submit_house(command, request_id=request_id, actor=call.actor)
        put = next((event.instrument for event in committed.events if isinstance(event, e.InstrumentPut)), None)
        return wire.PutInstrumentResponse(
            **opening((0, committed.last_position), committed),
            instrument=instrument_message(put or command.instrument),
        )

    async def ListInstruments(self, request: wire.ListInstrumentsRequest, call: "Call") -> wire.ListInstrumentsResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        symbols = read.several(request.symbols, "symbols", read.symbol)
        read.done()
        wanted = of_symbols(engine.house.instruments.values(), symbols)
        page, following = page_of(
            wanted, lambda one: [one.symbol], size, request.page_token, "ListInstruments", symbols
        )
        return wire.ListInstrumentsResponse(
            **reading(engine.house_revision(), engine.clock()),
            instruments=[instrument_message(one) for one in page],
            next_page_token=following,
        )

    async def PublishMarks(
        self, requests: AsyncIterator[wire.PublishMarksRequest], call: "Call"
    ) -> wire.PublishMarksResponse:
        engine = self.engine
        clock: int | None = None
        accepted = 0
        held_back: list[wire.QuarantinedMark] = []
        count = 0
        async for request in requests:
            clock = read_clock(request, clock)
            recorded = clock == wire.MARK_CLOCK_TAPE
            batch = read_marks(request, call.actor.name, recorded)
            outcome = await engine.publish(batch.updates, recorded=recorded, settle=request.settle)
            accepted += outcome.accepted
            quarantined = [
                *batch.untimed,
                *(quarantined_message(update, why) for update, why in outcome.quarantined),
            ]
            count += len(quarantined)
            held_back += quarantined[: QUARANTINED_SHOWN - len(held_back)]
        return wire.PublishMarksResponse(
            **reading(engine.house_revision(), engine.clock()),
            accepted_count=accepted,
            quarantined_count=count,
            quarantined=held_back,
        )

    async def ListMarks(self, request: wire.ListMarksRequest, call: "Call") -> wire.ListMarksResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        symbols = read.several(request.symbols, "symbols", read.symbol)
        read.done()
        at = engine.clock()
        wanted = of_symbols(engine.marks.values(), symbols)
        page, following = page_of(wanted, lambda one: [one.symbol], size, request.page_token, "ListMarks", symbols)
        return wire.ListMarksResponse(
            **reading(engine.house_revision(), at),
            marks=[convert.mark(one, at, engine.risk.mark_max_age) for one in page],
            next_page_token=following,
        )

    async def PublishFundingRate(
        self, request: wire.PublishFundingRateRequest, call: "Call"
    ) -> wire.PublishFundingRateResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        symbol = read.symbol(request.symbol)
        rate = read.decimal(request.rate, "rate")
        at = read.timestamp(request, "funding_time")
        mark = read.optional(request, "mark_price", read.positive)
        if not -1 <= rate <= 1:
            read.problem("rate", "must be a fraction from -1 to 1")
        if at is None:
            read.problem("funding_time", "is required")
        elif not is_full_hour(at):
            read.problem("funding_time", "must be a full hour")
        read.done()
        assert at is not None
        command = c.PublishFundingRate(symbol, rate, mark, at)
        committed = await engine.submit_house(command, request_id=request_id, actor=call.actor)
        await engine.settling.fund()
        known = engine.house.funding_rates.get(symbol, ())
        taken = next((one for one in known if (one.at, one.rate) == (at, rate)), None)
        return wire.PublishFundingRateResponse(
            **opening((0, committed.last_position), committed),
            **judged(committed.events),
            funding_rate=None if taken is None else funding_rate_message(taken),
        )

    async def ListFundingRates(
        self, request: wire.ListFundingRatesRequest, call: "Call"
    ) -> wire.ListFundingRatesResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        symbols = read.several(request.symbols, "symbols", read.symbol)
        read.done()
        known = engine.house.funding_rates
        wanted = [
            one for symbol in sorted(known) if not symbols or symbol in symbols for one in reversed(known[symbol])
        ]
        page, following = page_of(
            wanted, lambda one: [one.symbol, age_key(one.at)], size, request.page_token, "ListFundingRates", symbols
        )
        return wire.ListFundingRatesResponse(
            **reading(engine.house_revision(), engine.clock()),
            funding_rates=[funding_rate_message(one) for one in page],
            next_page_token=following,
        )


# funding


def age_key(at: datetime) -> str:
    """A text that sorts the newest first."""
    return f"{10**12 - int(at.timestamp()):013}"


def funding_rate_message(rate: FundingRate) -> wire.FundingRate:
    return wire.FundingRate(
        symbol=rate.symbol, rate=text(rate.rate), mark_price=text(rate.mark), funding_time=convert.timestamp(rate.at)
    )


# instruments


def of_symbols(several: Iterable[Listed], symbols: list[str]) -> list[Listed]:
    """Those of the symbols asked for; all where none is."""
    wanted = set(symbols)
    return [one for one in several if not wanted or one.symbol in wanted]


def instrument_message(one: i.Instrument) -> wire.Instrument:
    effective: datetime | None = None
    if one.rules.effective_from:
        effective = datetime.fromisoformat(one.rules.effective_from)
        effective = effective.replace(tzinfo=effective.tzinfo or UTC)
    return wire.Instrument(
        symbol=one.symbol,
        kind=INSTRUMENT_KIND.wire[one.kind],
        base_asset=one.base,
        quote_asset=one.quote,
        settle_asset=one.settle,
        contract_size=text(one.contract_size),
        lot=text(one.lot),
        tick=text(one.tick),
        min_quantity=text(one.min_quantity),
        max_quantity=convert.optional_text(one.max_quantity),
        min_notional=text(one.min_notional) if one.min_notional else None,
        maker_fee_rate=text(one.maker_fee_rate),
        taker_fee_rate=text(one.taker_fee_rate),
        max_leverage=text(one.max_leverage),
        tiers=[tier_message(tier) for tier in one.tiers],
        margin_rules=one.rules.rules_id,
        effective_time=convert.optional_timestamp(effective),
    )


FIELD_NAMES = {"settle": "settle_asset", "base": "base_asset", "quote": "quote_asset"}
"""Core's name of a field → the wire's, where they differ."""


def read_instrument(read: Reader, message: wire.Instrument, now: datetime) -> i.Instrument:
    """The definition, with everything noted that makes its terms unusable."""
    effective = read.timestamp(message, "effective_time", "instrument.effective_time")
    if effective is not None and effective > now:
        read.problem("instrument.effective_time", "must not lie in the future: a definition holds at once")
    name = message.margin_rules or MARGIN_RULES_DEFAULT
    if name not in MARGIN_RULES:
        read.problem("instrument.margin_rules", f"are not known: {', '.join(MARGIN_RULES)} are")
        name = MARGIN_RULES_DEFAULT
    kind = read.choice(message.kind, INSTRUMENT_KIND, "instrument.kind")
    rules = rule_set(name, (effective or now).date()).of(kind)
    rules = msgspec.structs.replace(rules, effective_from="" if effective is None else date_text(effective))
    if len(message.tiers) > TIERS_MOST:
        read.problem("instrument.tiers", f"has {len(message.tiers)} tiers, at most {TIERS_MOST} are accepted")
    minimum = read.optional(message, "min_notional", read.not_negative, "instrument.min_notional")
    instrument = i.Instrument(
        symbol=read.symbol(message.symbol, "instrument.symbol"),
        kind=kind,
        base=read.asset(message.base_asset, "instrument.base_asset"),
        quote=read.asset(message.quote_asset, "instrument.quote_asset"),
        settle=read.asset(message.settle_asset, "instrument.settle_asset"),
        contract_size=read.decimal(message.contract_size, "instrument.contract_size"),
        lot=read.decimal(message.lot, "instrument.lot"),
        tick=read.decimal(message.tick, "instrument.tick"),
        tiers=tuple(
            read_tier(read, tier, f"instrument.tiers[{index}]") for index, tier in enumerate(message.tiers[:TIERS_MOST])
        ),
        max_leverage=read.decimal(message.max_leverage, "instrument.max_leverage"),
        min_quantity=read.decimal(message.min_quantity, "instrument.min_quantity"),
        max_quantity=read.optional(message, "max_quantity", read.positive, "instrument.max_quantity"),
        min_notional=minimum if minimum is not None else ZERO,
        maker_fee_rate=read.decimal(message.maker_fee_rate, "instrument.maker_fee_rate"),
        taker_fee_rate=read.decimal(message.taker_fee_rate, "instrument.taker_fee_rate"),
        rules=rules,
    )
    if read.fine:
        for field, problem in i.instrument_problems(instrument):
            read.problem(f"instrument.{FIELD_NAMES.get(field, field)}", problem)
    return instrument


def date_text(at: datetime) -> str:
    """A time as ISO text; a day's beginning as that day."""
    return at.date().isoformat() if at.time() == time.min else at.isoformat()


def read_tier(read: Reader, message: types_pb2.RiskTier, path: str) -> i.Tier:
    return i.Tier(
        notional_from=read.decimal(message.notional_from, f"{path}.notional_from"),
        notional_to=read.optional(message, "notional_to", read.decimal, f"{path}.notional_to"),
        maintenance_rate=read.decimal(message.maintenance_rate, f"{path}.maintenance_rate"),
        max_leverage=read.decimal(message.max_leverage, f"{path}.max_leverage"),
        deduction=read.decimal(message.deduction, f"{path}.deduction"),
    )


# prices


class Batch(msgspec.Struct, frozen=True):
    """Prices that hold together, and those whose time is none."""

    updates: list[MarkUpdate]
    untimed: list[wire.QuarantinedMark]


def read_clock(request: wire.PublishMarksRequest, before: int | None) -> int:
    """What the times mean: the same in the whole stream."""
    clock = request.clock or wire.MARK_CLOCK_LIVE
    if clock not in wire.MarkClock.values():
        raise InvalidRequest([("clock", f"has no value {clock}: LIVE, TAPE are accepted")])
    if before is not None and clock != before:
        raise InvalidRequest([("clock", "must be the same in the whole stream")])
    return clock


def read_marks(request: wire.PublishMarksRequest, publisher: str, recorded: bool) -> Batch:
    """The prices, the last of each symbol. Whether a price is good is for the price guard to say; it is no error."""
    if len(request.marks) > MARKS_MOST:
        raise Fault(
            FaultReason.BATCH_TOO_LARGE,
            f"{len(request.marks)} prices in one message, at most {MARKS_MOST} are accepted",
            items=str(len(request.marks)),
            limit=str(MARKS_MOST),
        )
    read = Reader()
    batch = Batch([], [])
    last = {message.symbol: (index, message) for index, message in enumerate(request.marks)}
    for index, message in last.values():
        source = read.text(message.source, f"marks[{index}].source", SOURCE_CHARACTERS_MOST) or publisher
        given = message.HasField("source_time")
        source_time = datetime_of(message.source_time) if given else None
        update = MarkUpdate(message.symbol, message.price, source, source_time)
        if given and source_time is None:
            batch.untimed.append(untimed(update, "source_time is not a time between the years 1 and 9999"))
        elif recorded and not given:
            batch.untimed.append(untimed(update, "source_time is required with clock TAPE"))
        else:
            batch.updates.append(update)
    read.done()
    return batch


def untimed(update: MarkUpdate, why: str) -> wire.QuarantinedMark:
    return quarantined_message(update, Quarantined(QuarantineReason.INVALID_TIME, why))


def quarantined_message(update: MarkUpdate, why: Quarantined) -> wire.QuarantinedMark:
    """A price that was held back, as it was given (what is absurdly long is cut)."""
    return wire.QuarantinedMark(
        mark=wire.MarkUpdate(
            symbol=update.symbol[:GIVEN_CHARACTERS_MOST],
            price=update.price[:GIVEN_CHARACTERS_MOST],
            source=update.source,
            source_time=convert.optional_timestamp(update.source_time),
        ),
        reason=QUARANTINE_REASON.wire[why.reason],
        message=why.message,
    )
