"""Capital of an account: balances, deposits, withdrawals and resets."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from debt_mgmt.client.answers import Answer, Outcome
from debt_mgmt.client.call import Call, Pages, command, pages, query
from debt_mgmt.client.decimals import Number, decimal
from debt_mgmt.client.enums import FundInterval
from debt_mgmt.client.figures import AssetAmount, MarginFigures
from debt_mgmt.client.methods import Methods, history, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message, read
from debt_mgmt.v1 import fund_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """An account's capital.

    With no open PnL: available_balance + used_margin − realized_pnl = starting_capital, but for deposits, withdrawals,
    fees, funding and interest since the last reset.
    """

    account_id: str
    currency: str
    balances: tuple[AssetAmount, ...]
    """Wallet balances by asset; those at zero are left out."""
    starting_capital: AssetAmount | None
    """Capital that a reset restores."""
    available_balance: Decimal | None
    """max(0, equity − margin used)."""
    used_margin: Decimal | None
    """Initial margin of positions and reservations."""
    collateral_value: Decimal | None
    """Wallet balances after haircuts."""
    realized_pnl: Decimal | None
    """Since the account was opened or last reset, without fees, funding and interest."""
    unrealized_pnl: Decimal | None
    last_reset_time: datetime | None
    next_reset_time: datetime | None
    reset_count: int
    realized_pnl_today: Decimal | None
    """Since the day began, as `realized_pnl`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfitAndLoss:
    """What changed equity, by cause, in the account currency; what raised it is positive.

    The parts sum to `total` exactly.
    """

    price: Decimal
    """Moves of prices, realized or not, and of what the assets held count for as collateral."""
    funding: Decimal
    """Received less paid."""
    interest: Decimal
    fees: Decimal
    transfers: Decimal
    """Deposits less withdrawals, and resets."""
    liquidation_cost: Decimal
    """Fees and slippage of forced reductions; what insurance took over is positive."""
    synced: Decimal
    """What the venue of a TESTNET or LIVE account had otherwise than this service knew by then."""
    total: Decimal
    """Change of equity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FundHistoryEntry:
    """One interval, in the account currency. What is None had no price."""

    start_time: datetime
    end_time: datetime
    """Exclusive. The last interval may still be under way."""
    equity: Decimal | None
    """At the end, with what stands behind isolated positions."""
    wallet_balance: Decimal | None
    """At full price, at the end."""
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal | None
    """In the interval, without fees, funding and interest."""
    profit_and_loss: ProfitAndLoss | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodProfit(Answer):
    """A whole period."""

    profit_and_loss: ProfitAndLoss | None
    """None where nothing was recorded in the period, or a price was missing."""
    realized_pnl: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositOutcome(Outcome):
    """The deposit, or why not."""

    balance: AssetAmount
    """The asset's balance afterwards."""
    after: MarginFigures
    """The account afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawOutcome(Outcome):
    """The withdrawal, or why not."""

    balance: AssetAmount
    """The asset's balance afterwards."""
    after: MarginFigures
    """The account afterwards; when refused, as it is."""
    largest_amount: Decimal | None
    """Most that could be taken, in the asset. Only when refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetFundsOutcome(Outcome):
    """The reset, or why not."""

    funds: Funds
    """The capital afterwards."""


class FundMethods(Methods):
    """Keeps an account's capital."""

    @unary
    def funds(self, account_id: str, *, timeout: Timeout = None) -> Call[Funds]:
        """An account's capital and its use."""
        request = pb.GetFundsRequest(account_id=account_id)
        return query(self.raw.fund.GetFunds, request, lambda found: read(Funds, found.funds), timeout)

    @unary
    def deposit(
        self,
        account_id: str,
        asset: str,
        amount: Number,
        *,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[DepositOutcome]:
        """Adds money to a SANDBOX account."""
        request = message(
            pb.DepositRequest,
            request_id=request_id,
            account_id=account_id,
            asset=asset,
            amount=decimal(amount, "amount"),
            reason=reason,
        )
        return command(self.raw.fund.Deposit, request, DepositOutcome, timeout)

    @unary
    def withdraw(
        self,
        account_id: str,
        asset: str,
        amount: Number,
        *,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[WithdrawOutcome]:
        """Takes money from a SANDBOX account; refused below what margin and debt need."""
        request = message(
            pb.WithdrawRequest,
            request_id=request_id,
            account_id=account_id,
            asset=asset,
            amount=decimal(amount, "amount"),
            reason=reason,
        )
        return command(self.raw.fund.Withdraw, request, WithdrawOutcome, timeout)

    @unary
    def reset_funds(
        self, account_id: str, *, reason: str | None = None, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[ResetFundsOutcome]:
        """Sets a SANDBOX account back to its starting capital, without positions, reservations, debts and PnL."""
        request = message(pb.ResetFundsRequest, request_id=request_id, account_id=account_id, reason=reason)
        return command(self.raw.fund.ResetFunds, request, ResetFundsOutcome, timeout)

    @history
    def fund_history(
        self,
        account_id: str,
        *,
        interval: FundInterval = FundInterval.DAY,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        limit: int | None = None,
        timeout: Timeout = None,
    ) -> Pages[FundHistoryEntry]:
        """Capital and profit per interval, newest first; `limit` ends the list early.

        Intervals that end after `start_time` and begin before `end_time`.
        """
        request = message(
            pb.ListFundHistoryRequest,
            account_id=account_id,
            interval=FundInterval(interval),
            start_time=start_time,
            end_time=end_time,
        )
        return pages(
            self.raw.fund.ListFundHistory, request, lambda page: page.entries, FundHistoryEntry, timeout, limit
        )

    @unary
    def profit_and_loss(
        self,
        account_id: str,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        timeout: Timeout = None,
    ) -> Call[PeriodProfit]:
        """What changed an account's equity in a period, by cause, counted in whole hours."""
        request = message(
            pb.ListFundHistoryRequest,
            account_id=account_id,
            interval=FundInterval.HOUR,
            start_time=start_time,
            end_time=end_time,
            page_size=1,
        )

        def interpret(response: pb.ListFundHistoryResponse) -> PeriodProfit:
            whole = read(ProfitAndLoss, response.total) if response.HasField("total") else None
            return read(PeriodProfit, response, profit_and_loss=whole)

        return query(self.raw.fund.ListFundHistory, request, interpret, timeout)
