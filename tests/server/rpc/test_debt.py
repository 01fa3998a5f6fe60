"""DebtService: no method pretends; each says that it comes later."""

import pytest

from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.server.rpc.debt import DebtService
from debt_mgmt.v1 import debt_service_pb2
from tests.server.rpc.edge import CALL, Edge

METHODS = [method.name for method in debt_service_pb2.DESCRIPTOR.services_by_name["DebtService"].methods]


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_says_that_it_comes_later(edge: Edge, method: str) -> None:
    request = getattr(debt_service_pb2, f"{method}Request")()
    with pytest.raises(Fault) as raised:
        await getattr(DebtService(edge.engine), method)(request, CALL)
    assert raised.value.reason is FaultReason.NOT_IMPLEMENTED
    assert "later version" in raised.value.message
