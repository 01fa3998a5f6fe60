"""Halts: new risk stopped and resumed at any node of the tree, and those in force."""

from typing import TYPE_CHECKING

from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.v1 import risk_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class Halts:
    engine: "Engine"

    async def ListHalts(self, request: wire.ListHaltsRequest, call: "Call") -> wire.ListHaltsResponse:
        raise Fault(FaultReason.NOT_IMPLEMENTED, "ListHalts is not there yet")
