"""The marks of one venue: pushed where it pushes them, asked for where they stay away, published to the engine."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from debt_mgmt.core.commands import PutInstrument
from debt_mgmt.core.money import text
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.brokers.broker import BrokerFault, NotPossible, Unreachable
from debt_mgmt.server.brokers.live import PriceFeed, VenueMark
from debt_mgmt.server.live.pace import Pace
from debt_mgmt.server.prices.marks import MarkUpdate

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

LAST_PRICE = "last price"
"""What the source of a mark says where the venue publishes no mark price."""


class VenueMarks:
    """Publishes the marks of the instruments that somebody wants: under the house's name, and others if so asked.

    A venue that can't be reached publishes nothing: its marks grow old, which the engine sees by itself.
    """

    def __init__(
        self, engine: "Engine", broker: str, open_feed: Callable[[], Awaitable[PriceFeed]], pace: Pace
    ) -> None:
        self.engine = engine
        self.broker = broker
        self.open_feed = open_feed
        self.pace = pace
        self.wanted: dict[str, frozenset[str]] = {}
        """Who wants which instruments."""
        self.own_names = True
        """Whether marks are published under the venue's own names in the house, such as bybit:BTCUSDT."""
        self.plain_names: dict[str, str] = {}
        """Instrument → plain name that its mark is published under too."""
        self.lent_names: dict[str, str] = {}
        """The same for names that others may publish: lent only while nobody does."""
        self.latest: dict[str, VenueMark] = {}
        """Marks that came and are not published yet."""
        self.heard: dict[str, float] = {}
        """When a mark of each instrument last came, by the loop's clock."""
        self.problem = ""
        """Why prices do not come, in the venue's words; empty while they do."""
        self.came = asyncio.Event()
        self.regroup = asyncio.Event()
        self.opening = asyncio.Lock()
        self.feed: PriceFeed | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.running = False

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset[str]().union(*self.wanted.values())

    def want(self, who: str, symbols: Iterable[str]) -> None:
        """From now on `who` needs these instruments, and no others."""
        before = self.symbols
        self.wanted[who] = frozenset(symbols)
        if self.symbols != before:
            self.regroup.set()
        if not self.running and self.symbols:
            self.running = True
            self.tasks += [
                asyncio.create_task(self.listen(), name=f"marks pushed by {self.broker}"),
                asyncio.create_task(self.ask(), name=f"marks asked of {self.broker}"),
                asyncio.create_task(self.publish(), name=f"marks published for {self.broker}"),
            ]

    def alias(self, plain_names: Mapping[str, str]) -> None:
        """Publish the marks of these instruments under plain names too, once the house has their terms."""
        self.tasks.append(asyncio.create_task(self.furnish(plain_names), name=f"instruments of {self.broker}"))

    async def furnish(self, plain_names: Mapping[str, str]) -> None:
        """Put the venue's instruments into the house, and under their plain names where the house has none of these."""
        wait = self.pace.backoff_seconds_min
        while True:
            try:
                async with asyncio.timeout(self.pace.connect_seconds):
                    found = await (await self.opened()).instruments(sorted(plain_names))
                break
            except NotPossible as fault:
                logger.warning("%s does not tell its instruments: %s", self.broker, fault)
                found = []
                break
            except (BrokerFault, TimeoutError) as fault:
                self.problem = str(fault) or "no answer in time"
                logger.warning("%s does not tell its instruments and is asked again: %s", self.broker, self.problem)
                await asyncio.sleep(wait)
                wait = min(wait * 2, self.pace.backoff_seconds_max)
        house = self.engine.house.instruments
        for instrument in found:
            plain = msgspec.structs.replace(instrument, symbol=plain_names[instrument.symbol])
            terms = [PutInstrument(instrument)] if self.own_names else []
            terms += [PutInstrument(plain, opened=True)] if plain.symbol not in house else []
            for one in terms:
                if house.get(one.instrument.symbol) != one.instrument:
                    await self.engine.submit_house(one, request_id="", actor=SYSTEM)
        self.plain_names.update(plain_names)
        self.want("", [*self.wanted.get("", ()), *plain_names])

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.error("the marks of %s had stopped", self.broker, exc_info=outcome)
        if self.feed is not None:
            await self.feed.close()

    async def opened(self) -> PriceFeed:
        """The one feed, opened when it is first needed."""
        async with self.opening:
            if self.feed is None:
                self.feed = await self.open_feed()
            return self.feed

    async def listen(self) -> None:
        """Take what the venue pushes; begin anew where it breaks off, or where other instruments are wanted."""
        wait = self.pace.backoff_seconds_min
        while True:
            self.regroup.clear()
            symbols = sorted(self.symbols)
            if not symbols:
                await self.regroup.wait()
                continue
            try:
                await self.take_pushed(await self.opened(), symbols)
                wait = self.pace.backoff_seconds_min
            except NotPossible:
                return
            except BrokerFault as fault:
                logger.warning("%s pushes no prices: %s", self.broker, fault)
                await asyncio.sleep(wait)
                wait = min(wait * 2, self.pace.backoff_seconds_max)

    async def take_pushed(self, feed: PriceFeed, symbols: list[str]) -> None:
        """Take marks until the stream breaks off, which raises a BrokerFault, or until other instruments are wanted."""

        async def take_each() -> None:
            async with aclosing(feed.watch(symbols)) as pushed:
                async for mark in pushed:
                    self.take(mark)

        taking = asyncio.create_task(take_each())
        regrouped = asyncio.create_task(self.regroup.wait())
        try:
            await asyncio.wait({taking, regrouped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            regrouped.cancel()
            over = taking.done()
            taking.cancel()
            await asyncio.gather(taking, regrouped, return_exceptions=True)
        if over:
            taking.result()
            raise Unreachable("the stream of prices ended")

    async def ask(self) -> None:
        """Ask for the marks that were not pushed for a while."""
        wait = self.pace.backoff_seconds_min
        while True:
            symbols = self.silent()
            if not symbols:
                await asyncio.sleep(self.pace.mark_poll_seconds / 4)
                continue
            self.problem = await self.take_asked(symbols)
            if not self.problem:
                wait = self.pace.backoff_seconds_min
                continue
            logger.warning("%s gives no prices: %s", self.broker, self.problem)
            await asyncio.sleep(wait)
            wait = min(wait * 2, self.pace.backoff_seconds_max)

    async def take_asked(self, symbols: list[str]) -> str:
        """Ask for marks, one by one where they can't be had together; what went wrong, empty where nothing did."""
        try:
            for mark in await self.asked_for(symbols):
                self.take(mark)
        except BrokerFault as fault:
            if len(symbols) == 1:
                return str(fault)
            problems = [await self.take_asked([symbol]) for symbol in symbols]
            return "; ".join(dict.fromkeys(problem for problem in problems if problem))
        return ""

    def silent(self) -> list[str]:
        """The instruments whose mark did not come for a while."""
        oldest = asyncio.get_running_loop().time() - self.pace.mark_poll_seconds
        return sorted(symbol for symbol in self.symbols if self.heard.get(symbol, float("-inf")) <= oldest)

    async def asked_for(self, symbols: list[str]) -> list[VenueMark]:
        """The marks of these instruments, every one; raises a BrokerFault."""
        seconds = self.pace.call_seconds
        try:
            async with asyncio.timeout(seconds):
                found = await (await self.opened()).marks(symbols)
        except TimeoutError:
            raise Unreachable(f"reading prices: no answer within {seconds:g} s") from None
        if missing := set(symbols) - {mark.symbol for mark in found}:
            raise Unreachable(f"no price came for {', '.join(sorted(missing))}")
        return found

    async def ensure(self, symbols: Iterable[str], by: Iterable[str] = ()) -> None:
        """Publish marks of those instruments that have none, or only an old one, as far as the venue tells them.

        `by`: the instruments whose marks are published under these names.
        """
        oldest = self.engine.clock() - self.engine.risk.pre_trade_max_age
        marks = self.engine.marks
        lacking = sorted(one for one in symbols if one not in marks or marks[one].received_at < oldest)
        if not lacking:
            return
        try:
            found = await self.asked_for(sorted(by) or lacking)
        except BrokerFault as fault:
            logger.warning("%s gives no prices: %s", self.broker, fault)
            return
        for mark in found:
            self.heard[mark.symbol] = asyncio.get_running_loop().time()
        await self.engine.publish(self.updates(found))

    def take(self, mark: VenueMark) -> None:
        self.heard[mark.symbol] = asyncio.get_running_loop().time()
        self.latest[mark.symbol] = mark
        self.came.set()

    async def publish(self) -> None:
        """Publish what came; of several marks of one instrument that wait, the last."""
        while True:
            await self.came.wait()
            self.came.clear()
            marks, self.latest = list(self.latest.values()), {}
            try:
                await self.engine.publish(self.updates(marks))
            except Exception:
                logger.exception("marks of %s could not be published; the next ones follow", self.broker)

    def updates(self, marks: Iterable[VenueMark]) -> list[MarkUpdate]:
        """The marks as they are published. A price of which the venue does not say when it was made is of now."""
        return [
            MarkUpdate(name, text(mark.price), self.source(mark), mark.at)
            for mark in marks
            for name in self.names(mark.symbol)
        ]

    def names(self, symbol: str) -> list[str]:
        names = [symbol] if self.own_names else []
        if symbol in self.plain_names:
            names.append(self.plain_names[symbol])
        elif symbol in self.lent_names and self.is_ours(self.lent_names[symbol]):
            names.append(self.lent_names[symbol])
        return names

    def is_ours(self, name: str) -> bool:
        """Whether nobody else has published a mark under a name lately."""
        mark = self.engine.marks.get(name)
        oldest = self.engine.clock() - self.engine.risk.pre_trade_max_age
        return mark is None or mark.source.partition(" ")[0] == self.broker or mark.received_at < oldest

    def source(self, mark: VenueMark) -> str:
        return self.broker if mark.is_mark_price else f"{self.broker} {LAST_PRICE}"
