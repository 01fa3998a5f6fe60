"""Reading as of an earlier revision: the same handlers, on the state that the journal adds up to there.

A caller asks for it with the metadata `debt-mgmt-as-of`: a place such as `3:1274`, or a time such as
`2026-03-02T09:00:00Z`. Prices are not state: known are those that the last decision on each account was made on, with
the age that they had; a figure that rests on any other is absent.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.core.margin import World
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.view import AccountView
from debt_mgmt.server.actor import Actor, unknown_account
from debt_mgmt.server.engine_figures import EngineCounters
from debt_mgmt.server.journal.journal import Journal, Row
from debt_mgmt.server.past import AccountThen, account_then, house_then, last_position_at
from debt_mgmt.server.rpc.exits import takes_risk_away

if TYPE_CHECKING:
    from debt_mgmt.core.account import Account
    from debt_mgmt.core.house import House
    from debt_mgmt.core.market import Mark
    from debt_mgmt.server.engine import Engine

AS_OF = "debt-mgmt-as-of"
PLACE = re.compile(r"(\d{1,9}):(\d{1,18})")
NO_SIDE_EFFECTS = 1
ACCOUNTS_MOST = 200

ANSWERED = frozenset({
    "AccountService/GetAccount", "AccountService/ListAccounts", "MarginService/GetPortfolio",
    "MarginService/GetMarginStatus", "MarginService/ListPositions", "MarginService/CheckOrder",
    "MarginService/BatchCheckOrders", "MarginService/ListReservations", "MarginService/ListOrders",
    "MarginService/SimulateMargin", "MarginService/ListLiquidations", "LeverageService/GetLeverage",
    "LeverageService/ListLeverage", "LeverageService/ListLeverageLimits", "DebtService/GetDebtSummary",
    "DebtService/ListDebts", "DebtService/ListInterestCharges", "DebtService/ListBorrowRates", "FundService/GetFunds",
    "RiskService/GetRiskLimits", "RiskService/ListAlerts", "MarketService/ListInstruments",
    "MarketService/ListFundingRates", "AuditService/ListAuditEvents", "RiskService/ListHalts",
})  # fmt: skip
"""What can be answered from the state of an earlier revision."""

Handler = Callable[[Any, Any], Awaitable[Any]]


def with_past(service: ServiceDescriptor, make: "Callable[[Any], Any]", engine: "Engine") -> Any:
    """The handlers of a service, made on an engine, that look back where a call asks for it."""
    now = make(engine)
    wrapped = {method.name: looking_back(method, getattr(now, method.name), make, engine) for method in service.methods}
    return SimpleNamespace(**wrapped)


def looking_back(method: MethodDescriptor, now: Handler, make: "Callable[[Any], Any]", engine: "Engine") -> Any:
    name = f"{method.containing_service.name}/{method.name}"
    if method.client_streaming:
        return now

    def of_now_only(request: Any, call: Any) -> Any:
        if asked(call) is not None and not takes_risk_away(engine, method.name, request):
            raise InvalidRequest([(AS_OF, f"{method.name} is about the present: it can't be asked as of another time")])
        return now(request, call)

    async def then(text: str, request: Any, call: Any) -> Any:
        past = await past_of(engine, text, getattr(request, "account_id", ""), call.actor)
        return await getattr(make(past), method.name)(request, call)

    def answer(request: Any, call: Any) -> Any:
        text = asked(call)
        return now(request, call) if text is None else then(text, request, call)

    return answer if name in ANSWERED else of_now_only


def asked(call: Any) -> str | None:
    """What the caller looks back to; None: the present."""
    for key, value in getattr(call, "metadata", ()):
        if key == AS_OF:
            return str(value)
    return None


async def past_of(engine: "Engine", text: str, account_id: str, actor: Actor) -> "Past":
    """The engine as of a place or a time, with one account or with all that the caller may see."""
    shard, position, at = await moment_of(engine, text)
    wanted: Iterable[str] = actor.seen(engine.accounts()) if not account_id else [account_id]
    wanted = [one for one in wanted if one in engine.home and actor.may_see(one)]
    if actor.accounts is not None and shard is not None and all(engine.home[one] != shard for one in wanted):
        raise no_revision(text)
    if len(wanted) > ACCOUNTS_MOST:
        raise InvalidRequest([(AS_OF, f"{len(wanted)} accounts are too many to look back at once: name one")])
    if account_id and shard is not None and wanted and engine.home[account_id] != shard:
        home = engine.home[account_id]
        raise InvalidRequest([(AS_OF, f"account {account_id} is in shard {home}: its revisions are of that shard")])
    positions: dict[int, int] = {}
    for number, head in engine.heads().items():
        if number == shard:
            positions[number] = position
        elif number == 0 or any(engine.home[one] == number for one in wanted):
            positions[number] = await last_position_at(engine.journal, number, head.position, at)
    accounts: dict[str, AccountThen] = {}
    for one in wanted:
        number = engine.home[one]
        then = await account_then(engine.journal, number, one, positions[number])
        if then.account is not None:
            accounts[one] = then
    return Past(engine, at, positions, accounts, await house_then(engine.journal, positions[0]))


async def moment_of(engine: "Engine", text: str) -> tuple[int | None, int, datetime]:
    """Shard and position, None where a time was named, and the time."""
    place = PLACE.fullmatch(text)
    if place is not None:
        shard, position = int(place[1]), int(place[2])
        rows = await engine.journal.read_rows(shard, position, position) if position else []
        if not rows:
            raise no_revision(text)
        return shard, position, rows[0].at
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            [(AS_OF, "must be a place such as 3:1274, or a time such as 2026-03-02T09:00:00Z")]
        ) from None
    return None, 0, at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def no_revision(text: str) -> InvalidRequest:
    """There is none, or it is about nothing that the caller may know of."""
    return InvalidRequest([(AS_OF, f"there is no revision {text}")])


class Past:
    """What handlers that read may ask of an engine, as of an earlier moment. Nothing can be changed through it."""

    def __init__(
        self,
        engine: "Engine",
        at: datetime,
        positions: dict[int, int],
        accounts: dict[str, AccountThen],
        house: "House",
    ) -> None:
        self.at = at
        self.house = house
        self.risk: RiskSettings = house.rules or engine.risk
        self.positions = positions
        self.folded = accounts
        self.home = {one: engine.home[one] for one in accounts}
        self.changed_at = {one: then.changed_at for one, then in accounts.items()}
        self.live = NoVenues()
        self.counters = EngineCounters()
        """Of what is asked about the past, which counts nowhere."""
        self.journal = JournalThen(engine.journal, at, positions)
        self.marks: dict[str, Mark] = {}
        for then in accounts.values():
            for symbol, mark in then.marks.items():
                known = self.marks.get(symbol)
                if known is None or known.received_at < mark.received_at:
                    self.marks[symbol] = mark

    def clock(self) -> datetime:
        return self.at

    def accounts(self) -> list[str]:
        return sorted(self.folded)

    def account(self, account_id: str) -> "Account":
        """Raises Fault ACCOUNT_NOT_FOUND, for an account too that was created later."""
        then = self.folded.get(account_id)
        if then is None or then.account is None:
            raise unknown_account(account_id)
        return then.account

    def world(self) -> World:
        return World(self.house, self.marks, self.risk, self.at)

    def view(self, account_id: str) -> AccountView:
        account = self.account(account_id)
        return self.view_of(account, self.world())

    def view_of(self, account: "Account", world: World) -> AccountView:
        return AccountView(account, world)

    def revision(self, account_id: str) -> tuple[int, int]:
        number = self.home[account_id]
        return number, self.positions[number]

    def house_revision(self) -> tuple[int, int]:
        return 0, self.positions[0]


class NoVenues:
    """No venue is asked about the past."""

    refusals: dict[tuple[str, str], Any] = {}

    async def try_to_learn(self, account: "Account", symbols: Sequence[str]) -> None:
        return None

    async def learn(self, account: "Account", symbols: Sequence[str]) -> None:
        return None


class JournalThen:
    """A journal that ends at a moment."""

    def __init__(self, journal: Journal, at: datetime, positions: dict[int, int]) -> None:
        self.journal = journal
        self.until = at + timedelta(microseconds=1)
        self.positions = positions

    async def list_rows(self, *, until: datetime | None = None, **search: Any) -> list[Row]:
        found = await self.journal.list_rows(until=self.until if until is None else min(until, self.until), **search)
        return [row for row in found if row.position <= self.positions.get(row.shard, row.position)]

    async def read_rows(self, shard: int, first_position: int, last_position: int) -> list[Row]:
        last = min(last_position, self.positions.get(shard, last_position))
        rows = await self.journal.read_rows(shard, first_position, last)
        return [row for row in rows if row.at < self.until]
