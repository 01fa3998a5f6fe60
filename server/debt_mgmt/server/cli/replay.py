"""`debt-mgmt replay`: plays a recorded market and tells, by the tape's clock, what happened to an account."""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from debt_mgmt.client import (
    AssetAmount,
    Instrument,
    MarginClient,
    MarkClock,
    MarksPublished,
    MarkUpdate,
    RiskTier,
    Unavailable,
)
from debt_mgmt.server.cli import typed
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.replay_report import Recorder, Replayed, report
from debt_mgmt.server.cli.serve import fastest_loop, settings_or_exit
from debt_mgmt.server.cli.session import NEAR, Exit, Failed, Json, Target, client_of, finish, time_of, unreachable
from debt_mgmt.server.cli.temporary import temporary_service
from debt_mgmt.server.cli.typed import Holding
from debt_mgmt.server.cli.wording import listed, moment
from debt_mgmt.server.config import Settings
from debt_mgmt.server.prices.tape import Instant, TapeError, paced, read_tape

HOLDINGS = (Holding("BTCUSD", Decimal("1.946")), Holding("ETHUSD", Decimal("59.47")))
"""What is opened where nothing else is said, and when."""
CAPITAL = Decimal(10_000)
LEVERAGE = Decimal(5)
OPENED_AT = datetime(2017, 9, 4, tzinfo=UTC)

REPEAT_SECONDS = 5.0
"""At slow speeds the last prices are given again this often, so that they do not count as old between two instants."""


MAX = float("inf")


class Plan(msgspec.Struct, frozen=True):
    """What is played, and what is held while it is."""

    tape: Path
    account_id: str
    currency: str
    capital: Decimal
    leverage: Decimal
    holdings: tuple[Holding, ...]
    opened_at: datetime | None
    start: datetime | None
    end: datetime | None
    pace: float | None
    """Seconds of the tape in one second. None: as fast as the service decides."""
    defines_instruments: bool


def pace_of(text: str) -> float:
    """`max`, or how many times faster than the market was."""
    if text == "max":
        return MAX
    try:
        pace = float(text)
    except ValueError:
        pace = 0.0
    if not pace > 0:
        raise typer.BadParameter(f"{text!r} is no speed: write max, or how many times faster than the market was: 60")
    return pace


def replay(
    tape: Annotated[Path, typer.Argument(help="CSV of timestamp_ms, symbol, …, close; plain or .gz.")],
    speed: Annotated[
        float | None,
        typer.Option(parser=pace_of, metavar="SPEED", help="max (default), or so many times the market's own speed."),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--from", parser=time_of, metavar="TIME", help="Play from here; else from --open-at."),
    ] = None,
    end: Annotated[datetime | None, typer.Option("--to", parser=time_of, metavar="TIME", help="Up to here.")] = None,
    account: Annotated[str | None, typer.Option(help="Id of the account that is made; else one of its own.")] = None,
    currency: Annotated[str, typer.Option(help="Currency of its capital.")] = "USD",
    capital: Annotated[
        Decimal | None, typer.Option(parser=typed.number_of, metavar="AMOUNT", help="Its capital; 10000 unless given.")
    ] = None,
    leverage: Annotated[
        Decimal | None, typer.Option(parser=typed.number_of, metavar="TIMES", help="Its leverage; 5 unless given.")
    ] = None,
    opened: Annotated[
        list[Holding] | None,
        typer.Option(
            "--open",
            parser=typed.holding_of,
            metavar="SYMBOL:QUANTITY",
            help="A position to open, negative for short; repeatable. Else BTCUSD:1.946 and ETHUSD:59.47.",
        ),
    ] = None,
    opened_at: Annotated[
        datetime | None, typer.Option("--open-at", parser=time_of, metavar="TIME", help="Open at this bar's close.")
    ] = None,
    spawn: Annotated[
        bool | None,
        typer.Option(
            "--spawn/--no-spawn",
            help="Play to a service of its own, gone afterwards. Default: where none is reachable.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings of that service, as for serve.")] = None,
    fee_rate: Annotated[
        Decimal | None, typer.Option(parser=typed.number_of, metavar="RATE", help="Its fee for forced reductions.")
    ] = None,
    slippage: Annotated[
        Decimal | None, typer.Option(parser=typed.number_of, metavar="RATE", help="Its slippage for them.")
    ] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Play a recorded market to the service, with an account that holds positions in it.

    Tells each alert and forced reduction by the tape's own time. Last prices are taken as mark prices; the
    positions are opened without a fee.
    """
    output = Output(as_json)
    own_only = config is not None or fee_rate is not None or slippage is not None
    if own_only and spawn is False:
        raise typer.BadParameter("--config, --fee-rate and --slippage are for a service of its own: drop --no-spawn")
    settings = settings_or_exit(output, config, {})

    def planned(alone: bool) -> Plan:
        return Plan(
            tape=tape,
            account_id=account or f"replay-{uuid.uuid4().hex[:8]}",
            currency=currency,
            capital=CAPITAL if capital is None else capital,
            leverage=LEVERAGE if leverage is None else leverage,
            holdings=tuple(opened or HOLDINGS),
            opened_at=opened_at or (OPENED_AT if not opened else None),
            start=start,
            end=end,
            pace=None if speed in (None, MAX) else speed,
            defines_instruments=alone,
        )

    async def work() -> Exit | None:
        film = load(planned(False))
        async with service_for(output, target, spawn or own_only or None, settings, fee_rate, slippage) as (
            place,
            alone,
        ):
            plan = planned(alone)
            async with client_of(place) as client:
                replayed = await played(client, output, plan, film)
        output.document(**replayed.members())
        output.show(report(replayed))
        if not alone:
            output.show(f"The account stays there: debt-mgmt status {plan.account_id}")
        return None

    finish(output, target, work(), loop=fastest_loop())


@contextlib.asynccontextmanager
async def service_for(
    output: Output,
    target: str,
    spawn: bool | None,
    settings: Settings,
    fee_rate: Decimal | None,
    slippage: Decimal | None,
) -> AsyncIterator[tuple[str, bool]]:
    """Where to play: the running service, or one of our own; and whether it is our own."""
    if not (spawn if spawn is not None else not await answers(target)):
        yield target, False
        return
    async with contextlib.AsyncExitStack() as closing:
        with output.err.status("starting a service for this replay …"):
            place = await closing.enter_async_context(
                temporary_service(settings, fee_rate=fee_rate, slippage_rate=slippage)
            )
        yield place, True


async def answers(target: str) -> bool:
    """Whether a service answers there."""
    async with client_of(target) as client:
        try:
            await client.marks()
        except Unavailable as error:
            if unreachable(error):
                return False
            raise
        return True


def load(plan: Plan) -> list[Instant]:
    """The tape's instants, in order of time, no earlier than needed to know every price when the playing begins."""
    try:
        film = list(read_tape(plan.tape))
    except TapeError as error:
        raise Failed(f"the tape can't be played: {error}") from None
    on_tape = {symbol for instant in film for symbol, _ in instant.prices}
    if unknown := [one.symbol for one in plan.holdings if one.symbol not in on_tape]:
        raise Failed(
            f"{plan.tape} has no prices of {listed(unknown)}, only of {listed(sorted(on_tape))}: "
            "say what to hold with --open SYMBOL:QUANTITY"
        )
    return film


def opening_of(plan: Plan, film: Sequence[Instant]) -> int:
    """Which instant the positions are opened at: the one asked for, else the first that knows all their prices."""
    needed = {one.symbol for one in plan.holdings}
    known: set[str] = set()
    for number, instant in enumerate(film):
        known |= {symbol for symbol, _ in instant.prices}
        if needed <= known and (plan.opened_at is None or instant.time >= plan.opened_at):
            return number
    when = "" if plan.opened_at is None else f" at or after {moment(plan.opened_at)} UTC"
    raise Failed(
        f"{plan.tape} has no instant{when} with prices of {listed(sorted(needed))}; "
        f"it goes from {moment(film[0].time)} to {moment(film[-1].time)} UTC: see --open-at"
    )


class Scene(msgspec.Struct, frozen=True):
    """Which instants of the film are played, and at which one the positions are opened."""

    first: int
    opening: int
    last: int
    """One after the last."""


def scene_of(plan: Plan, film: Sequence[Instant]) -> Scene:
    opening = opening_of(plan, film)
    end = len(film)
    first = opening
    if plan.start is not None:
        first = min(opening, next((n for n, one in enumerate(film) if one.time >= plan.start), end))
    last = end
    if plan.end is not None:
        last = next((n for n, one in enumerate(film) if one.time > plan.end), end)
    if last <= opening:
        raise Failed(f"the playing ends before the positions are opened, at {moment(film[opening].time)} UTC")
    return Scene(first, opening, last)


async def played(client: MarginClient, output: Output, plan: Plan, film: Sequence[Instant]) -> Replayed:
    """Play the film: open the account, publish every instant, and record what follows."""
    scene = scene_of(plan, film)
    symbols = await playable(client, output, plan, film)
    await open_account(client, plan)
    recorder = Recorder(plan.account_id, str(plan.tape), plan.currency)
    prices = {symbol: price for instant in film[: scene.first] for symbol, price in instant.prices}
    now = film[scene.first].time

    async def waiting(seconds: float) -> None:
        """Sleep, giving the last prices again now and then."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > REPEAT_SECONDS:
            await asyncio.sleep(REPEAT_SECONDS)
            await publish(client, prices, symbols, now)
        await asyncio.sleep(max(left, 0))

    began = time.monotonic()
    with progress_on(output) as progress:
        task = progress.add_task("", total=scene.last - scene.first, at="")
        number = scene.first
        async for instant in paced(film[scene.first : scene.last], plan.pace, sleep=waiting):
            now = instant.time
            prices.update(instant.prices)
            fresh = prices if number == scene.first else dict(instant.prices)
            published = await publish(client, fresh, symbols, now)
            if number == scene.first and published.quarantined_count:
                published = await publish(client, fresh, symbols, now)
            recorder.count(published)
            if number == scene.opening:
                await open_positions(client, plan, prices)
                recorder.opened(now, plan.holdings, prices)
            if number >= scene.opening:
                lines = await recorder.look(client, now, prices)
                if plan.pace is not None:
                    tell(output, progress, lines)
            number += 1
            progress.update(task, advance=1, at=f"{moment(now)[:16]} UTC")
    recorder.seconds = time.monotonic() - began
    return await recorder.finished(client)


async def open_account(client: MarginClient, plan: Plan) -> None:
    """A sandbox account with the plan's capital and leverage."""
    capital = AssetAmount(plan.currency, plan.capital)
    await client.create_account(plan.account_id, currency=plan.currency, initial_deposit=capital)
    for holding in plan.holdings:
        outcome = await client.set_leverage(plan.account_id, holding.symbol, plan.leverage)
        outcome.raise_if_refused()


def progress_on(output: Output) -> Progress:
    return Progress(
        TextColumn("{task.fields[at]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("instants"),
        TimeRemainingColumn(),
        console=output.err,
        transient=True,
        disable=not output.err.is_terminal,
    )


def tell(output: Output, progress: Progress, lines: list[Text]) -> None:
    """Show what happened while the playing goes on, above the progress bar where there is one."""
    if progress.disable or not output.out.is_terminal:
        output.show(*lines)
    elif not output.as_json:
        for line in lines:
            progress.console.print(line)


async def playable(client: MarginClient, output: Output, plan: Plan, film: Sequence[Instant]) -> set[str]:
    """The tape's symbols that the service knows. A service of our own learns the ones that are held."""
    on_tape = {symbol for instant in film for symbol, _ in instant.prices}
    known = {one.symbol for one in await client.instruments(symbols=sorted(on_tape))}
    missing = [one.symbol for one in plan.holdings if one.symbol not in known]
    if missing and not plan.defines_instruments:
        raise Failed(f"the service knows no instrument {listed(missing)}: define it there, or use --spawn")
    for symbol in missing:
        await client.put_instrument(instrument_like(symbol, plan.currency))
        known.add(symbol)
    if others := sorted(on_tape - known):
        output.say(f"not played, being no instruments there: {listed(others)}", "yellow")
    return known


def instrument_like(symbol: str, currency: str) -> Instrument:
    """A plain linear instrument for a symbol of the tape."""
    return Instrument(
        symbol,
        base_asset=symbol.removesuffix(currency).rstrip("-/_:") or symbol,
        quote_asset=currency,
        settle_asset=currency,
        lot="0.0001",
        tick="0.0001",
        min_quantity="0.0001",
        taker_fee_rate="0.0005",
        maker_fee_rate="0.0002",
        max_leverage=100,
        tiers=[RiskTier(0, None, "0.005", 100)],
    )


async def publish(
    client: MarginClient, prices: Mapping[str, Decimal], symbols: set[str], at: datetime
) -> MarksPublished:
    """Give prices and wait until all that they cause is decided and done."""
    marks = [
        MarkUpdate(symbol, price, source="tape", source_time=at)
        for symbol, price in prices.items()
        if symbol in symbols
    ]
    return await client.publish_marks(marks, clock=MarkClock.TAPE, settle=True)


async def open_positions(client: MarginClient, plan: Plan, prices: Mapping[str, Decimal]) -> None:
    """Book the positions at the prices of this instant, without a fee."""
    for number, holding in zip(itertools.count(1), plan.holdings, strict=False):
        outcome = await client.record_fill(
            plan.account_id,
            holding.symbol,
            holding.side,
            abs(holding.quantity),
            prices[holding.symbol],
            fill_id=f"opening-{number}",
            fee=0,
        )
        outcome.raise_if_refused()
