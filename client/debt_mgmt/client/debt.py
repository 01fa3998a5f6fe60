"""Borrowed money: loans, repayments, what is owed, what was charged for it, and what borrowing costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from debt_mgmt.client.answers import Answer, Outcome, Revision
from debt_mgmt.client.call import Call, Pages, command, one_page, pages, part, query
from debt_mgmt.client.decimals import Number, decimal
from debt_mgmt.client.enums import Lender, RiskLevel
from debt_mgmt.client.figures import MarginFigures
from debt_mgmt.client.leverage import VenueRequest
from debt_mgmt.client.methods import Methods, history, listing, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import debt_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """What an account owes in one asset, in that asset."""

    account_id: str
    asset: str
    principal: Decimal
    """Borrowed and not paid back."""
    accrued_interest: Decimal
    """Charged and not paid."""
    annual_rate: Decimal | None
    """Present rate per year, as fraction of the principal. None: the lender has not told it."""
    lender: Lender
    interest_clock: str | None
    """Name of the rule by which interest is charged, such as `binance_hourly`."""
    open_time: datetime
    """When it was first borrowed."""
    last_charge_time: datetime | None
    next_charge_time: datetime | None
    value: Decimal | None
    """Principal + interest in the account currency. None without a price."""
    separate_wallet: bool
    """Owed in a wallet of the broker that backs no position: in no figure of equity, margin or collateral."""

    @property
    def owed(self) -> Decimal:
        """Principal + interest, in the asset."""
        return self.principal + self.accrued_interest


@dataclass(frozen=True, slots=True, kw_only=True)
class BorrowOutcome(Outcome):
    """The loan, or why not."""

    debt: Debt | None
    """The debt afterwards."""
    largest_amount: Decimal | None
    """Most that could be borrowed before this request, in the asset."""
    before: MarginFigures
    after: MarginFigures
    """When refused, as it would have been."""
    venue_request: VenueRequest | None
    """What the broker said, who lends to TESTNET and LIVE accounts. None on SANDBOX, and when the rules refused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepayOutcome(Outcome):
    """What was paid, in the asset, or why not."""

    interest_paid: Decimal | None
    principal_paid: Decimal | None
    debt: Debt | None
    """The debt afterwards. None: nothing is owed any more."""
    after: MarginFigures
    venue_request: VenueRequest | None
    """As of a loan. Until it is CONFIRMED nothing was paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebtSummary(Answer):
    """What is owed, what secures it and what it costs. An amount is None when it is not known for every account."""

    currency: str
    borrowed: Decimal | None
    """Principal owed, in separate wallets too."""
    collateral: Decimal | None
    """Collateral value of the wallet balances."""
    accrued_interest: Decimal | None
    daily_cost: Decimal | None
    """Interest that a day costs at the present rates."""
    debt_to_collateral: Decimal | None
    """(borrowed + accrued_interest − separate_debt) ÷ collateral."""
    available_collateral: Decimal | None
    """max(0, equity − margin used)."""
    active_leveraged_positions: int
    """Open positions with leverage above 1."""
    exposure: Decimal | None
    """Notional of all open positions."""
    average_leverage: Decimal | None
    """Weighted by notional. None without positions."""
    maximum_leverage: Decimal | None
    level: RiskLevel
    """Worst among the accounts."""
    margin_utilization: Decimal | None
    maintenance_ratio: Decimal | None
    account_count: int
    separate_debt: Decimal | None
    """Of borrowed + accrued_interest, what is owed in wallets that back no position: see `Debt.separate_wallet`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestCharge:
    """One charge, in the asset: amount = principal × rate × periods, rounded up."""

    revision: Revision
    account_id: str
    asset: str
    charge_time: datetime
    """When it was due."""
    principal: Decimal
    """What it was charged on."""
    rate: Decimal
    """Per period."""
    periods: int
    amount: Decimal
    accrued_interest: Decimal
    """Owed afterwards."""
    interest_clock: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BorrowRate:
    """A rate at which an account can borrow."""

    asset: str
    annual_rate: Decimal
    daily_rate: Decimal
    interest_clock: str
    available_amount: Decimal | None
    """Most that this account could borrow now, in the asset."""
    effective_time: datetime


class DebtMethods(Methods):
    """Keeps the books on borrowed money and its interest."""

    @unary
    def borrow(
        self,
        account_id: str,
        asset: str,
        amount: Number,
        *,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[BorrowOutcome]:
        """Borrows an asset, if margin and limits allow it; the principal is added to the wallet balance.

        A TESTNET or LIVE account borrows from its broker: see `venue_request`.
        """
        request = message(
            pb.BorrowRequest,
            request_id=request_id,
            account_id=account_id,
            asset=asset,
            amount=decimal(amount, "amount"),
        )
        return command(self.raw.debt.Borrow, request, BorrowOutcome, timeout)

    @unary
    def repay(
        self,
        account_id: str,
        asset: str,
        amount: Number | None = None,
        *,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[RepayOutcome]:
        """Pays back an amount, or all that is owed where none is named: interest first, then principal."""
        request = message(
            pb.RepayRequest,
            request_id=request_id,
            account_id=account_id,
            asset=asset,
            amount=None if amount is None else decimal(amount, "amount"),
        )
        return command(self.raw.debt.Repay, request, RepayOutcome, timeout)

    @unary
    def debt_summary(self, account_id: str, *, timeout: Timeout = None) -> Call[DebtSummary]:
        """What an account owes, what secures it and what it costs."""
        request = pb.GetDebtSummaryRequest(account_id=account_id)
        return query(self.raw.debt.GetDebtSummary, request, part(DebtSummary, "summary"), timeout)

    @listing
    def debt_summaries(self, *, owner: str | None = None, timeout: Timeout = None) -> Pages[DebtSummary]:
        """The same over an owner's accounts, or all that the caller may see: one per currency."""
        request = message(pb.GetDebtSummaryRequest, owner=owner)
        return one_page(self.raw.debt.GetDebtSummary, request, "by_currency", DebtSummary, timeout)

    @listing
    def debts(self, account_id: str | None = None, *, asset: str | None = None, timeout: Timeout = None) -> Pages[Debt]:
        """Debts by account and asset; of all accounts that the caller may see, where none is named."""
        request = message(pb.ListDebtsRequest, account_id=account_id, asset=asset)
        return pages(self.raw.debt.ListDebts, request, lambda page: page.debts, Debt, timeout)

    @history
    def interest_charges(
        self,
        account_id: str,
        *,
        asset: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        limit: int | None = None,
        timeout: Timeout = None,
    ) -> Pages[InterestCharge]:
        """Charges with their working, newest first, due from `start_time`, inclusive, to `end_time`, exclusive."""
        request = message(
            pb.ListInterestChargesRequest,
            account_id=account_id,
            asset=asset,
            start_time=start_time,
            end_time=end_time,
        )
        return pages(
            self.raw.debt.ListInterestCharges, request, lambda page: page.charges, InterestCharge, timeout, limit
        )

    @listing
    def borrow_rates(
        self, account_id: str, *, assets: Sequence[str] = (), timeout: Timeout = None
    ) -> Pages[BorrowRate]:
        """The rates at which an account can borrow from the house, by asset; only of `assets`, where any are named.

        None for TESTNET and LIVE accounts, whose broker has rates of its own.
        """
        request = pb.ListBorrowRatesRequest(account_id=account_id, assets=assets)
        return pages(self.raw.debt.ListBorrowRates, request, lambda page: page.rates, BorrowRate, timeout)
