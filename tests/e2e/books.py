"""Accounts that the end-to-end tests look at: their figures are worked out by hand where they are asserted."""

from typing import Any

from debt_mgmt.v1 import account_service_pb2, leverage_service_pb2, market_service_pb2, types_pb2
from tests.support.service import Desk

BUY, SELL = types_pb2.SIDE_BUY, types_pb2.SIDE_SELL
LONG, SHORT = types_pb2.POSITION_SIDE_LONG, types_pb2.POSITION_SIDE_SHORT

PRICES = {"BTCUSDT": "62500", "ETHUSDT": "3100", "SOLUSDT": "150", "BTCUSD-INVERSE": "62500"}

INVERSE = types_pb2.INSTRUMENT_KIND_INVERSE


def inverse_contract() -> market_service_pb2.Instrument:
    """100 dollars of bitcoin, settled in bitcoin."""
    return market_service_pb2.Instrument(
        symbol="BTCUSD-INVERSE",
        kind=INVERSE,
        base_asset="BTC",
        quote_asset="USD",
        settle_asset="BTC",
        contract_size="100",
        lot="1",
        tick="0.1",
        min_quantity="1",
        maker_fee_rate="0.0002",
        taker_fee_rate="0.0005",
        max_leverage="50",
        tiers=[types_pb2.RiskTier(notional_from="0", maintenance_rate="0.01", max_leverage="50", deduction="0")],
    )


async def put(desk: Desk, instrument: market_service_pb2.Instrument) -> market_service_pb2.PutInstrumentResponse:
    answer: market_service_pb2.PutInstrumentResponse = await desk.market.PutInstrument(
        market_service_pb2.PutInstrumentRequest(request_id=desk.request_id(), instrument=instrument)
    )
    return answer


async def isolate(desk: Desk, account_id: str, symbol: str) -> None:
    answer = await desk.leverage.SetMarginMode(
        leverage_service_pb2.SetMarginModeRequest(
            request_id=desk.request_id(),
            account_id=account_id,
            symbol=symbol,
            margin_mode=types_pb2.MARGIN_MODE_ISOLATED,
        )
    )
    assert answer.accepted, answer.violations


async def open_mixed(desk: Desk, account_id: str = "mixed", owner: str = "mixed-owner") -> None:
    """20,000 USDT and half a bitcoin; long 0.5 BTC and short 100 inverse contracts in cross, long 2 ETH isolated.

    Needs the inverse contract. Leaves prices at PRICES.
    """
    await desk.open(account_id, "20000", "USDT", owner=owner)
    await desk.mark(PRICES)
    await desk.deposit(account_id, "BTC", "0.5")
    await isolate(desk, account_id, "ETHUSDT")
    for symbol, leverage in (("BTCUSDT", "5"), ("BTCUSD-INVERSE", "4"), ("ETHUSDT", "3")):
        await desk.lever(account_id, symbol, leverage)
    await desk.fill(account_id, BUY, "0.5", "BTCUSDT", "60000")
    await desk.fill(account_id, SELL, "100", "BTCUSD-INVERSE", "50000")
    await desk.fill(account_id, BUY, "2", "ETHUSDT", "3000")


async def open_hedge(desk: Desk, account_id: str = "hedge", owner: str = "hedge-owner") -> None:
    """10,000 USDT in hedge mode: long 1 ETH at 3,000 and short 0.4 ETH at 3,050. Needs prices."""
    await desk.accounts.CreateAccount(
        account_service_pb2.CreateAccountRequest(
            request_id=desk.request_id(),
            account_id=account_id,
            owner=owner,
            currency="USDT",
            position_mode=types_pb2.POSITION_MODE_HEDGE,
            initial_deposit=types_pb2.AssetAmount(asset="USDT", amount="10000"),
        )
    )
    await desk.fill(account_id, BUY, "1", "ETHUSDT", "3000", position_side=LONG)
    await desk.fill(account_id, SELL, "0.4", "ETHUSDT", "3050", position_side=SHORT)


async def open_fresh(desk: Desk, capital: str = "10000", currency: str = "USDT") -> str:
    """A new account of an owner of its own."""
    name = f"fresh-{desk.request_id()}"
    await desk.open(name, capital, currency, owner=name)
    return name


def order(side: int, quantity: str, symbol: str = "BTCUSDT", **more: Any) -> types_pb2.Order:
    return types_pb2.Order(symbol=symbol, side=side, quantity=quantity, **more)  # type: ignore[arg-type]


def shown(message: Any, *fields: str) -> list[Any]:
    """Values of a message; None where one is absent."""
    return [
        getattr(message, field)
        if not message.DESCRIPTOR.fields_by_name[field].has_presence or message.HasField(field)
        else None
        for field in fields
    ]
