"""The same brokers by the exchanges' own addresses and TLS, as nothing in the client is changed but the way there."""

from decimal import Decimal

import aiohttp
import pytest

from debt_mgmt.core.account import Environment
from debt_mgmt.server.brokers.broker import BrokerFill, Rejected, RejectionReason
from debt_mgmt.server.brokers.exchanges import Exchanges, ExchangeSettings
from debt_mgmt.server.brokers.rate_budget import RateBudget
from tests.support.broker_bench import VENUES, Bench, Venue, account_at, key_of
from tests.support.venues.reach import Loopback, contexts

D = Decimal


@pytest.mark.parametrize("about", list(VENUES.values()), ids=lambda one: one.broker)
async def test_an_account_is_read_and_reduced_at_the_venues_own_address(about: Venue) -> None:
    venue = about.simulator()
    venue.book.deposit(about.cash, D(100_000))
    server, client = contexts(venue.hosts)
    await venue.start(tls=server)
    connector = aiohttp.TCPConnector(resolver=Loopback(venue.secure_port), ssl=client)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            settings = {about.broker: ExchangeSettings(enabled=True)}
            exchanges = Exchanges(settings, key_of(venue, about.profile), {"session": session})
            broker = await exchanges.open(account_at(about.broker))
            feed = await exchanges.feed(about.broker, Environment.LIVE)
            for link in (broker.link, feed.link):
                link.budget = RateBudget(1e6, 1e6, 0.4)
                assert "127.0.0.1" not in str(link.client.urls["api"])
            try:
                await broker.connect()
                bench = Bench(about, venue, broker, feed)
                bench.hold(about.size)
                (position,) = (await broker.state()).positions
                assert position.quantity == about.size
                fill = await broker.place(bench.order(about.size))
                assert isinstance(fill, BrokerFill)
                with pytest.raises(Rejected) as refused:
                    await broker.place(bench.order(about.size, client_order_id="liq-1-7-2"))
                assert refused.value.reason is RejectionReason.NOTHING_TO_REDUCE
                (mark,) = await feed.marks([bench.symbol])
                assert mark.price == venue.book.mark(about.linear[1])
            finally:
                await feed.close()
                await broker.close()
    finally:
        await venue.stop()
