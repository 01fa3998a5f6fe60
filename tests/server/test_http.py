"""What is read over HTTP: metrics under the names that dashboards know, and health for people and load balancers."""

import logging
import math
import timeit
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from debt_mgmt.server.http import Health, HttpServer
from debt_mgmt.server.latencies import BOUNDS
from debt_mgmt.server.metrics import Metrics, MetricsSnapshot

QUIET = MetricsSnapshot(
    utilization_max=0.62,
    utilization={"alice": 0.62, "bob": 0.1},
    open_positions=3,
    open_reservations=1,
    accounts=4,
    accounts_by_level={"NORMAL": 4, "WARNING": 0},
    liquidations=2,
    liquidation_steps=5,
    debts={"BTC": 2},
    interest_charges=3,
    funding_settlements=5,
    prices_held=0,
    alerts=7,
    reservations_made=11,
    refused_by_reason={"INSUFFICIENT_MARGIN": 6},
    mark_age_seconds={"BTCUSDT": 1.5},
    marks_accepted=100,
    marks_quarantined=1,
    watchers=2,
    journal_batches=40,
    journal_rows=90,
    journal_append_seconds=0.25,
    journal_ambiguous=0,
    protecting=True,
)
SOUND = Health(serving=True, protecting=True, reasons=[])


class Service:
    """What the HTTP server shows, and how it is reached."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.snapshot = QUIET
        self.health = SOUND
        self.metrics.watch(lambda: self.snapshot)
        self.server = HttpServer("127.0.0.1", 0, self.metrics, lambda: self.health)
        self.port = 0

    @asynccontextmanager
    async def get(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            yield answer

    async def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample that a scrape reads, by name and labels."""
        async with self.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/plain"
            text = await answer.text()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"debt_mgmt_{name}", frozenset(labels.items())


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    service.port = await service.server.start()
    yield service
    await service.server.stop()


async def test_a_scrape_shows_the_engine_as_it_is_at_that_moment(service: Service) -> None:
    samples = await service.samples()
    assert samples[key("margin_utilization", account="alice")] == 0.62
    assert samples[key("margin_utilization_max")] == 0.62
    assert samples[key("open_positions")] == 3
    assert samples[key("liquidations_total")] == 2
    assert samples[key("accounts_by_level", level="NORMAL")] == 4
    assert samples[key("refusals_total", reason="INSUFFICIENT_MARGIN")] == 6
    assert samples[key("mark_age_seconds", symbol="BTCUSDT")] == 1.5
    assert samples[key("journal_append_seconds_total")] == 0.25
    assert samples[key("protecting")] == 1
    service.snapshot = msgspec.structs.replace(
        QUIET, utilization_max=math.inf, utilization={"carol": math.inf}, open_positions=0, protecting=False
    )
    samples = await service.samples()
    assert samples[key("margin_utilization", account="carol")] == math.inf
    assert key("margin_utilization", account="alice") not in samples
    assert samples[key("open_positions")] == 0
    assert samples[key("protecting")] == 0


async def test_calls_are_counted_by_how_long_they_took_and_failures_by_their_code(service: Service) -> None:
    observe = service.metrics.observer("MarginService/CheckOrder")
    for seconds in (0.0004, 0.0005, 0.003, 7.0):
        observe(seconds)
    service.metrics.failed("MarginService/CheckOrder", "NOT_FOUND")
    samples = await service.samples()
    buckets = [
        samples[key("api_latency_seconds_bucket", method="MarginService/CheckOrder", le=str(bound))]
        for bound in (*BOUNDS, "+Inf")
    ]
    assert buckets == [2, 2, 2, *[3] * (len(BOUNDS) - 3), 4]
    assert samples[key("api_latency_seconds_sum", method="MarginService/CheckOrder")] == pytest.approx(7.0039)
    assert samples[key("api_failures_total", method="MarginService/CheckOrder", code="NOT_FOUND")] == 1


async def test_names_and_labels_are_text_to_prometheus_whatever_is_in_them(service: Service) -> None:
    name = 'quoted " and \\ and \n line'
    service.snapshot = msgspec.structs.replace(QUIET, utilization={name: 0.5})
    assert (await service.samples())[key("margin_utilization", account=name)] == 0.5


def test_two_services_in_one_program_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.failed("A/B", "NOT_FOUND")
    one.watch(lambda: QUIET)
    assert b"NOT_FOUND" in one.text()
    assert b"NOT_FOUND" not in other.text()
    assert b"open_positions" not in other.text()


def test_counting_a_call_costs_a_handler_next_to_nothing() -> None:
    observe = Metrics().observer("MarginService/CheckOrder")
    seconds = min(timeit.repeat(lambda: observe(0.0012), number=2_000, repeat=5)) / 2_000
    assert seconds < 20e-6, "about 1 µs on a quiet machine"


@pytest.mark.parametrize("path", ["/health", "/api/debt_mgmt/health"])
async def test_health_tells_serving_from_protecting(service: Service, path: str) -> None:
    async with service.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert await answer.json() == {"serving": True, "protecting": True, "reasons": []}
    service.health = Health(serving=True, protecting=False, reasons=["no fresh price for BTCUSDT"])
    async with service.get(path) as answer:
        assert answer.status == 200, "it answers, and says that it is blind"
        assert await answer.json() == {
            "serving": True,
            "protecting": False,
            "reasons": ["no fresh price for BTCUSDT"],
        }
    service.health = Health(serving=False, protecting=False, reasons=["shard 3 is halted"])
    async with service.get(path) as answer:
        assert answer.status == 503
        assert (await answer.json())["reasons"] == ["shard 3 is halted"]


async def test_a_failure_behind_a_scrape_is_an_error_that_tells_nothing_and_health_still_answers(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> MetricsSnapshot:
        raise RuntimeError("password=hunter2")

    service.metrics.watch(broken)
    with caplog.at_level(logging.CRITICAL, logger="aiohttp.server"):
        async with service.get("/metrics") as answer:
            assert answer.status == 500
            assert "hunter2" not in await answer.text()
    async with service.get("/health") as answer:
        assert answer.status == 200


async def test_other_paths_and_methods_are_refused(service: Service) -> None:
    async with service.get("/") as answer:
        assert answer.status == 404
        error = (await answer.json())["error"]
        assert (error["code"], error["status"]) == (404, "NOT_FOUND")
        assert "/v1/MarginService/CheckOrder" in error["message"], "it says what there is"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{service.port}/health") as answer,
    ):
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert "GET" in (await answer.json())["error"]["message"]


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(service: Service) -> None:
    second = HttpServer("127.0.0.1", service.port, Metrics(), lambda: SOUND)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.stop()
    assert await service.samples()


async def test_stopping_frees_the_port_and_may_be_done_twice() -> None:
    service = Service()
    await service.server.stop()
    port = await service.server.start()
    await service.server.stop()
    await service.server.stop()
    again = HttpServer("127.0.0.1", port, Metrics(), lambda: SOUND)
    assert await again.start() == port
    await again.stop()
