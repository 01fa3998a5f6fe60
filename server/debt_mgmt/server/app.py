"""The composition root: builds the service from its settings, starts it in order, and stops it in the opposite one."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import grpc
import msgspec
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from debt_mgmt.core.account import Account, Environment, Limits
from debt_mgmt.core.commands import PutInstrument, SetAssetRule, SetBorrowRate, SetResetSchedule
from debt_mgmt.core.defaults import default_asset_rules, default_instruments
from debt_mgmt.core.resets import ResetInterval, ResetSchedule
from debt_mgmt.core.settings import FourEyes, NewInstruments, RiskSettings
from debt_mgmt.core.venue_rules import RULE_SETS, RuleSet, rule_set, under
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.backup import check_whole
from debt_mgmt.server.brokers.broker import Broker
from debt_mgmt.server.brokers.paper import PaperBroker
from debt_mgmt.server.config import Settings, Weekday, tiered_rule
from debt_mgmt.server.configuration_record import recorded
from debt_mgmt.server.configuration_watch import ConfigurationWatch
from debt_mgmt.server.demo import DemoMarket
from debt_mgmt.server.engine import Engine, utc_now
from debt_mgmt.server.history import FundHistory
from debt_mgmt.server.history_store import PostgresHistory
from debt_mgmt.server.http import Health, HttpServer
from debt_mgmt.server.journal.journal import Journal, JournalUnavailable
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.live.accounts import LiveAccounts
from debt_mgmt.server.live.pace import Pace
from debt_mgmt.server.live.venues import Venues
from debt_mgmt.server.live.venues_configured import ConfiguredVenues
from debt_mgmt.server.metrics import Metrics
from debt_mgmt.server.notify.notifier import Notifier
from debt_mgmt.server.postgres import EmbeddedPostgres
from debt_mgmt.server.postgres_binaries import directory_for
from debt_mgmt.server.prices.collateral_guard import CollateralGuard
from debt_mgmt.server.prices.marks import MarkGuard
from debt_mgmt.server.priority import collect_seldom, let_the_loop_go_first
from debt_mgmt.server.reductions import Reductions
from debt_mgmt.server.reflection import add_reflection
from debt_mgmt.server.retaining import Retaining
from debt_mgmt.server.rpc import access, account, audit, debt, fund, leverage, margin, market, risk
from debt_mgmt.server.rpc.as_of import with_past
from debt_mgmt.server.rpc.guard import Guard
from debt_mgmt.server.security.entrance import Entrance
from debt_mgmt.server.security.first_token import make_first_token
from debt_mgmt.server.sign_ins import SignIns
from debt_mgmt.server.tracing import tracing_of
from debt_mgmt.server.watch import WatchHub
from debt_mgmt.server.web.board import Board
from debt_mgmt.server.web.gateway import Gateway
from debt_mgmt.server.web.short_paths import ShortPaths
from debt_mgmt.v1 import (
    access_service_pb2,
    account_service_pb2,
    audit_service_pb2,
    debt_service_pb2,
    fund_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    risk_service_pb2,
)

logger = logging.getLogger(__name__)

PROTECTING = "debt_mgmt.protecting"
"""Health of the protection itself, beside serving: NOT_SERVING while some account can't be protected."""

PROTECTION_LOOK_SECONDS = 1.0
OWN_DATABASE_SECONDS = 20.0
FOLLOWERS_SECONDS = 0.2
"""Once no call runs any more, only who follows the health or the reflection is still there, and would be for ever."""

METADATA_BYTES_MOST = 16_384
"""Headers of one call; a longer token is refused before anything looks at it."""
STREAMS_MAX = 20_000
PENDING_MAX = 100_000
"""A reconnect storm opens thousands of calls at once; the library's own limits of 1000 and 3000 would cancel them."""


class RunningService:
    """A started service; `stop` ends it in order."""

    def __init__(
        self,
        engine: Engine,
        port: int,
        metrics_port: int,
        closers: "contextlib.AsyncExitStack",
        entrance: Entrance,
        admin_token_file: Path | None = None,
    ) -> None:
        self.engine = engine
        self.port = port
        self.metrics_port = metrics_port
        self.closers = closers
        self.entrance = entrance
        self.admin_token_file = admin_token_file
        """Where the administrator's token is that this start has made; None where it made none."""

    async def stop(self) -> None:
        await self.closers.aclose()


async def start(
    settings: Settings,
    *,
    journal: Journal | None = None,
    clock: Callable[[], datetime] | None = None,
    demo: bool = False,
    venues: Venues | None = None,
    pace: Pace = Pace(),  # noqa: B008
    configuration: ConfigurationWatch | None = None,
) -> RunningService:
    """Start the service: journal, engine, gRPC, HTTP; with `demo`, an account on a simulated market too.

    A `journal` given is used and not closed, `venues` take the place of the configured exchanges. Whatever was started
    is stopped again if a later part fails. `configuration` is the file that the settings are from.
    """
    configuration = configuration or ConfigurationWatch(None, {})
    closers = contextlib.AsyncExitStack()
    try:
        return await started(settings, journal, clock or utc_now, demo, venues, pace, closers, configuration)
    except BaseException:
        await closers.aclose()
        raise


async def started(
    settings: Settings,
    journal: Journal | None,
    clock: Callable[[], datetime],
    demo: bool,
    venues: Venues | None,
    pace: Pace,
    closers: contextlib.AsyncExitStack,
    configuration: ConfigurationWatch,
) -> RunningService:
    history: FundHistory | None = None
    if journal is None:
        journal, history = await open_journal(settings, closers)
    risk_settings = risk_rules(settings)
    metrics = Metrics()
    paper: PaperBroker
    venues = venues or ConfiguredVenues(settings.brokers)
    say_what_can_not_be_reached(settings, venues)
    live = LiveAccounts(venues, pace)
    reductions = Reductions(lambda account: broker_of(account, paper, live))
    engine = Engine(
        journal,
        risk_settings,
        clock=clock,
        guard=MarkGuard(settings.prices.deviation_guard, timedelta(seconds=settings.prices.mark_max_age_seconds)),
        collateral=CollateralGuard(
            settings.prices.collateral_guard, timedelta(seconds=settings.prices.collateral_hold_seconds)
        ),
        reductions=reductions,
        hub=WatchHub(),
        shards=settings.database.shards,
        snapshot_events=settings.database.snapshot_every,
        history=history,
        live=live,
        configuration=recorded(settings),
        four_eyes_wait=timedelta(seconds=settings.risk.four_eyes_wait_seconds),
    )
    paper = PaperBroker(
        lambda: engine.house,
        engine.marks,
        slippage_rate=settings.sandbox.slippage_rate,
        fee_rate=settings.sandbox.taker_fee_rate,
    )
    entrance = Entrance(settings, engine)
    tracing = tracing_of(settings.server.traces)
    if tracing is not None:
        closers.push_async_callback(tracing.stop)
    guard = Guard(metrics, settings.server.default_deadline_seconds, entrance.authentication, entrance.quotas, tracing)
    closers.push_async_callback(engine.stop)
    await engine.start()
    await furnish(engine, settings)
    for broker, symbols in settings.prices.feeds.items():
        live.price_by(broker, symbols.split(","), own_names=not getattr(settings.brokers, broker).testnet)
    engine.second_person.say()
    metrics.watch(engine.metrics_snapshot)
    notifier = Notifier(settings.notify, engine.journal, engine.heads, engine.clock, os.environ)
    metrics.registry.register(notifier)
    closers.push_async_callback(notifier.stop)
    await notifier.start()
    engine.hub.on_alert = notifier.alerted
    gateway = Gateway(guard, settings.server.host, settings.server.max_message_bytes)
    http = HttpServer(
        settings.server.host,
        settings.server.metrics_port,
        metrics,
        lambda: notifier.seen(warned(engine.health(), [*entrance.problems(), *configuration.warnings()])),
        [*gateway.routes(), *ShortPaths(gateway, engine).routes(), *Board().routes()],
        entrance.certificates.of_http() if entrance.certificates is not None else None,
        gateway.keep_out,
    )
    closers.push_async_callback(http.stop)
    admin_token_file = await open_to_somebody(settings, engine)
    database = settings.database
    retaining = Retaining(engine, timedelta(days=database.retention_days), database.archive_directory)
    closers.push_async_callback(retaining.stop)
    retaining.start()
    sign_ins = SignIns(engine)
    metrics.watch_entrance(lambda: entrance.figures(sign_ins.total, len(configuration.problems())))
    if entrance.authentication is not None:
        entrance.authentication.on_failure = sign_ins.failed
        closers.push_async_callback(sign_ins.finish)
        sign_ins.start()
    port = await serve(settings, engine, guard, entrance, closers)
    metrics_port = await http.start()
    if demo:
        market_of_demo = DemoMarket(engine)
        closers.push_async_callback(market_of_demo.stop)
        await market_of_demo.start()
    return RunningService(engine, port, metrics_port, closers, entrance, admin_token_file)


def warned(health: Health, warnings: list[str]) -> Health:
    return msgspec.structs.replace(health, warnings=[*health.warnings, *warnings])


async def open_journal(settings: Settings, closers: contextlib.AsyncExitStack) -> tuple[Journal, FundHistory]:
    """The journal and the history behind it, in the configured PostgreSQL or one of our own in the data directory."""
    database = settings.database
    dsn = database.connection()
    if dsn is None:
        embedded = EmbeddedPostgres(directory_for(database.data_directory), bin_directory=database.bin_directory)
        closers.push_async_callback(embedded.stop)
        await embedded.start()
        journal = await opened_at_last(embedded.dsn, database.schema)
        dsn = embedded.dsn
    else:
        journal = await PostgresJournal.open(dsn, schema=database.schema)
    closers.push_async_callback(journal.close)
    await check_whole(journal)
    store = await PostgresHistory.open(dsn, schema=database.schema)
    closers.push_async_callback(store.close)
    return journal, FundHistory(store)


async def opened_at_last(dsn: str, schema: str) -> PostgresJournal:
    """The journal in a PostgreSQL of our own. One that an earlier service left behind may be ending just now, and is
    followed by ours."""
    until = time.monotonic() + OWN_DATABASE_SECONDS
    while True:
        try:
            return await PostgresJournal.open(dsn, schema=schema)
        except JournalUnavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)


def broker_of(account: Account, paper: PaperBroker, live: LiveAccounts) -> Broker:
    """Who carries orders out for an account."""
    return paper if account.environment is Environment.SANDBOX else live.broker_of(account)


def say_what_can_not_be_reached(settings: Settings, venues: Venues) -> None:
    """An exchange that is enabled and yet not usable must not be mistaken for one that is."""
    brokers = settings.brokers
    for name in brokers.__struct_fields__:
        broker = getattr(brokers, name)
        environment = Environment.TESTNET if broker.testnet else Environment.LIVE
        if broker.enabled and (problem := venues.problem(name, environment)):
            logger.warning("brokers.%s is enabled, but no account can be opened there: %s", name, problem)


def risk_rules(settings: Settings) -> RiskSettings:
    """The rules that the engine decides by, from the settings."""
    risk, brokers, sandbox, prices = settings.risk, settings.brokers, settings.sandbox, settings.prices
    named = {name: getattr(brokers, name) for name in brokers.__struct_fields__}
    return RiskSettings(
        default_leverage=risk.default_leverage,
        max_leverage=risk.max_leverage,
        margin_call_threshold=risk.margin_call_threshold,
        liquidation_threshold=risk.liquidation_threshold,
        forced_liquidation_threshold=risk.forced_liquidation_threshold,
        liquidation_target=risk.liquidation_target,
        hysteresis=risk.hysteresis,
        margin_buffer=risk.margin_buffer,
        pre_trade_max_age=timedelta(seconds=prices.pre_trade_max_age_seconds),
        mark_max_age=timedelta(seconds=prices.mark_max_age_seconds),
        reservation_time_to_live=timedelta(seconds=risk.reservation_time_to_live_seconds),
        live_state_max_age=timedelta(seconds=risk.live_state_max_age_seconds),
        drift_tolerance=risk.drift_tolerance,
        drift_tolerance_amount=risk.drift_tolerance_amount,
        day_zone=risk.day_zone,
        broker_max_leverage={name: broker.max_leverage for name, broker in named.items()},
        limits=Limits(
            max_position_notional=risk.max_position_notional,
            max_exposure_notional=risk.max_exposure_notional,
            max_concurrent_positions=risk.max_concurrent_positions,
            max_open_reservations=risk.max_open_reservations,
            max_daily_loss=risk.max_daily_loss,
            max_daily_loss_fraction=risk.max_daily_loss_fraction,
            max_drawdown_fraction=risk.max_drawdown_fraction,
            order_rate_count=risk.order_rate_count,
            order_rate_interval_seconds=risk.order_rate_interval_seconds,
            breaker_cool_down_seconds=risk.breaker_cool_down_seconds,
        ),
        slippage_rate=sandbox.slippage_rate,
        taker_fee_rate=sandbox.taker_fee_rate,
        maker_fee_rate=sandbox.maker_fee_rate,
        fill_depth=sandbox.fill_depth,
        conversion_threshold=sandbox.conversion_threshold,
        conversion_ratio=sandbox.conversion_ratio,
        starting_capital=sandbox.starting_capital,
        starting_currency=sandbox.currency,
        new_instruments=NewInstruments(risk.new_instruments),
        four_eyes=four_eyes_of(settings),
    )


def four_eyes_of(settings: Settings) -> FourEyes:
    """What of four eyes is in force: nothing while callers are not authenticated, whatever was configured."""
    wanted = FourEyes[settings.risk.four_eyes.upper()]
    return FourEyes.UNAUTHENTICATED if wanted.is_on and settings.server.auth == "off" else wanted


async def furnish(engine: Engine, settings: Settings) -> None:
    """Put the default instruments that are not there yet or follow other rules, and the configured asset rules.

    An instrument that somebody has defined himself is left as it is.
    """
    sandbox = settings.sandbox
    rules = margin_rules(settings, engine.clock().date())
    for instrument in default_instruments():
        there, wanted = engine.house.instruments.get(instrument.symbol), under(rules, instrument)
        if there is None or (there != wanted and there in [under(one, instrument) for one in RULE_SETS]):
            await engine.submit_house(PutInstrument(wanted, opened=True), request_id="", actor=SYSTEM)
    tiered = {asset: tiered_rule(asset, table) for asset, table in sandbox.haircut_tiers.items()}
    tiers = {asset: table for asset, table in rules.haircut_tiers.items() if asset not in sandbox.haircuts}
    tiers |= {asset: rule.haircut_tiers for asset, rule in tiered.items() if rule is not None}
    for rule in default_asset_rules(sandbox.rates, {**rules.haircuts, **sandbox.haircuts}, tiers):
        await engine.submit_house(SetAssetRule(rule), request_id="", actor=SYSTEM)
    for asset, annual_rate in sandbox.borrow_rates.items():
        command = SetBorrowRate(asset, annual_rate, sandbox.interest_clock or rules.interest_clock)
        await engine.submit_house(command, request_id="", actor=SYSTEM)
    await engine.submit_house(SetResetSchedule(reset_schedule(settings)), request_id="", actor=SYSTEM)


def margin_rules(settings: Settings, today: date) -> RuleSet:
    """The rules that the sandbox follows: those in force today, or on the configured day."""
    day = settings.sandbox.margin_rules_date
    return rule_set(settings.sandbox.margin_rules, today if day is None else date.fromisoformat(day))


def reset_schedule(settings: Settings) -> ResetSchedule:
    """When sandbox accounts are reset, from the settings."""
    sandbox = settings.sandbox
    return ResetSchedule(
        interval=ResetInterval[sandbox.reset.upper()],
        weekday=get_args(Weekday).index(sandbox.reset_weekday),
        month_day=sandbox.reset_day,
        time_of_day=sandbox.reset_time,
        zone=sandbox.reset_zone,
    )


async def open_to_somebody(settings: Settings, engine: Engine) -> Path | None:
    """Where tokens are asked for and no administrator has one, make one: in which file it is."""
    if settings.server.auth not in ("tokens", "both"):
        return None
    return await make_first_token(engine, settings.server.admin_token_place(settings.database.data_directory))


async def serve(
    settings: Settings, engine: Engine, guard: Guard, entrance: Entrance, closers: contextlib.AsyncExitStack
) -> int:
    """Start the gRPC server and return its port."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.server.max_message_bytes),
            ("grpc.max_concurrent_streams", STREAMS_MAX),
            ("grpc.server.max_pending_requests", PENDING_MAX),
            ("grpc.server.max_pending_requests_hard_limit", PENDING_MAX),
            ("grpc.so_reuseport", 0),
            ("grpc.max_metadata_size", METADATA_BYTES_MOST),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ]
    )
    services: dict[FileDescriptor, Callable[[Any], Any]] = {
        access_service_pb2.DESCRIPTOR: access.AccessService,
        account_service_pb2.DESCRIPTOR: account.AccountService,
        audit_service_pb2.DESCRIPTOR: audit.AuditService,
        debt_service_pb2.DESCRIPTOR: debt.DebtService,
        fund_service_pb2.DESCRIPTOR: fund.FundService,
        leverage_service_pb2.DESCRIPTOR: leverage.LeverageService,
        margin_service_pb2.DESCRIPTOR: lambda one: margin.MarginService(one, settings.server.max_batch),
        market_service_pb2.DESCRIPTOR: market.MarketService,
        risk_service_pb2.DESCRIPTOR: risk.RiskService,
    }
    names = []
    for file, make in services.items():
        for service in file.services_by_name.values():
            guard.add(service, with_past(service, make, engine))
            names.append(service.full_name)
    server.add_generic_rpc_handlers((guard.directory,))
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if settings.server.reflection:
        add_reflection(server, [*names, health.SERVICE_NAME])
    if entrance.certificates is None:
        port = server.add_insecure_port(settings.server.address)
    else:
        port = server.add_secure_port(settings.server.address, entrance.certificates.of_grpc())
    await server.start()
    for name in ["", *names]:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    watching = asyncio.create_task(watch_protection(checks, engine), name="protection health")
    looking = asyncio.create_task(entrance.watch_files(), name="keys and certificates")

    async def drain() -> None:
        """First no longer healthy, then watchers are told and new calls refused, then running calls may finish."""
        until = time.perf_counter() + settings.server.drain_seconds
        watching.cancel()
        looking.cancel()
        await checks.enter_graceful_shutdown()
        engine.hub.drain()
        await guard.drain(settings.server.drain_seconds)
        left = max(0.0, until - time.perf_counter())
        await server.stop(left if guard.running else min(left, FOLLOWERS_SECONDS))

    closers.push_async_callback(drain)
    return port


async def watch_protection(checks: "health.aio.HealthServicer", engine: Engine) -> None:
    """Keep the health entry of the protection true."""
    while True:
        blind = bool(engine.protecting())
        state = health_pb2.HealthCheckResponse.NOT_SERVING if blind else health_pb2.HealthCheckResponse.SERVING
        await checks.set(PROTECTING, state)
        await asyncio.sleep(PROTECTION_LOOK_SECONDS)


def say_what_is_read_again() -> None:
    logger.info(
        "SIGHUP is ignored: new keys and certificates are taken by themselves, other settings at the next start"
    )


async def run(
    settings: Settings,
    *,
    demo: bool = False,
    ready: Callable[[RunningService], None] | None = None,
    configuration: ConfigurationWatch | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and stop. `ready` is called once the service answers.

    SIGHUP ends a service whose terminal was closed, and is no more than a line in the log of any other.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    if hasattr(signal, "SIGHUP"):
        terminal = sys.stdin is not None and sys.stdin.isatty()
        loop.add_signal_handler(signal.SIGHUP, stop.set if terminal else say_what_is_read_again)
    service = await start(settings, demo=demo, configuration=configuration)
    let_the_loop_go_first()
    collect_seldom()
    try:
        if ready is not None:
            ready(service)
        await stop.wait()
        logger.info("draining: at most %s s", settings.server.drain_seconds)
    finally:
        await service.stop()
