"""`debt-mgmt demo`: one account's story in half a minute, from a first order to a forced reduction."""

import asyncio
import contextlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from debt_mgmt.client import (
    Alert,
    AlertKind,
    AssetAmount,
    Liquidation,
    MarginClient,
    MarginStatus,
    Order,
    PriceShock,
    RiskLevel,
    Simulation,
)
from debt_mgmt.server.cli import demo_words
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.serve import fastest_loop
from debt_mgmt.server.cli.session import Exit, Failed, Json, client_of, finish
from debt_mgmt.server.cli.temporary import temporary_service
from debt_mgmt.server.cli.wording import amount, move
from debt_mgmt.server.config import Settings

ACCOUNT = "demo"
CURRENCY = "USDT"
CAPITAL = Decimal(10_000)
LEVERAGE = Decimal(5)
START = {"BTCUSDT": Decimal(60_000), "ETHUSDT": Decimal(3_000)}
FIRST = Order.buy("BTCUSDT", "0.3")
SECOND = Order.buy("ETHUSDT", 4)
TOO_LARGE = Order.buy("BTCUSDT", "0.5")
SMALL = "0.010"

FALL = tuple(
    Decimal(tenths) / 1000
    for tenths in (-14, -31, -26, -45, -58, -67, -63, -79, -92, -88, -101, -112, -118, -109, -125, -137, -144)
)
"""Where prices stand after each step, against the start. With so much held, the levels are entered at about −7, −11 and
−14 %."""

FALL_ON = tuple(Decimal(-144 - 7 * step) / 1000 for step in range(1, 31))
"""How the fall goes on after the reduction."""

AFTERWARDS = (AlertKind.LEVEL_LOWERED, AlertKind.LIQUIDATION_FINISHED)
"""Alerts of the step that reduces positions, told once the reduction is."""

TICKS = {"BTCUSDT": Decimal("0.1"), "ETHUSDT": Decimal("0.01")}
PAUSE_SECONDS = 1.3
STEP_SECONDS = 0.45


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Without pauses for reading.")] = False,
    as_json: Json = False,
) -> None:
    """Tell one account's story, on a service of its own: an order fits, a larger one is refused, prices fall, positions
    are reduced by force, and what doing nothing would have given. Leaves nothing behind.
    """
    output = Output(as_json)

    async def work() -> Exit | None:
        async with contextlib.AsyncExitStack() as closing:
            with output.err.status("starting a service for the demo …"):
                target = await closing.enter_async_context(temporary_service(Settings()))
            client = await closing.enter_async_context(client_of(target))
            await Story(client, output, fast=fast or as_json).tell()
        return None

    finish(output, "the demo's own service", work(), loop=fastest_loop())


class Story:
    """The acts of the demo, and the facts that they leave for --json."""

    def __init__(self, client: MarginClient, output: Output, *, fast: bool) -> None:
        self.client = client
        self.output = output
        self.fast = fast
        self.facts: dict[str, Any] = {"account_id": ACCOUNT}
        self.prices = dict(START)
        self.seen: set[str] = set()
        self.chapters = 0

    async def tell(self) -> None:
        await self.open_account()
        await self.fitting_order()
        await self.refused_order()
        await self.distances()
        before, idle = await self.fall()
        await self.safe_again(before)
        await self.why()
        await self.doing_nothing(idle)
        self.output.document(**self.facts)

    # telling

    async def chapter(self, title: str, *words: str) -> None:
        self.chapters += 1
        if self.chapters > 1:
            await self.pause()
        self.output.show("", Rule(Text(f"{self.chapters}  {title} ", "bold"), align="left", style="dim"))
        for sentence in words:
            self.output.show(Text(sentence, "italic"))

    def show(self, *parts: RenderableType) -> None:
        for part in parts:
            self.output.show(Padding(part, (0, 0, 0, 2), expand=False))

    async def pause(self, seconds: float = PAUSE_SECONDS) -> None:
        """Time to read; prices are given again, so that they are fresh for what follows."""
        if not self.fast:
            await asyncio.sleep(seconds)
        await self.publish()

    # the market

    async def publish(self) -> None:
        published = await self.client.publish_marks(self.prices, settle=True)
        if published.quarantined_count:
            raise Failed(f"a price was held back: {published.quarantined[0].message}", Exit.FAULT)

    async def move_to(self, shift: Decimal) -> MarginStatus:
        """Prices at `shift` against the start, ETH a little more than BTC; all that follows is decided."""
        self.prices = {symbol: (start * (1 + shift)).quantize(TICKS[symbol]) for symbol, start in START.items()}
        await self.publish()
        return await self.client.margin_status(ACCOUNT)

    async def news(self) -> list[Alert]:
        """Alerts not told yet, oldest first."""
        fresh = [alert async for alert in self.client.alerts(ACCOUNT, limit=50) if alert.alert_id not in self.seen]
        self.seen |= {alert.alert_id for alert in fresh}
        return fresh[::-1]

    # the acts

    async def open_account(self) -> None:
        await self.chapter(
            "An account",
            "A sandbox account with 10,000 USDT of paper capital, and five times leverage on what it trades.",
        )
        await self.publish()
        await self.client.create_account(ACCOUNT, currency=CURRENCY, initial_deposit=AssetAmount(CURRENCY, CAPITAL))
        for symbol in START:
            (await self.client.set_leverage(ACCOUNT, symbol, LEVERAGE)).raise_if_refused()
        status = await self.client.margin_status(ACCOUNT)
        self.facts["opened"] = status
        self.show(demo_words.state_line(status, self.prices, START))

    async def fitting_order(self) -> None:
        await self.chapter("An order that fits", "Ask before you send: check, hold the margin, then book the fill.")
        check = await self.client.check_order(ACCOUNT, FIRST)
        self.facts["fits"] = {"order": FIRST, "check": check}
        self.show(demo_words.check_line(FIRST, check, CURRENCY))
        held = await self.client.reserve(ACCOUNT, FIRST)
        self.show(demo_words.said("held", f"margin available {amount(held.margin_available)} while the order is out"))
        await self.fill(FIRST, held.reservation_id)
        held = await self.client.reserve(ACCOUNT, SECOND)
        held.raise_if_refused()
        await self.fill(SECOND, held.reservation_id)
        status = await self.client.margin_status(ACCOUNT)
        self.facts["filled"] = status
        self.show(demo_words.state_line(status, self.prices, START))

    async def fill(self, order: Order, reservation_id: str) -> None:
        """The market fills an order at the mark."""
        price = self.prices[order.symbol]
        outcome = await self.client.record_fill(
            ACCOUNT,
            order.symbol,
            order.side,
            order.quantity,
            price,
            fill_id=f"fill-{order.symbol}",
            reservation_id=reservation_id,
        )
        outcome.raise_if_refused()
        self.show(demo_words.fill_line(order, price))

    async def refused_order(self) -> None:
        await self.chapter(
            "A larger one does not", "A refusal is an answer: every reason, and the largest that would fit."
        )
        check = await self.client.check_order(ACCOUNT, TOO_LARGE)
        if check.fits or not check.largest_buy:
            raise Failed("the order that should not fit does", Exit.FAULT)
        self.show(demo_words.check_line(TOO_LARGE, check, CURRENCY), demo_words.refusal(check))
        largest = Order.buy(TOO_LARGE.symbol, check.largest_buy)
        again = await self.client.check_order(ACCOUNT, largest)
        self.facts["refused"] = {"order": TOO_LARGE, "check": check}
        self.facts["largest"] = {"order": largest, "check": again}
        self.show(demo_words.check_line(largest, again, CURRENCY, "the largest, "))

    async def distances(self) -> None:
        await self.chapter(
            "How far is the edge?", "Before anything moves, the service says how far all prices may fall."
        )
        status = await self.client.margin_status(ACCOUNT)
        self.facts["distances"] = status.shocks
        self.show(demo_words.distances(status))

    async def fall(self) -> tuple[MarginStatus, Simulation]:
        """Prices fall until positions were reduced. Returns the account just before, and what it would be at the very
        bottom with nobody acting."""
        await self.chapter("Prices fall", "Step by step. Watch the bar pass 70, 80 and 90 %.")
        steps: list[dict[str, Any]] = []
        before = await self.client.margin_status(ACCOUNT)
        bottom = [
            PriceShock(price=(start * (1 + FALL_ON[-1])).quantize(TICKS[symbol]), symbol=symbol)
            for symbol, start in START.items()
        ]
        idle = await self.client.simulate(ACCOUNT, bottom)
        for shift in FALL:
            status = await self.move_to(shift)
            plans = [plan async for plan in self.client.liquidations(ACCOUNT)]
            alerts = await self.news()
            shown = demo_words.moment_of_reduction(before, alerts) if plans else status
            self.show(demo_words.step_line(shift, self.prices, shown, bool(plans)))
            self.show(*(demo_words.alert_line(alert) for alert in alerts if alert.kind not in AFTERWARDS))
            steps.append({"fraction": shift, "prices": self.prices, "status": status, "alerts": alerts})
            if plans:
                self.facts["fall"] = steps
                self.facts["reduction"] = plans[0]
                await self.reduction(plans[0], [alert for alert in alerts if alert.kind in AFTERWARDS])
                return before, idle
            if any(alert.level is RiskLevel.CRITICAL and alert.kind is AlertKind.LEVEL_RAISED for alert in alerts):
                await self.only_exits()
            before = status
            idle = await self.client.simulate(ACCOUNT, bottom)
            if not self.fast:
                await asyncio.sleep(STEP_SECONDS)
        raise Failed("prices fell and nothing was reduced", Exit.FAULT)

    async def only_exits(self) -> None:
        """From CRITICAL on no new risk, and never a closed exit."""
        more = Order.buy("BTCUSDT", SMALL)
        less = Order.sell("BTCUSDT", SMALL)
        refused, fits = await asyncio.gather(
            self.client.check_order(ACCOUNT, more), self.client.check_order(ACCOUNT, less)
        )
        self.facts["critical"] = {"adding": refused, "reducing": fits}
        self.show(demo_words.exits_line(more, refused, less, fits))

    async def reduction(self, plan: Liquidation, alerts: Sequence[Alert]) -> None:
        await self.chapter(
            "Positions are reduced by force",
            "At 90 % the smallest set of reduce-only orders that returns to 70 %: planned, journaled, then sent.",
        )
        self.show(demo_words.reduction(plan), *(demo_words.alert_line(alert) for alert in alerts))

    async def safe_again(self, before: MarginStatus) -> None:
        await self.chapter("Safe again", "The account before the last step of the fall, and now.")
        status = await self.client.margin_status(ACCOUNT)
        self.facts["safe"] = status
        self.show(demo_words.compared(before, status, ("before", "now")))

    async def why(self) -> None:
        await self.chapter(
            "Why it happened", "Nothing above is a log line: it is the journal, durable before anyone heard of it."
        )
        listed = [event async for event in self.client.audit_events(ACCOUNT, kinds=demo_words.TELLING)]
        events = [event for event in listed if demo_words.tells(event)]
        self.facts["events"] = [
            {"revision": event.revision, "time": event.time, "kind": event.kind, "payload": event.fields()}
            for event in events
        ]
        self.show(demo_words.events(events))

    async def doing_nothing(self, idle: Simulation) -> None:
        await self.chapter(
            "And if nobody had acted?",
            f"The fall goes on to {move(FALL_ON[-1])}. Beside the account: what it was before the reduction, then.",
        )
        status = await self.client.margin_status(ACCOUNT)
        for number, shift in enumerate(FALL_ON):
            status = await self.move_to(shift)
            if not self.fast:
                await asyncio.sleep(STEP_SECONDS / 6)
            if number % 6 == 5:
                self.show(demo_words.step_line(shift, self.prices, status, False))
        plans = [plan async for plan in self.client.liquidations(ACCOUNT)]
        self.facts["bottom"] = {"protected": status, "idle": idle, "reductions": len(plans)}
        self.show(demo_words.ending(FALL_ON[-1], idle, status, len(plans)))
