"""Leverage, margin mode, posted margin and loans at a venue: asked once, and read back from the venue itself."""

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from debt_mgmt.core.account import MarginMode, PositionSide
from debt_mgmt.core.money import is_multiple
from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    Denied,
    NotPossible,
    Rejected,
    RejectionReason,
    Unreachable,
)
from debt_mgmt.server.brokers.ccxt_link import Link
from debt_mgmt.server.brokers.ccxt_markets import Market, Markets, leverages
from debt_mgmt.server.brokers.ccxt_numbers import needed, number, written
from debt_mgmt.server.brokers.profiles import Feature, LeveragePath, MarginModePath
from debt_mgmt.server.brokers.venue_errors import Unchanged
from debt_mgmt.server.brokers.venue_rows import MODES, first, mode_of

OTHER_LEGS = {PositionSide.NET: "net", PositionSide.LONG: "long", PositionSide.SHORT: "short"}
BYBIT_LEGS = {PositionSide.NET: 0, PositionSide.LONG: 1, PositionSide.SHORT: 2}
BINANCE_LEGS = {PositionSide.NET: "BOTH", PositionSide.LONG: "LONG", PositionSide.SHORT: "SHORT"}


class Leverage:
    """The settings of one account at its venue."""

    def __init__(self, link: Link, markets: Callable[[], Markets]) -> None:
        self.link = link
        self.markets = markets
        self.chosen: dict[str, Decimal] = {}
        """By symbol, where it is an order parameter: the venue stores none."""
        self.modes: dict[str, MarginMode] = {}
        """By symbol, as set or last seen: OKX takes it with the leverage."""
        self.loan_ids: dict[str, str] = {}

    def require(self, feature: Feature) -> None:
        """Raises NotPossible, with the reason, for what the venue can't do."""
        capability = self.link.profile.capability(feature)
        if not capability.supported:
            raise NotPossible(capability.note)

    async def set(self, symbol: str, leverage: Decimal) -> Decimal:
        """Set the leverage of a symbol; returns what the venue says afterwards."""
        profile = self.link.profile
        market = self.markets().market(symbol)
        self.require(Feature.SET_LEVERAGE)
        if leverage < 1 or not is_multiple(leverage, profile.leverage_step):
            words = f"{profile.display_name} takes leverage from 1 in steps of {profile.leverage_step}"
            raise Rejected(words, reason=RejectionReason.INVALID)
        if profile.leverage_path is LeveragePath.ORDER_PARAMETER:
            return self.choose(symbol, market, leverage)
        await self.changing(lambda client: self.send(client, market, symbol, leverage))
        found: Decimal = await self.read_back(lambda client: LEVERAGES[profile.broker](self, client, market, symbol))
        return found

    def choose(self, symbol: str, market: Market, leverage: Decimal) -> Decimal:
        """Kept here and sent with each order, if the pair can be traded with it."""
        buy, sell = leverages(market)
        if leverage not in {1, *buy, *sell}:
            words = f"{symbol} can be traded with leverage {sorted({*buy, *sell})}"
            raise Rejected(words, reason=RejectionReason.INVALID)
        self.chosen[symbol] = leverage
        return leverage

    async def send(self, client: Any, market: Market, symbol: str, leverage: Decimal) -> None:
        """The request, or on OKX in isolated hedge mode one a leg."""
        if self.link.profile.leverage_path is LeveragePath.ACCOUNT_ENDPOINT:
            request = {"account_id": await account_id(client), "leverage": int(leverage)}
            await client.v1PrivatePostPrivateChangeAccountLeverage(request)
        elif self.link.profile.broker == "okx":
            await self.send_okx(client, market, leverage, await self.okx_mode(client, symbol, market))
        else:
            await client.set_leverage(plain_number(leverage), market["symbol"])

    async def okx_mode(
        self, client: Any, symbol: str, market: Market, otherwise: MarginMode | None = None
    ) -> MarginMode:
        """The mode of an open position; without one `otherwise`, or the one set here, or cross."""
        for row in (await client.privateGetAccountPositions({"instId": market["id"]}))["data"]:
            if number(row.get("pos")) and (mode := mode_of(row.get("mgnMode"))) is not None:
                return mode
        return otherwise or self.modes.get(symbol, MarginMode.CROSS)

    async def send_okx(self, client: Any, market: Market, leverage: Decimal, mode: MarginMode) -> None:
        params: list[dict[str, str]] = [{"marginMode": mode.value.lower()}]
        if mode is MarginMode.ISOLATED:
            config = await client.privateGetAccountConfig()
            if config["data"][0]["posMode"] == "long_short_mode":
                params = [{"marginMode": "isolated", "posSide": leg} for leg in ("long", "short")]
        for one in params:
            await client.set_leverage(plain_number(leverage), market["symbol"], one)

    async def set_mode(self, symbol: str, mode: MarginMode, leverage: Decimal) -> MarginMode:
        """Set the margin mode; returns what the venue says afterwards."""
        profile = self.link.profile
        market = self.markets().market(symbol)
        self.require(Feature.SET_MARGIN_MODE)
        if profile.margin_mode_path is MarginModePath.WITH_LEVERAGE:
            await self.require_other_mode_free(symbol, market, mode)
            await self.changing(lambda client: self.send_okx(client, market, leverage, mode))
            self.modes[symbol] = mode
            return mode
        await self.changing(lambda client: client.set_margin_mode(mode.value.lower(), market["symbol"]))
        found: MarginMode = await self.read_back(lambda client: MODE_READERS[profile.broker](client, market))
        self.modes[symbol] = found
        return found

    async def require_other_mode_free(self, symbol: str, market: Market, mode: MarginMode) -> None:
        """OKX keeps both modes side by side, and a position stays in the one that it was opened in."""
        async with self.link.asking() as client:
            held = await self.okx_mode(client, symbol, market, mode)
        if held is not mode:
            words = f"okx: there is a {held.value.lower()} position in {symbol}: it keeps its margin mode"
            raise Rejected(words, reason=RejectionReason.PRECONDITION)

    async def adjust_margin(self, symbol: str, side: PositionSide, amount: Decimal) -> None:
        """Post margin on an isolated position (above zero) or take some back, exactly as much as is said."""
        self.require(Feature.ADJUST_ISOLATED_MARGIN)
        market = self.markets().market(symbol)
        await self.changing(lambda client: MARGIN_CALLS[self.link.profile.broker](client, market, side, amount))

    async def borrow(self, asset: str, amount: Decimal) -> None:
        self.require(Feature.BORROW)
        async with self.link.asking(writes=True) as client:
            answer = await BORROW_CALLS[self.link.profile.broker](client, asset, amount)
            if self.link.profile.broker == "okx":
                self.loan_ids[asset] = str(answer["data"][0]["ordId"])

    async def repay(self, asset: str, amount: Decimal) -> None:
        self.require(Feature.BORROW)
        if self.link.profile.broker == "okx":
            await self.repay_okx(asset, amount)
            return
        async with self.link.asking(writes=True) as client:
            await REPAY_CALLS[self.link.profile.broker](client, asset, amount)

    async def repay_okx(self, asset: str, amount: Decimal) -> None:
        """Repaying names the loan: the one borrowed through this connection, else the one that the venue lists."""
        loan = self.loan_ids.get(asset)
        if loan is None:
            async with self.link.asking() as client:
                listed = await client.privateGetAccountVipLoanOrderList({"ccy": asset, "state": "2"})
                loan = next((str(row["ordId"]) for row in listed["data"]), None)
        if loan is None:
            raise Rejected(f"okx: there is no open loan of {asset}", reason=RejectionReason.NOT_FOUND)
        request = {"ccy": asset, "amt": written(amount), "side": "repay", "ordId": loan}
        async with self.link.asking(writes=True) as client:
            await client.privatePostAccountBorrowRepay(request)

    async def changing(self, ask: Callable[[Any], Awaitable[Any]]) -> None:
        """Ask for a change, once; that it was so already is success."""
        try:
            async with self.link.asking(writes=True) as client:
                await ask(client)
        except Unchanged:
            return

    async def read_back(self, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        """What the venue has now. It took the change, so not being able to look is Ambiguous."""
        try:
            async with self.link.asking() as client:
                return await ask(client)
        except (Unreachable, Denied) as fault:
            raise Ambiguous(f"set, and could not be read back: {fault.words}", code=fault.code) from None


def plain_number(leverage: Decimal) -> int | float:
    """Leverage is the one number that the client library wants as a number."""
    return int(leverage) if leverage == leverage.to_integral_value() else float(leverage)


async def account_id(client: Any) -> str:
    answer = await client.v1PrivatePostPrivateGetAccounts()
    return str(answer["result"]["master_account"]["uuid"])


def bybit_category(market: Market) -> str:
    return "inverse" if market["inverse"] else "linear"


# Reading back.


async def bybit_leverage(_: Leverage, client: Any, market: Market, symbol: str) -> Decimal:
    request = {"category": bybit_category(market), "symbol": market["id"]}
    rows = (await client.privateGetV5PositionList(request))["result"]["list"]
    return min(needed(row, "leverage") for row in rows)


async def binance_leverage(_: Leverage, client: Any, market: Market, symbol: str) -> Decimal:
    rows = await client.fapiPrivateGetSymbolConfig({"symbol": market["id"]})
    return next(needed(row, "leverage") for row in rows if row["symbol"] == market["id"])


async def okx_leverage(settings: Leverage, client: Any, market: Market, symbol: str) -> Decimal:
    mode = await settings.okx_mode(client, symbol, market)
    request = {"instId": market["id"], "mgnMode": mode.value.lower()}
    rows = (await client.privateGetAccountLeverageInfo(request))["data"]
    return min(needed(row, "lever") for row in rows)


async def cryptocom_leverage(_: Leverage, client: Any, market: Market, symbol: str) -> Decimal:
    """The client library has no name for this call, but knows how to sign it."""
    answer = await client.request("private/get-account-settings", ["v1", "private"], "POST", {})
    rows = answer["result"]
    rows = rows.get("data", [rows]) if isinstance(rows, Mapping) else rows
    return needed(first(rows, "the account's settings"), "leverage")


LEVERAGES: Mapping[str, Callable[[Leverage, Any, Market, str], Awaitable[Decimal]]] = {
    "bybit": bybit_leverage,
    "binance": binance_leverage,
    "okx": okx_leverage,
    "cryptocom": cryptocom_leverage,
}


async def bybit_mode(client: Any, market: Market) -> MarginMode:
    return MODES[(await client.privateGetV5AccountInfo())["result"]["marginMode"]]


async def binance_mode(client: Any, market: Market) -> MarginMode:
    rows = await client.fapiPrivateGetSymbolConfig({"symbol": market["id"]})
    return MODES[next(str(row["marginType"]).lower() for row in rows if row["symbol"] == market["id"])]


MODE_READERS: Mapping[str, Callable[[Any, Market], Awaitable[MarginMode]]] = {
    "bybit": bybit_mode,
    "binance": binance_mode,
}


# Posted margin and loans: the venues' own calls, because the client library would round the amounts.


async def bybit_margin(client: Any, market: Market, side: PositionSide, amount: Decimal) -> None:
    place = {"category": bybit_category(market), "symbol": market["id"], "positionIdx": BYBIT_LEGS[side]}
    await client.privatePostV5PositionAddMargin({**place, "margin": written(amount)})


async def binance_margin(client: Any, market: Market, side: PositionSide, amount: Decimal) -> None:
    request = {"symbol": market["id"], "amount": written(abs(amount)), "type": 1 if amount > 0 else 2}
    if side is not PositionSide.NET:
        request["positionSide"] = BINANCE_LEGS[side]
    await client.fapiPrivatePostPositionMargin(request)


async def okx_margin(client: Any, market: Market, side: PositionSide, amount: Decimal) -> None:
    request = {"instId": market["id"], "posSide": OTHER_LEGS[side], "amt": written(abs(amount))}
    await client.privatePostAccountPositionMarginBalance({**request, "type": "add" if amount > 0 else "reduce"})


MARGIN_CALLS: Mapping[str, Callable[[Any, Market, PositionSide, Decimal], Awaitable[None]]] = {
    "bybit": bybit_margin,
    "binance": binance_margin,
    "okx": okx_margin,
}


def binance_loan(kind: str) -> Callable[[Any, str, Decimal], Awaitable[Any]]:
    def call(client: Any, asset: str, amount: Decimal) -> Awaitable[Any]:
        request = {"asset": asset, "isIsolated": "FALSE", "amount": written(amount), "type": kind}
        found: Awaitable[Any] = client.sapiPostMarginBorrowRepay(request)
        return found

    return call


BORROW_CALLS: Mapping[str, Callable[[Any, str, Decimal], Awaitable[Any]]] = {
    "bybit": lambda client, asset, amount: client.privatePostV5AccountBorrow(
        {"coin": asset, "amount": written(amount)}
    ),
    "binance": binance_loan("BORROW"),
    "okx": lambda client, asset, amount: client.privatePostAccountBorrowRepay(
        {"ccy": asset, "amt": written(amount), "side": "borrow"}
    ),
}
REPAY_CALLS: Mapping[str, Callable[[Any, str, Decimal], Awaitable[Any]]] = {
    "bybit": lambda client, asset, amount: client.privatePostV5AccountNoConvertRepay(
        {"coin": asset, "amount": written(amount)}
    ),
    "binance": binance_loan("REPAY"),
}
