"""A desk with live accounts: a small venue per account, whose state is read when the test says so."""

from datetime import timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Alert, Environment, PositionSide, Side
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.venue import (
    VenueBalance,
    VenueFill,
    VenueHealth,
    VenueOrder,
    VenuePosition,
    VenueState,
)
from tests.support.desk import FREE, NOON, Desk
from tests.support.instruments import inverse, linear

D = Decimal

BTC = "bybit:BTCUSDT"
ETH = "bybit:ETHUSDT"
COIN = "bybit:BTCUSD"

INSTRUMENTS = (
    msgspec.structs.replace(linear("BTCUSDT"), symbol=BTC),
    msgspec.structs.replace(linear("ETHUSDT"), symbol=ETH),
    msgspec.structs.replace(inverse("BTCUSD"), symbol=COIN),
)


def balance(asset: str, total: str | int, **more: str) -> VenueBalance:
    return VenueBalance(asset, D(total), **{name: D(value) for name, value in more.items()})


def held(symbol: str, quantity: str | int, entry: str | int | None = None, **more: str | int | None) -> VenuePosition:
    """A position as the venue tells it; `leg` names its side."""
    side = PositionSide(str(more.pop("leg", "NET")))
    numbers = {name: D(value) if value is not None else None for name, value in more.items()}
    plain = VenuePosition(symbol, side, D(quantity), D(entry) if entry is not None else None)
    return msgspec.structs.replace(plain, **numbers)


def order(
    order_id: str,
    side: str,
    quantity: str | int,
    symbol: str = BTC,
    price: str | int | None = None,
    *,
    client_order_id: str = "",
    reduce_only: bool = False,
    leg: str = "NET",
) -> VenueOrder:
    limit = D(price) if price is not None else None
    return VenueOrder(
        order_id, symbol, Side(side.upper()), D(quantity), PositionSide(leg), client_order_id, limit, reduce_only
    )


class LiveDesk(Desk):
    """`alice` at a venue, synced with what the test gives; settings without house limits unless given."""

    def __init__(self, settings: RiskSettings = FREE) -> None:
        super().__init__(settings, instruments=INSTRUMENTS)
        self.marks_given = False

    def live(
        self,
        account_id: str = "alice",
        *,
        environment: Environment = Environment.LIVE,
        dry_run: bool | None = False,
    ) -> Account:
        self.do(account_id, c.CreateAccount(account_id, "desk", "bybit", environment, "USDT", dry_run=dry_run))
        return self.accounts[account_id]

    def state(self, *parts: object, read: timedelta = timedelta(0), hedge: bool | None = False) -> VenueState:
        """A state read `read` ago, of balances, positions, orders, fills and health in any order."""
        health = next((part for part in parts if isinstance(part, VenueHealth)), VenueHealth())
        return VenueState(
            at=self.now - read,
            balances=tuple(part for part in parts if isinstance(part, VenueBalance)),
            positions=tuple(part for part in parts if isinstance(part, VenuePosition)),
            orders=tuple(part for part in parts if isinstance(part, VenueOrder)),
            fills=tuple(part for part in parts if isinstance(part, VenueFill)),
            health=health,
            hedge=hedge,
        )

    def sync(
        self,
        *parts: object,
        account_id: str = "alice",
        read: timedelta = timedelta(0),
        hedge: bool | None = False,
        after: timedelta = timedelta(seconds=1),
    ) -> tuple[e.Event, ...]:
        """A second passes, then the venue's state is recorded; marks stay as fresh as they were."""
        self.pass_quietly(after)
        return self.do(account_id, c.RecordSync(self.state(*parts, read=read, hedge=hedge)))

    def pass_quietly(self, duration: timedelta) -> None:
        """Time passes with fresh marks, and nobody is assessed."""
        self.now += duration
        for symbol, mark in self.marks.items():
            self.marks[symbol] = msgspec.structs.replace(mark, source_time=self.now, received_at=self.now)

    def reported(
        self,
        side: str,
        quantity: str | int,
        price: str | int,
        *,
        order_id: str = "",
        symbol: str = BTC,
        filled_ago: timedelta | None = None,
        account_id: str = "alice",
        leg: str = "NET",
        plan: tuple[str, int] = ("", 0),
    ) -> tuple[e.Event, ...]:
        """An engine reports a fill."""
        log = self.journal[account_id]
        return self.do(
            account_id,
            c.RecordFill(
                f"fill-{len(log) + 1}",
                symbol,
                Side(side.upper()),
                D(quantity),
                D(price),
                position_side=PositionSide(leg),
                order_id=order_id,
                filled_at=None if filled_ago is None else self.now - filled_ago,
                plan_id=plan[0],
                step=plan[1],
            ),
        )

    def venue_fill(
        self, order_id: str, side: str, quantity: str | int, price: str | int, *, client_order_id: str = ""
    ) -> VenueFill:
        return VenueFill(
            f"trade of {order_id}",
            order_id,
            BTC,
            Side(side.upper()),
            D(quantity),
            D(price),
            self.now,
            client_order_id=client_order_id,
        )


def ready(*parts: object, mark: int = 50_000, leverage: int = 5, settings: RiskSettings = FREE) -> LiveDesk:
    """Alice synced out of dry run, with BTC, ETH and the inverse contract priced."""
    desk = LiveDesk(settings)
    desk.mark(BTC, mark)
    desk.mark(ETH, 2_000)
    desk.mark(COIN, mark)
    desk.value("BTC", priced_by=BTC)
    desk.live()
    desk.sync(*(parts or (balance("USDT", 10_000),)))
    chosen = {symbol: D(leverage) for symbol in (BTC, ETH, COIN)}
    state = desk.state(*(parts or (balance("USDT", 10_000),)))
    desk.do("alice", c.RecordSync(msgspec.structs.replace(state, leverage=chosen)))
    return desk


def alerts(events: tuple[e.Event, ...]) -> list[Alert]:
    return [event.alert for event in events if isinstance(event, e.AlertRaised)]


def told(events: tuple[e.Event, ...]) -> list[str]:
    """The kinds of alerts raised."""
    return [alert.kind.value for alert in alerts(events)]


def synced(events: tuple[e.Event, ...]) -> e.AccountSynced:
    return next(event for event in events if isinstance(event, e.AccountSynced))


__all__ = ["BTC", "COIN", "ETH", "NOON", "LiveDesk", "alerts", "balance", "held", "order", "ready", "synced", "told"]
