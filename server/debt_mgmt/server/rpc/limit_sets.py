"""Limit sets: the tree of limits, what of each is used, and how it is changed."""

from typing import TYPE_CHECKING

from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.v1 import risk_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class LimitSets:
    engine: "Engine"

    async def ListLimitSets(self, request: wire.ListLimitSetsRequest, call: "Call") -> wire.ListLimitSetsResponse:
        raise Fault(FaultReason.NOT_IMPLEMENTED, "ListLimitSets is not there yet")

    async def PutLimitSet(self, request: wire.PutLimitSetRequest, call: "Call") -> wire.PutLimitSetResponse:
        raise Fault(FaultReason.NOT_IMPLEMENTED, "PutLimitSet is not there yet")

    async def DeleteLimitSet(self, request: wire.DeleteLimitSetRequest, call: "Call") -> wire.DeleteLimitSetResponse:
        raise Fault(FaultReason.NOT_IMPLEMENTED, "DeleteLimitSet is not there yet")
