"""What a repeated request id is compared with: a digest of the command, the same in every version."""

import hashlib
from datetime import timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import TimeInForce
from debt_mgmt.core.sides import PositionSide, Side

LATER_FIELDS: dict[type[c.Command], bytes] = {
    c.RecordFill: b',"strategy":""',
    c.HaltTrading: b',"by":""',
    c.HaltHouse: b',"account_id":"","strategy":"","symbol":"","by":""',
    c.ResumeHouse: b',"account_id":"","strategy":"","symbol":""',
    c.CarryOutChange: b',"effects":null',
}
"""Fields that commands were given later, at their defaults. They are left out, so that what an earlier version was
asked is recognised when it is asked again."""


class FirstOrder(msgspec.Struct, frozen=True, gc=False):
    """An order as the first version wrote it in commands: without a strategy, and with the fields at their defaults."""

    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal | None
    reduce_only: bool
    position_side: PositionSide


class FirstReserveMargin(msgspec.Struct, frozen=True, gc=False, tag="ReserveMargin", tag_field="command"):
    order: FirstOrder
    time_to_live: timedelta | None
    client_order_id: str


class FirstPlaceOrder(msgspec.Struct, frozen=True, gc=False, tag="PlaceOrder", tag_field="command"):
    order: FirstOrder
    time_in_force: TimeInForce
    time_to_live: timedelta | None
    client_order_id: str


def digest_of(command: c.Command) -> bytes:
    """What a repeated request id is compared with."""
    content = msgspec.json.encode(as_first_written(command))
    later = LATER_FIELDS.get(type(command), b"") + b"}"
    if content.endswith(later):
        content = content.removesuffix(later) + b"}"
    return hashlib.blake2b(content, digest_size=16).digest()


def as_first_written(command: c.Command) -> msgspec.Struct:
    """A command with an order of no strategy in the form of the first version; any other as it is."""
    if not isinstance(command, c.ReserveMargin | c.PlaceOrder) or command.order.strategy:
        return command
    order, lives, named = command.order, command.time_to_live, command.client_order_id
    first = FirstOrder(order.symbol, order.side, order.quantity, order.price, order.reduce_only, order.position_side)
    if isinstance(command, c.ReserveMargin):
        return FirstReserveMargin(first, lives, named)
    return FirstPlaceOrder(first, command.time_in_force, lives, named)
