"""Margin of accounts: sums, the figures with their working, and positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from debt_mgmt.client.answers import Answer
from debt_mgmt.client.call import Call, Pages, one_page, pages, part, query
from debt_mgmt.client.enums import RiskLevel, TradingState
from debt_mgmt.client.figures import Mark, Position, ShockDistance, Thresholds
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import margin_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio(Answer):
    """Sums over accounts that are valued in one currency. An amount is None when it is not known for every account."""

    currency: str
    total_value: Decimal | None
    """Wallet balances at full price, borrowed money included, plus unrealized PnL; nothing is subtracted."""
    margin_used: Decimal | None
    """Initial margin of positions and reservations."""
    margin_available: Decimal | None
    """Sum over accounts of max(0, equity − margin used)."""
    margin_utilization: Decimal | None
    """Margin used ÷ equity. None also where equity is not above zero while margin is used."""
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal | None
    """Since the accounts were opened or last reset, without fees, funding and interest."""
    equity: Decimal | None
    """Collateral value + unrealized PnL − debt."""
    debt: Decimal | None
    """Principal + accrued interest owed."""
    account_count: int
    open_positions: int
    stale: bool
    """True: some price is older than allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginStatus(Answer):
    """All figures of an account's margin, in the account's currency.

    An amount is None when a price that it needs is missing; with old prices it is computed and `stale` is true.
    """

    account_id: str
    currency: str
    equity: Decimal | None
    """collateral_value + unrealized_pnl − debt."""
    wallet_balance: Decimal | None
    """Wallet balances at full price."""
    collateral_value: Decimal | None
    """Wallet balances after haircuts; a negative balance counts in full."""
    total_value: Decimal | None
    """wallet_balance + unrealized_pnl; neither haircuts nor debt are subtracted."""
    margin_used: Decimal | None
    """initial_margin_positions + initial_margin_reservations."""
    margin_available: Decimal | None
    """max(0, equity − margin_used)."""
    margin_utilization: Decimal | None
    """margin_used ÷ equity; high is bad. None also where equity is not above zero while margin is used: that counts as
    above every threshold."""
    initial_margin_positions: Decimal | None
    initial_margin_reservations: Decimal | None
    """What reservations add: per symbol the larger of the two sides, after what the position offsets."""
    maintenance_margin: Decimal | None
    maintenance_ratio: Decimal | None
    """maintenance_margin ÷ equity; venues liquidate at 1. None as `margin_utilization`."""
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal | None
    """Since the account was opened or last reset, without fees, funding and interest."""
    realized_pnl_today: Decimal | None
    isolated_margin: Decimal | None
    """Margin posted on isolated positions."""
    debt: Decimal | None
    """Principal + accrued interest owed."""
    level: RiskLevel
    trading_state: TradingState
    trading_state_reason: str | None
    """Why it is not ACTIVE, in words."""
    open_positions: int
    open_reservations: int
    shocks: tuple[ShockDistance, ...]
    """How far all prices may move to each level. Empty when prices are missing."""
    thresholds: Thresholds
    marks: tuple[Mark, ...]
    """Prices that the figures use."""
    stale: bool
    """True: a price that the figures need is missing or older than allowed."""
    stale_symbols: tuple[str, ...]


class MarginMethods(Methods):
    """Shows what accounts have, hold and use."""

    @unary
    def portfolio(self, account_id: str, *, timeout: Timeout = None) -> Call[Portfolio]:
        """The sums of one account: total_value, margin_used, margin_available, margin_utilization and PnL."""
        request = pb.GetPortfolioRequest(account_id=account_id)
        return query(self.raw.margin.GetPortfolio, request, part(Portfolio, "portfolio"), timeout)

    @listing
    def portfolios(self, *, owner: str | None = None, timeout: Timeout = None) -> Pages[Portfolio]:
        """The sums of an owner's accounts, or of all that the caller may see: one per currency."""
        request = message(pb.GetPortfolioRequest, owner=owner)
        return one_page(self.raw.margin.GetPortfolio, request, "by_currency", Portfolio, timeout)

    @unary
    def margin_status(self, account_id: str, *, timeout: Timeout = None) -> Call[MarginStatus]:
        """All figures of an account's margin, and how far prices may move to each level."""
        request = pb.GetMarginStatusRequest(account_id=account_id)
        return query(self.raw.margin.GetMarginStatus, request, part(MarginStatus, "status"), timeout)

    @listing
    def positions(self, account_id: str, *, symbols: Sequence[str] = (), timeout: Timeout = None) -> Pages[Position]:
        """An account's open positions by symbol; only those in `symbols`, where any are named."""
        request = pb.ListPositionsRequest(account_id=account_id, symbols=symbols)
        return pages(self.raw.margin.ListPositions, request, lambda page: page.positions, Position, timeout)
