"""A second guard for what collateral and debts are valued by: one deviating print moves no account's equity at once."""

from datetime import timedelta
from decimal import Decimal

from debt_mgmt.core.market import HeldPrice, Mark


class CollateralGuard:
    """Holds the last trusted price of an asset while a print that deviates from it waits for confirmation.

    Confirmed is what another source prints too, or what the same source goes on printing for `hold`. Positions follow
    their own mark meanwhile; `held` is what assets are valued by instead, by symbol.
    """

    def __init__(self, deviation: Decimal, hold: timedelta) -> None:
        """`deviation` is the fraction of the trusted price beyond which a print must be confirmed."""
        self.deviation = deviation
        self.hold = hold
        self.trusted: dict[str, Mark] = {}
        self.held: dict[str, HeldPrice] = {}

    def look(self, mark: Mark) -> bool:
        """Take a mark in; True where what the symbol's asset is valued by is now held, or was until now."""
        symbol = mark.symbol
        waiting, trusted = self.held.get(symbol), self.trusted.get(symbol)
        if trusted is None or trusted.recorded is not mark.recorded or not self.deviates(trusted, mark):
            self.trust(mark)
            return waiting is not None
        if waiting is None or self.deviates(waiting.printed, mark):
            self.held[symbol] = HeldPrice(trusted, mark, mark.received_at if waiting is None else waiting.since)
            return True
        first = waiting.printed
        if mark.source != first.source or mark.source_time - first.source_time >= self.hold:
            self.trust(mark)
        return True

    def trust(self, mark: Mark) -> None:
        self.trusted[mark.symbol] = mark
        self.held.pop(mark.symbol, None)

    def deviates(self, before: Mark, mark: Mark) -> bool:
        return abs(mark.price - before.price) > self.deviation * before.price
