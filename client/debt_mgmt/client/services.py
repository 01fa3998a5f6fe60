"""Every method that is written once for both clients, by service."""

from debt_mgmt.client.access import AccessMethods
from debt_mgmt.client.accounts import AccountMethods
from debt_mgmt.client.audit import AuditMethods
from debt_mgmt.client.changes import ChangeMethods
from debt_mgmt.client.debt import DebtMethods
from debt_mgmt.client.funds import FundMethods
from debt_mgmt.client.halts import HaltMethods
from debt_mgmt.client.leverage import LeverageMethods
from debt_mgmt.client.limit_sets import LimitSetMethods
from debt_mgmt.client.liquidations import LiquidationMethods
from debt_mgmt.client.margin import MarginMethods
from debt_mgmt.client.market import MarketMethods
from debt_mgmt.client.orders import OrderMethods
from debt_mgmt.client.paper_orders import PaperOrderMethods
from debt_mgmt.client.risk import RiskMethods
from debt_mgmt.client.whatif import SimulationMethods


class ServiceMethods(
    AccountMethods,
    MarginMethods,
    OrderMethods,
    PaperOrderMethods,
    LiquidationMethods,
    SimulationMethods,
    LeverageMethods,
    DebtMethods,
    FundMethods,
    RiskMethods,
    LimitSetMethods,
    HaltMethods,
    ChangeMethods,
    MarketMethods,
    AuditMethods,
    AccessMethods,
):
    """What both clients can do."""
