"""The words for directions and modes: order sides, position sides, position modes, margin modes."""

from enum import StrEnum


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class PositionSide(StrEnum):
    NET = "NET"
    LONG = "LONG"
    SHORT = "SHORT"


class PositionMode(StrEnum):
    ONE_WAY = "ONE_WAY"
    HEDGE = "HEDGE"


class MarginMode(StrEnum):
    CROSS = "CROSS"
    ISOLATED = "ISOLATED"


def position_key(symbol: str, side: PositionSide) -> str:
    return symbol if side is PositionSide.NET else f"{symbol}|{side.value}"
