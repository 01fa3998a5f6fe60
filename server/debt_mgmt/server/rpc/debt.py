"""DebtService: borrowed money. The contract is there; the books on it are not kept by this version."""

from typing import TYPE_CHECKING

from debt_mgmt.server.rpc.answers import not_implemented
from debt_mgmt.v1 import debt_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class DebtService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def Borrow(self, request: wire.BorrowRequest, call: "Call") -> wire.BorrowResponse:
        raise not_implemented("borrowing")

    async def Repay(self, request: wire.RepayRequest, call: "Call") -> wire.RepayResponse:
        raise not_implemented("paying back borrowed money")

    async def GetDebtSummary(self, request: wire.GetDebtSummaryRequest, call: "Call") -> wire.GetDebtSummaryResponse:
        raise not_implemented("the summary of debts")

    async def ListDebts(self, request: wire.ListDebtsRequest, call: "Call") -> wire.ListDebtsResponse:
        raise not_implemented("the list of debts")

    async def ListInterestCharges(
        self, request: wire.ListInterestChargesRequest, call: "Call"
    ) -> wire.ListInterestChargesResponse:
        raise not_implemented("the list of interest charges")

    async def ListBorrowRates(self, request: wire.ListBorrowRatesRequest, call: "Call") -> wire.ListBorrowRatesResponse:
        raise not_implemented("the list of borrowing rates")
