"""Which calls only take risk away: no quota counts them, and nothing that came along with them stops them."""

from typing import TYPE_CHECKING, Any

from debt_mgmt.core.check import is_reducing
from debt_mgmt.core.faults import Fault
from debt_mgmt.server.rpc.validate import Reader, order_of, venue_of

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

ORDERS = frozenset({"ReserveMargin", "PlaceOrder"})
"""Methods whose order may add risk or take it away."""

EXITS = frozenset({"HaltTrading", "CancelOrder", "ReleaseReservation", "ClosePosition", "RecordFill", "Repay"})
"""Methods that never add risk; a fill is a fact."""


def takes_risk_away(engine: "Engine", method: str, request: Any) -> bool:
    return method in EXITS or (method in ORDERS and reduces(engine, request))


def reduces(engine: "Engine", request: Any) -> bool:
    """Whether the order of a request only takes risk away; what is malformed adds none."""
    try:
        account = engine.account(request.account_id)
        read = Reader(venue_of(account))
        order = order_of(read, request.order, "order", account.position_mode)
        read.done()
    except Fault:
        return True
    return is_reducing(account, order)
