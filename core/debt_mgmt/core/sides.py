"""The words for directions and modes: order sides, position sides, position modes, margin modes."""

from enum import StrEnum


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    sign: int
    """1 to buy, -1 to sell."""

    def __init__(self, name: str) -> None:
        self.sign = 1 if name == "BUY" else -1

    @property
    def opposite(self) -> "Side":
        return SELL if self is BUY else BUY


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


# Members under names of their own: Python 3.11 takes 100 ns to look one up in its class, and a check looks up many.
BUY, SELL = Side.BUY, Side.SELL
NET, LONG = PositionSide.NET, PositionSide.LONG
HEDGE = PositionMode.HEDGE
CROSS, ISOLATED = MarginMode.CROSS, MarginMode.ISOLATED


def position_key(symbol: str, side: PositionSide) -> str:
    return symbol if side is NET else f"{symbol}|{side.value}"
