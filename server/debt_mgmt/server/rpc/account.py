"""AccountService: opens, shows and closes accounts, and says what each broker can do."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Account, Environment, MarginMode, PositionMode
from debt_mgmt.core.apply import apply
from debt_mgmt.core.money import text
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import carried_out, not_implemented, opening, reading, verdict
from debt_mgmt.server.rpc.names import ENVIRONMENT, MARGIN_MODE, POSITION_MODE, RISK_LEVEL, TRADING_STATE
from debt_mgmt.server.rpc.pages import cursor_of, page_of, token_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import account_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call

PAPER = "paper"
LATER = "the connection to this exchange comes with a later version"


class AccountService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def CreateAccount(self, request: wire.CreateAccountRequest, call: "Call") -> wire.CreateAccountResponse:
        engine = self.engine
        command, request_id = read_creation(request)
        committed = await engine.submit(
            command.account_id, command, request_id=request_id, actor=call.actor, owner=command.owner
        )
        account: Account | None = None
        for event in committed.events:
            account = apply(account, event)
        assert account is not None
        place = (engine.home[command.account_id], committed.last_position)
        return wire.CreateAccountResponse(
            **opening(place, committed), account=account_message(engine, account, position=committed.last_position)
        )

    async def GetAccount(self, request: wire.GetAccountRequest, call: "Call") -> wire.GetAccountResponse:
        engine = self.engine
        read = Reader()
        account_id = read.account_id(request.account_id)
        read.done()
        account = engine.account(account_id)
        return wire.GetAccountResponse(
            **reading(engine.revision(account_id), engine.clock()), account=account_message(engine, account)
        )

    async def ListAccounts(self, request: wire.ListAccountsRequest, call: "Call") -> wire.ListAccountsResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        owner = read.optional_id(request.owner, "owner")
        broker = read.optional_id(request.broker, "broker")
        environment = read.optional_choice(request.environment, ENVIRONMENT, "environment")
        read.done()
        filters = (owner, broker, environment, request.include_closed)
        cursor = cursor_of(request.page_token, "ListAccounts", *filters)
        ids = engine.accounts()
        first = bisect_right(ids, str(cursor[0])) if cursor is not None else 0
        wanted: Iterator[Account] = (
            account
            for account in map(engine.account, islice(ids, first, None))
            if (not owner or account.owner == owner)
            and (not broker or account.broker == broker)
            and (environment is None or account.environment is environment)
            and (request.include_closed or account.closed_at is None)
        )
        found = list(islice(wanted, size + 1))
        page = found[:size]
        following = token_of([page[-1].account_id], "ListAccounts", *filters) if len(found) > size else ""
        return wire.ListAccountsResponse(
            **reading(engine.house_revision(), engine.clock()),
            accounts=[account_message(engine, account) for account in page],
            next_page_token=following,
        )

    async def CloseAccount(self, request: wire.CloseAccountRequest, call: "Call") -> wire.CloseAccountResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        reason = read.text(request.reason, "reason")
        read.done()
        committed, account = await carried_out(
            engine, account_id, c.CloseAccount(reason), request_id=request_id, actor=call.actor
        )
        return wire.CloseAccountResponse(
            **verdict(engine, account_id, committed),
            account=account_message(engine, account, position=committed.last_position),
        )

    async def SyncAccount(self, request: wire.SyncAccountRequest, call: "Call") -> wire.SyncAccountResponse:
        raise not_implemented("reading an account from its broker")

    async def ListBrokers(self, request: wire.ListBrokersRequest, call: "Call") -> wire.ListBrokersResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        read.done()
        page, following = page_of(PROFILES, lambda one: [one.broker], size, request.page_token, "ListBrokers")
        return wire.ListBrokersResponse(
            **reading(engine.house_revision(), engine.clock()),
            brokers=[broker_message(one, engine.risk) for one in page],
            next_page_token=following,
        )


def read_creation(request: wire.CreateAccountRequest) -> tuple[c.CreateAccount, str]:
    """The command and its request id. Only sandbox accounts can be opened in this version."""
    read = Reader()
    request_id = read.request_id(request.request_id)
    account_id = read.account_id(request.account_id)
    broker = read.optional_id(request.broker, "broker") or PAPER
    if broker not in BROKERS:
        read.problem("broker", f"is not known: {', '.join(sorted(BROKERS))} are")
    environment = read.choice(request.environment, ENVIRONMENT, "environment", Environment.SANDBOX)
    deposit_asset, deposit_amount = "", None
    if request.HasField("initial_deposit"):
        deposit_asset = read.asset(request.initial_deposit.asset, "initial_deposit.asset")
        deposit_amount = read.not_negative(request.initial_deposit.amount, "initial_deposit.amount")
        if environment is not Environment.SANDBOX:
            read.problem("initial_deposit", "only a SANDBOX account begins with a deposit")
    command = c.CreateAccount(
        account_id=account_id,
        owner=read.optional_id(request.owner, "owner") or account_id,
        broker=broker,
        environment=environment,
        currency=read.optional_asset(request.currency, "currency"),
        position_mode=read.choice(request.position_mode, POSITION_MODE, "position_mode", PositionMode.ONE_WAY),
        margin_mode=read.choice(request.margin_mode, MARGIN_MODE, "margin_mode", MarginMode.CROSS),
        deposit_asset=deposit_asset,
        deposit_amount=deposit_amount,
    )
    read.done()
    if environment is not Environment.SANDBOX:
        raise not_implemented(f"trading on live brokers ({environment.value} accounts)")
    if request.dry_run:
        raise not_implemented("recording orders without sending them (dry_run)")
    return command, request_id


def account_message(engine: "Engine", account: Account, *, position: int | None = None) -> wire.Account:
    """An account; `position` is that of its last change, where it is known better than by the engine."""
    shard, latest = engine.revision(account.account_id)
    if position is None:
        position = engine.changed_at.get(account.account_id, latest)
    state, reason = convert.trading_state(account, engine.house)
    return wire.Account(
        account_id=account.account_id,
        owner=account.owner,
        broker=account.broker,
        environment=ENVIRONMENT.wire[account.environment],
        currency=account.currency,
        position_mode=POSITION_MODE.wire[account.position_mode],
        margin_mode=MARGIN_MODE.wire[account.margin_mode],
        dry_run=False,
        balances=convert.asset_amounts(account.balances),
        level=RISK_LEVEL.wire[account.level],
        trading_state=TRADING_STATE.wire[state],
        trading_state_reason=reason,
        create_time=convert.timestamp(account.created_at),
        close_time=convert.optional_timestamp(account.closed_at),
        revision=convert.revision((shard, position)),
    )


# brokers


class BrokerProfile(msgspec.Struct, frozen=True):
    """One row of the capability matrix."""

    broker: str
    display_name: str
    testnet: wire.Testnet.ValueType = wire.TESTNET_NONE
    leverage_path: wire.LeveragePath.ValueType = wire.LEVERAGE_PATH_ENDPOINT
    leverage_step: str = "0.01"


PROFILES = (
    BrokerProfile("binance", "Binance USD-M futures", wire.TESTNET_DEMO, leverage_step="1"),
    BrokerProfile("bybit", "Bybit", wire.TESTNET_SANDBOX),
    BrokerProfile("coinbase", "Coinbase", leverage_path=wire.LEVERAGE_PATH_NONE),
    BrokerProfile("cryptocom", "Crypto.com"),
    BrokerProfile("kraken", "Kraken", leverage_path=wire.LEVERAGE_PATH_ORDER_PARAMETER),
    BrokerProfile("okx", "OKX", wire.TESTNET_SANDBOX),
    BrokerProfile(PAPER, "Paper trading in this service"),
)
BROKERS = {profile.broker for profile in PROFILES}

PAPER_FEATURES = {
    wire.BROKER_FEATURE_SET_LEVERAGE,
    wire.BROKER_FEATURE_SET_MARGIN_MODE,
    wire.BROKER_FEATURE_ADJUST_ISOLATED_MARGIN,
    wire.BROKER_FEATURE_HEDGE_MODE,
    wire.BROKER_FEATURE_REDUCE_ONLY,
}
PAPER_LACKS: dict[int, str] = {
    wire.BROKER_FEATURE_BORROW: "borrowing comes with a later version",
    wire.BROKER_FEATURE_MARK_PRICE: "it has no market of its own: PublishMarks gives the prices",
    wire.BROKER_FEATURE_ACCOUNT_STREAM: "there is nothing to push: this service keeps the account itself",
}


def broker_message(profile: BrokerProfile, settings: RiskSettings) -> wire.Broker:
    paper = profile.broker == PAPER
    cap = min(settings.max_leverage, settings.broker_max_leverage.get(profile.broker, settings.max_leverage))
    features = [number for number in wire.BrokerFeature.values() if number != wire.BROKER_FEATURE_UNSPECIFIED]
    return wire.Broker(
        broker=profile.broker,
        display_name=profile.display_name,
        enabled=paper,
        disabled_reason="" if paper else LATER,
        max_leverage=text(cap),
        leverage_step=profile.leverage_step,
        testnet=profile.testnet,
        leverage_path=profile.leverage_path,
        capabilities=[
            wire.BrokerCapability(
                feature=number,
                supported=paper and number in PAPER_FEATURES,
                note=PAPER_LACKS.get(number, "") if paper else LATER,
            )
            for number in features
        ],
    )
