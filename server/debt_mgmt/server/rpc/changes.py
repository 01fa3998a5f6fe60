"""Changes that need a second person: those that wait, and what somebody else says to them."""

from typing import TYPE_CHECKING

from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.v1 import risk_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class Changes:
    engine: "Engine"

    async def ListPendingChanges(
        self, request: wire.ListPendingChangesRequest, call: "Call"
    ) -> wire.ListPendingChangesResponse:
        raise Fault(FaultReason.NOT_IMPLEMENTED, "ListPendingChanges is not there yet")

    async def ApproveChange(self, request: wire.ApproveChangeRequest, call: "Call") -> wire.ApproveChangeResponse:
        raise Fault(FaultReason.NOT_IMPLEMENTED, "ApproveChange is not there yet")

    async def RejectChange(self, request: wire.RejectChangeRequest, call: "Call") -> wire.RejectChangeResponse:
        raise Fault(FaultReason.NOT_IMPLEMENTED, "RejectChange is not there yet")
