"""The broker of sandbox accounts: fills market orders at the mark, with slippage and fee. Nothing leaves the house."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from decimal import Decimal

from debt_mgmt.core.account import Environment
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import notional
from debt_mgmt.core.market import Mark
from debt_mgmt.core.money import required
from debt_mgmt.core.paper_orders import taker_price
from debt_mgmt.server.brokers.broker import BrokerFill, BrokerOrder, Rejected, StillOpen, Unreachable

FILLS_KEPT = 10_000


class PaperBroker:
    """Fills at once. The same client order id gets the same fill; after a restart the journal is its memory."""

    def __init__(
        self, house: Callable[[], House], marks: Mapping[str, Mark], *, slippage_rate: Decimal, fee_rate: Decimal | None
    ) -> None:
        """Without a fee rate, each instrument's own taker rate counts."""
        self.house = house
        self.marks = marks
        self.slippage_rate = slippage_rate
        self.fee_rate = fee_rate
        self.fills: OrderedDict[str, BrokerFill] = OrderedDict()

    async def place(self, order: BrokerOrder) -> BrokerFill:
        if order.environment is not Environment.SANDBOX:
            raise Rejected(f"account {order.account_id} is not a sandbox account")
        if not order.reduce_only:
            raise Rejected("only reduce-only orders are carried out here")
        known = self.fills.get(order.client_order_id)
        if known is not None:
            return known
        instrument = self.house().instruments.get(order.symbol)
        mark = self.marks.get(order.symbol)
        if instrument is None or mark is None:
            raise Unreachable(f"{order.symbol} has no price")
        price = taker_price(instrument, order.side, mark.price, self.slippage_rate)
        rate = self.fee_rate if self.fee_rate is not None else instrument.taker_fee_rate
        fee = required(notional(instrument, order.quantity, price) * rate)
        fill = BrokerFill(order.client_order_id, order.quantity, price, fee, instrument.settle)
        self.fills[order.client_order_id] = fill
        if len(self.fills) > FILLS_KEPT:
            self.fills.popitem(last=False)
        return fill

    async def find(self, client_order_id: str, symbol: str) -> BrokerFill | StillOpen | None:
        return self.fills.get(client_order_id)
