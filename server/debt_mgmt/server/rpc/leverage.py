"""LeverageService: leverage, margin mode and isolated margin, with every cap named and nothing lowered silently."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Figures, MarginMode, Position, PositionMode, PositionSide, position_key
from debt_mgmt.core.apply import apply
from debt_mgmt.core.decide import decide
from debt_mgmt.core.decide_leverage import LEVERAGE_STEP, with_leverage
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.instrument import Instrument, Tier, notional, tier_at
from debt_mgmt.core.margin import Summary, World, figures, leverage_of, margin_mode_of, summarize, usable_mark
from debt_mgmt.core.money import ZERO, owned, text
from debt_mgmt.core.settings import RiskSettings, effective_limits
from debt_mgmt.server.brokers.profiles import Feature
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import carried_out, judged, reading, verdict
from debt_mgmt.server.rpc.brokers import must_be_able
from debt_mgmt.server.rpc.fund import after_message, figures_in
from debt_mgmt.server.rpc.names import MARGIN_MODE
from debt_mgmt.server.rpc.pages import page_of
from debt_mgmt.server.rpc.validate import Reader, venue_of
from debt_mgmt.server.rpc.venue_requests import venue_request
from debt_mgmt.v1 import leverage_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class LeverageService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def GetLeverage(self, request: wire.GetLeverageRequest, call: "Call") -> wire.GetLeverageResponse:
        engine = self.engine
        read = self.reader_for(request.account_id)
        account_id = read.account_id(request.account_id)
        symbol = read.symbol(request.symbol)
        read.done()
        await engine.live.learn(engine.account(account_id), [symbol])
        account, world = engine.account(account_id), engine.world()
        return wire.GetLeverageResponse(
            **reading(engine.revision(account_id), world.at), setting=self.setting(account, symbol, world)
        )

    async def ListLeverage(self, request: wire.ListLeverageRequest, call: "Call") -> wire.ListLeverageResponse:
        engine = self.engine
        read = Reader()
        account_id = read.account_id(request.account_id)
        size = read.page_size(request.page_size)
        read.done()
        account, world = engine.account(account_id), engine.world()
        symbols = symbols_of(account)
        page, following = page_of(
            symbols, lambda symbol: [symbol], size, request.page_token, "ListLeverage", account_id
        )
        return wire.ListLeverageResponse(
            **reading(engine.revision(account_id), world.at),
            settings=[self.setting(account, symbol, world) for symbol in page],
            next_page_token=following,
        )

    async def SetLeverage(self, request: wire.SetLeverageRequest, call: "Call") -> wire.SetLeverageResponse:
        engine = self.engine
        read = self.reader_for(request.account_id)
        request_id = read.id(request.request_id, "request_id") if not request.validate_only else ""
        account_id = read.account_id(request.account_id)
        command = c.SetLeverage(read.symbol(request.symbol), read.positive(request.leverage, "leverage"))
        broker = read.optional_id(request.broker, "broker")
        if read.fine and broker and broker != engine.account(account_id).broker:
            read.problem("broker", f"the account is at {engine.account(account_id).broker}")
        read.done()
        await self.make_ready(account_id, command.symbol, Feature.SET_LEVERAGE)
        view, world = engine.view(account_id), engine.world()
        instrument_of(world, command.symbol)
        if request.validate_only:
            return validated(engine, view.account, view.before, command, world)
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        asked = await venue_request(engine, account_id, committed, call)
        if asked is not None:
            account = engine.account(account_id)
        world = engine.world()
        return wire.SetLeverageResponse(
            **verdict(engine, account_id, committed),
            setting=self.setting(account, command.symbol, world),
            before=None if committed.replayed else convert.margin_figures(view.before, engine.risk, account.level),
            after=after_setting(account, command, committed.events, world),
            venue_request=asked,
        )

    async def SetMarginMode(self, request: wire.SetMarginModeRequest, call: "Call") -> wire.SetMarginModeResponse:
        engine = self.engine
        read = self.reader_for(request.account_id)
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        command = c.SetMarginMode(
            read.symbol(request.symbol), read.choice(request.margin_mode, MARGIN_MODE, "margin_mode")
        )
        read.done()
        await self.make_ready(account_id, command.symbol, Feature.SET_MARGIN_MODE)
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        asked = await venue_request(engine, account_id, committed, call)
        if asked is not None:
            account = engine.account(account_id)
        return wire.SetMarginModeResponse(
            **verdict(engine, account_id, committed),
            setting=self.setting(account, command.symbol, engine.world()),
            venue_request=asked,
        )

    async def AdjustIsolatedMargin(
        self, request: wire.AdjustIsolatedMarginRequest, call: "Call"
    ) -> wire.AdjustIsolatedMarginResponse:
        engine = self.engine
        read = self.reader_for(request.account_id)
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        mode: PositionMode | None = engine.account(account_id).position_mode if read.fine else None
        command = c.AdjustIsolatedMargin(
            read.symbol(request.symbol),
            read.position_side(request.position_side, "position_side", mode),
            read.nonzero(request.amount, "amount"),
        )
        read.done()
        await self.make_ready(account_id, command.symbol, Feature.ADJUST_ISOLATED_MARGIN)
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        asked = await venue_request(engine, account_id, committed, call)
        if asked is not None:
            account = engine.account(account_id)
        world = engine.world()
        summary = summarize(account, world)
        position = account.positions.get(position_key(command.symbol, command.position_side))
        known = next((one for one in summary.positions if one.position is position), None)
        return wire.AdjustIsolatedMarginResponse(
            **verdict(engine, account_id, committed),
            position=convert.position(position, known, account, summary, world) if position is not None else None,
            removable=convert.optional_text(removable(summary, command.symbol, command.position_side)),
            after=after_message(engine, account, committed),
            venue_request=asked,
        )

    async def ListLeverageLimits(
        self, request: wire.ListLeverageLimitsRequest, call: "Call"
    ) -> wire.ListLeverageLimitsResponse:
        engine = self.engine
        read = self.reader_for(request.account_id)
        account_id = read.account_id(request.account_id)
        size = read.page_size(request.page_size)
        symbols = read.several(request.symbols, "symbols", read.symbol)
        read.done()
        account, world = engine.account(account_id), engine.world()
        wanted = [
            one
            for one in world.house.instruments.values()
            if (one.symbol in symbols if symbols else is_for(account, one))
        ]
        page, following = page_of(
            wanted, lambda one: [one.symbol], size, request.page_token, "ListLeverageLimits", account_id, symbols
        )
        return wire.ListLeverageLimitsResponse(
            **reading(engine.revision(account_id), world.at),
            limits=[limits_message(account, instrument, world.settings) for instrument in page],
            next_page_token=following,
        )

    def reader_for(self, account_id: str) -> Reader:
        """A reader that knows where the account's instruments are; of an unknown account it knows nothing."""
        known = account_id in self.engine.home
        return Reader(venue_of(self.engine.account(account_id)) if known else "")

    async def make_ready(self, account_id: str, symbol: str, feature: Feature) -> None:
        """A live account's venue must be able to do it, and its instrument be known."""
        account = self.engine.account(account_id)
        must_be_able(account, feature)
        await self.engine.live.learn(account, [symbol])

    def setting(self, account: Account, symbol: str, world: World) -> wire.LeverageSetting:
        return setting_message(account, symbol, world, self.engine.live.refusals.get((account.account_id, symbol)))


def is_for(account: Account, instrument: Instrument) -> bool:
    """Whether an instrument is one of the account's venue; a sandbox account has them all."""
    return account.sync is None or instrument.symbol.startswith(f"{account.broker}:")


def instrument_of(world: World, symbol: str) -> Instrument:
    """The instrument; raises Fault INSTRUMENT_NOT_FOUND."""
    instrument = world.house.instruments.get(symbol)
    if instrument is None:
        raise Fault(
            FaultReason.INSTRUMENT_NOT_FOUND, f"instrument {symbol} is not known; PutInstrument adds it", symbol=symbol
        )
    return instrument


def symbols_of(account: Account) -> set[str]:
    """Symbols with a setting, a position or a reservation."""
    symbols = {*account.leverage, *account.margin_modes}
    symbols.update(position.symbol for position in account.positions.values())
    symbols.update(reservation.symbol for reservation in account.reservations.values())
    return symbols


# settings and their caps


def setting_message(
    account: Account, symbol: str, world: World, refused: e.VenueChangeRefused | None = None
) -> wire.LeverageSetting:
    """A symbol's leverage with every cap on it, lowest first, and what its venue was asked for and said."""
    caps = sorted(caps_of(account, instrument_of(world, symbol), world), key=lambda cap: cap[1])
    pending = account.pending.get(symbol)
    change, state = pending, wire.LEVERAGE_STATE_CONFIRMED
    if pending is not None:
        state, refused = wire.LEVERAGE_STATE_REQUESTED, None
    elif refused is not None:
        change, state = refused.change, wire.LEVERAGE_STATE_REFUSED
    return wire.LeverageSetting(
        symbol=symbol,
        leverage=text(leverage_of(account, world.settings, symbol)),
        is_default=symbol not in account.leverage,
        state=state,
        requested_leverage=convert.optional_text(change.leverage) if change is not None else None,
        refusal=refused.message if refused is not None else "",
        maximum=text(caps[0][1]),
        caps=[wire.LeverageCap(source=source, maximum=text(maximum)) for source, maximum in caps],
        margin_mode=MARGIN_MODE.wire[margin_mode_of(account, symbol)],
    )


def caps_of(
    account: Account, instrument: Instrument, world: World
) -> list[tuple[wire.LeverageCapSource.ValueType, Decimal]]:
    caps = [
        (wire.LEVERAGE_CAP_SOURCE_ACCOUNT, account_cap(account, world.settings)),
        (wire.LEVERAGE_CAP_SOURCE_INSTRUMENT, instrument.max_leverage),
        (wire.LEVERAGE_CAP_SOURCE_TIER, tier_of(account, instrument, world).max_leverage),
    ]
    broker_cap = world.settings.broker_max_leverage.get(account.broker)
    if broker_cap is not None:
        caps.append((wire.LEVERAGE_CAP_SOURCE_BROKER, broker_cap))
    return caps


def account_cap(account: Account, settings: RiskSettings) -> Decimal:
    """The account's own maximum, and never more than the configured one."""
    own = effective_limits(settings.limits, account.limits).max_leverage
    return settings.max_leverage if own is None else min(settings.max_leverage, own)


def tier_of(account: Account, instrument: Instrument, world: World) -> Tier:
    """The risk tier that the largest position in the instrument is in; the first without a position or a price."""
    mark = usable_mark(account, world, instrument.symbol)
    held = [abs(one.quantity) for one in account.positions.values() if one.symbol == instrument.symbol]
    if mark is None or not held:
        return instrument.tiers[0]
    return tier_at(instrument, notional(instrument, max(held), mark.price))


def limits_message(account: Account, instrument: Instrument, settings: RiskSettings) -> wire.LeverageLimits:
    """The caps of an instrument. A broker without a cap of its own allows what is configured."""
    by_account = account_cap(account, settings)
    by_broker = settings.broker_max_leverage.get(account.broker, settings.max_leverage)
    return wire.LeverageLimits(
        symbol=instrument.symbol,
        account_maximum=text(by_account),
        broker_maximum=text(by_broker),
        instrument_maximum=text(instrument.max_leverage),
        maximum=text(min(by_account, by_broker, instrument.max_leverage, instrument.tiers[0].max_leverage)),
        leverage_step=text(LEVERAGE_STEP),
        tiers=[tier_message(tier) for tier in instrument.tiers],
    )


def tier_message(tier: Tier) -> types_pb2.RiskTier:
    return types_pb2.RiskTier(
        notional_from=text(tier.notional_from),
        notional_to=convert.optional_text(tier.notional_to),
        maintenance_rate=text(tier.maintenance_rate),
        max_leverage=text(tier.max_leverage),
        deduction=text(tier.deduction),
    )


# changes


def validated(
    engine: "Engine", account: Account, before: Figures, command: c.SetLeverage, world: World
) -> wire.SetLeverageResponse:
    """The answer to validate_only: decided by the same code, on a copy, and kept nowhere."""
    events = decide(account, command, world)
    after = account
    for event in events:
        after = apply(after, event)
    return wire.SetLeverageResponse(
        **reading(engine.revision(account.account_id), world.at),
        **judged(events),
        setting=setting_message(after, command.symbol, world),
        before=convert.margin_figures(before, world.settings, account.level),
        after=after_setting(after, command, events, world),
    )


def after_setting(
    account: Account, command: c.SetLeverage, events: Sequence[e.Event], world: World
) -> types_pb2.MarginFigures:
    """The account after the leverage was set, as kept with the event; when it was refused, as it would have been."""
    shown = figures_in(events)
    if shown is None:
        shown = figures(summarize(with_leverage_set(account, command, world), world))
    return convert.margin_figures(shown, world.settings, account.level)


def with_leverage_set(account: Account, command: c.SetLeverage, world: World) -> Account:
    """The account as it would be with the leverage, whether the rules allow it or not."""
    instrument = instrument_of(world, command.symbol)
    positions: tuple[Position, ...] = tuple(
        with_leverage(position, instrument, command.leverage)
        for position in account.positions.values()
        if position.symbol == command.symbol
    )
    previous = leverage_of(account, world.settings, command.symbol)
    return apply(account, e.LeverageSet(command.symbol, command.leverage, previous, positions))


def removable(summary: Summary, symbol: str, side: PositionSide) -> Decimal | None:
    """How much of an isolated position's margin could be taken back, in its settlement asset; None where not known.

    What stays must cover the initial margin, an unrealised loss counted in.
    """
    for one in summary.positions:
        position = one.position
        if (position.symbol, position.side) == (symbol, side) and position.margin_mode is MarginMode.ISOLATED:
            return owned(max(ZERO, position.isolated_margin + min(ZERO, one.unrealized_pnl) - one.initial_margin))
    return None
