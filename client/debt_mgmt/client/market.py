"""Instruments and their mark prices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from debt_mgmt.client.answers import Answer, Outcome, Recorded
from debt_mgmt.client.call import Call, Pages, command, pages, whole
from debt_mgmt.client.decimals import Number, decimal, optional_decimal
from debt_mgmt.client.enums import InstrumentKind, MarkClock, QuarantineReason
from debt_mgmt.client.figures import Mark, assign
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import market_service_pb2 as pb

BATCH_SIZE = 1000
SOURCE = "sdk"


@dataclass(frozen=True, slots=True, init=False)
class RiskTier:
    """A bracket of an instrument's risk tiers, by notional in settlement currency."""

    notional_from: Decimal
    """Inclusive."""
    notional_to: Decimal | None
    """Exclusive. None: open."""
    maintenance_rate: Decimal
    """Fraction of the notional."""
    max_leverage: Decimal
    deduction: Decimal
    """Subtracted from notional × rate, in settlement currency; 0 where the venue has none."""

    def __init__(
        self,
        notional_from: Number,
        notional_to: Number | None,
        maintenance_rate: Number,
        max_leverage: Number,
        deduction: Number = 0,
    ) -> None:
        assign(
            self,
            notional_from=decimal(notional_from, "notional_from"),
            notional_to=optional_decimal(notional_to, "notional_to"),
            maintenance_rate=decimal(maintenance_rate, "maintenance_rate"),
            max_leverage=decimal(max_leverage, "max_leverage"),
            deduction=decimal(deduction, "deduction"),
        )


@dataclass(frozen=True, slots=True, init=False)
class Instrument:
    """An instrument. Fee and margin rates are fractions; quantities are in contracts."""

    symbol: str
    kind: InstrumentKind
    base_asset: str
    quote_asset: str
    """Asset that the price is in."""
    settle_asset: str
    """Asset in which PnL and margin are settled."""
    contract_size: Decimal
    """Units of the base asset in one contract (INVERSE: of the quote asset)."""
    lot: Decimal
    """Step of quantities."""
    tick: Decimal
    """Step of prices."""
    min_quantity: Decimal
    max_quantity: Decimal | None
    """Of one order. None: not limited."""
    min_notional: Decimal | None
    """Of one order, in settlement currency. None: not limited."""
    maker_fee_rate: Decimal
    """A rebate is negative."""
    taker_fee_rate: Decimal
    max_leverage: Decimal
    tiers: tuple[RiskTier, ...]
    """Ascending from 0, contiguous, rates not falling."""
    margin_rules: str | None
    """Name of the margin rules that apply. None: the configured ones."""
    effective_time: datetime | None
    """From when this definition holds. None: now."""

    def __init__(
        self,
        symbol: str,
        *,
        base_asset: str,
        quote_asset: str,
        settle_asset: str,
        lot: Number,
        tick: Number,
        min_quantity: Number,
        taker_fee_rate: Number,
        maker_fee_rate: Number,
        max_leverage: Number,
        tiers: Sequence[RiskTier],
        kind: InstrumentKind | str = InstrumentKind.LINEAR,
        contract_size: Number = 1,
        max_quantity: Number | None = None,
        min_notional: Number | None = None,
        margin_rules: str | None = None,
        effective_time: datetime | None = None,
    ) -> None:
        assign(
            self,
            symbol=symbol,
            kind=InstrumentKind(kind),
            base_asset=base_asset,
            quote_asset=quote_asset,
            settle_asset=settle_asset,
            contract_size=decimal(contract_size, "contract_size"),
            lot=decimal(lot, "lot"),
            tick=decimal(tick, "tick"),
            min_quantity=decimal(min_quantity, "min_quantity"),
            max_quantity=optional_decimal(max_quantity, "max_quantity"),
            min_notional=optional_decimal(min_notional, "min_notional"),
            maker_fee_rate=decimal(maker_fee_rate, "maker_fee_rate"),
            taker_fee_rate=decimal(taker_fee_rate, "taker_fee_rate"),
            max_leverage=decimal(max_leverage, "max_leverage"),
            tiers=tuple(tiers),
            margin_rules=margin_rules,
            effective_time=effective_time,
        )


@dataclass(frozen=True, slots=True, init=False)
class MarkUpdate:
    """One price to publish."""

    symbol: str
    """Instrument, or ASSET/CURRENCY for valuing an asset."""
    price: Decimal
    """In quote currency per unit."""
    source: str
    """Who gives it."""
    source_time: datetime | None
    """Time of the price at the source. None: now."""

    def __init__(
        self, symbol: str, price: Number, *, source: str = SOURCE, source_time: datetime | None = None
    ) -> None:
        assign(self, symbol=symbol, price=decimal(price, "price"), source=source, source_time=source_time)


Marks = Mapping[str, Number] | Iterable[MarkUpdate]
"""Prices that hold together: by symbol, or with their source and time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentPut(Recorded):
    """The instrument defined."""

    instrument: Instrument
    """The definition in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedMark:
    """A price that was held back."""

    mark: MarkUpdate
    reason: QuarantineReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarksPublished(Answer):
    """What became of the prices."""

    accepted_count: int
    quarantined_count: int
    quarantined: tuple[QuarantinedMark, ...]
    """The first 100 held back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingRate:
    """What longs pay shorts at one instant, as a share of the notional; below zero shorts pay."""

    symbol: str
    rate: Decimal
    mark_price: Decimal
    """Price that the notional is counted at."""
    funding_time: datetime
    """Positions held then are settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingRateOutcome(Outcome):
    """The rate as it is settled, or why not."""

    funding_rate: FundingRate | None
    """None when refused."""


class MarketMethods(Methods):
    """Defines instruments and gives prices."""

    @unary
    def put_instrument(
        self, instrument: Instrument, *, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[InstrumentPut]:
        """Defines an instrument or replaces its definition. Positions in it are margined by the new one at once.

        Nothing can be opened in one that was never there before until its limit set `new-instrument` is changed or
        deleted.
        """
        request = message(pb.PutInstrumentRequest, request_id=request_id, instrument=instrument)
        return command(self.raw.market.PutInstrument, request, InstrumentPut, timeout)

    @listing
    def instruments(self, *, symbols: Sequence[str] = (), timeout: Timeout = None) -> Pages[Instrument]:
        """Instruments by symbol; only those in `symbols`, where any are named."""
        request = pb.ListInstrumentsRequest(symbols=symbols)
        return pages(self.raw.market.ListInstruments, request, lambda page: page.instruments, Instrument, timeout)

    @unary
    def publish_marks(
        self,
        marks: Marks,
        *,
        clock: MarkClock | str = MarkClock.LIVE,
        settle: bool = False,
        timeout: Timeout = None,
    ) -> Call[MarksPublished]:
        """Gives mark prices, as {"BTCUSDT": "50000"} or as MarkUpdates; accounts are valued on all of them at once.

        A bad price is held back and counted. With `settle` all decisions and forced reductions that they cause are made
        when the call returns. Never repeated: a price that did not arrive is old. See `feed_marks` for many.
        """
        requests = mark_requests(marks, clock, settle)
        send = self.raw.market.PublishMarks
        return Call(
            send=lambda each, timeout: send(iter(each), timeout=timeout),
            request=requests,
            method="PublishMarks",
            interpret=whole(MarksPublished),
            timeout=timeout,
            patience="command",
            repeatable=False,
        )

    @listing
    def marks(self, *, symbols: Sequence[str] = (), timeout: Timeout = None) -> Pages[Mark]:
        """The latest mark prices by symbol; only those in `symbols`, where any are named."""
        request = pb.ListMarksRequest(symbols=symbols)
        return pages(self.raw.market.ListMarks, request, lambda page: page.marks, Mark, timeout)

    @unary
    def publish_funding_rate(
        self,
        symbol: str,
        rate: Number,
        funding_time: datetime,
        *,
        mark_price: Number | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[FundingRateOutcome]:
        """Gives the funding rate of an instrument at a full hour that has come; above zero longs pay.

        Every account that held the instrument then is settled, once. Without a price the latest mark counts.
        """
        request = message(
            pb.PublishFundingRateRequest,
            request_id=request_id,
            symbol=symbol,
            rate=decimal(rate, "rate"),
            funding_time=funding_time,
            mark_price=optional_decimal(mark_price, "mark_price"),
        )
        return command(self.raw.market.PublishFundingRate, request, FundingRateOutcome, timeout)

    @listing
    def funding_rates(self, *, symbols: Sequence[str] = (), timeout: Timeout = None) -> Pages[FundingRate]:
        """Funding rates by symbol, the newest first; only of `symbols`, where any are named."""
        request = pb.ListFundingRatesRequest(symbols=symbols)
        return pages(self.raw.market.ListFundingRates, request, lambda page: page.funding_rates, FundingRate, timeout)


def mark_requests(marks: Marks, clock: MarkClock | str, settle: bool) -> list[pb.PublishMarksRequest]:
    """The messages for one batch of prices: one, unless it is larger than a message may be."""
    if isinstance(marks, Mapping):
        updates = [MarkUpdate(symbol, price) for symbol, price in marks.items()]
    else:
        updates = list(marks)
    batches = [updates[start : start + BATCH_SIZE] for start in range(0, len(updates), BATCH_SIZE)]
    return [message(pb.PublishMarksRequest, marks=batch, clock=clock, settle=settle) for batch in batches]
