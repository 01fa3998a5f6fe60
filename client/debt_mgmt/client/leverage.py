"""Leverage, margin mode and isolated margin. What is above a cap is refused with the cap named, never lowered."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from debt_mgmt.client.answers import Outcome
from debt_mgmt.client.call import Call, Pages, command, pages, query
from debt_mgmt.client.decimals import Number, decimal
from debt_mgmt.client.enums import LeverageCapSource, LeverageState, MarginMode, PositionSide
from debt_mgmt.client.figures import MarginFigures, Position
from debt_mgmt.client.market import RiskTier
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message, read
from debt_mgmt.v1 import leverage_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class LeverageCap:
    """Highest leverage that one source allows."""

    source: LeverageCapSource
    maximum: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LeverageSetting:
    """A symbol's leverage on an account."""

    symbol: str
    leverage: Decimal
    """Leverage that the margin is computed with."""
    is_default: bool
    """True: nothing was set; `leverage` is the configured default."""
    state: LeverageState
    requested_leverage: Decimal | None
    """Leverage asked of the venue. None unless REQUESTED or REFUSED."""
    refusal: str | None
    """The venue's words when REFUSED."""
    maximum: Decimal
    """Highest leverage possible now: the lowest of `caps`."""
    caps: tuple[LeverageCap, ...]
    """Every cap that applies, lowest first."""
    margin_mode: MarginMode


@dataclass(frozen=True, slots=True, kw_only=True)
class LeverageLimits:
    """The caps of one instrument."""

    symbol: str
    account_maximum: Decimal
    broker_maximum: Decimal
    instrument_maximum: Decimal
    maximum: Decimal
    """Highest leverage possible in the first tier: the lowest of the above and the tier's."""
    leverage_step: Decimal | None
    """None: any."""
    tiers: tuple[RiskTier, ...]
    """Ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueRequest:
    """A change, a loan or a repayment that the venue of a TESTNET or LIVE account was asked for, once."""

    change_id: str
    state: LeverageState
    """REQUESTED: not answered yet, look again. CONFIRMED: in force. REFUSED: not in force."""
    refusal: str | None
    """The venue's words when REFUSED."""
    refusal_code: str | None
    """The venue's code when REFUSED, or NOT_SENT or NOT_CONFIRMED where it gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLeverageOutcome(Outcome):
    """The leverage set, or why not."""

    setting: LeverageSetting
    """Afterwards; with validate_only as it would be; when refused as it is."""
    before: MarginFigures
    after: MarginFigures
    """The account afterwards; when refused, as it would have been."""
    venue_request: VenueRequest | None
    """What the venue said. None on SANDBOX, with validate_only, and when the rules refused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMarginModeOutcome(Outcome):
    """The margin mode set, or why not."""

    setting: LeverageSetting
    """The symbol's setting afterwards."""
    venue_request: VenueRequest | None
    """What the venue said. None on SANDBOX, and when the rules refused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustIsolatedMarginOutcome(Outcome):
    """The margin moved, or why not."""

    position: Position | None
    """The position afterwards. None when there is none."""
    removable: Decimal | None
    """Most that could be taken back now, in settlement currency."""
    after: MarginFigures
    """The account afterwards."""
    venue_request: VenueRequest | None
    """What the venue said. None on SANDBOX, and when the rules refused it."""


class LeverageMethods(Methods):
    """Shows and sets leverage, margin mode and isolated margin."""

    @unary
    def leverage(self, account_id: str, symbol: str, *, timeout: Timeout = None) -> Call[LeverageSetting]:
        """A symbol's leverage and where its maximum comes from."""
        request = pb.GetLeverageRequest(account_id=account_id, symbol=symbol)
        send = self.raw.leverage.GetLeverage
        return query(send, request, lambda found: read(LeverageSetting, found.setting), timeout)

    @listing
    def leverages(self, account_id: str, *, timeout: Timeout = None) -> Pages[LeverageSetting]:
        """Leverage by symbol, for symbols with a setting, a position or a reservation."""
        request = pb.ListLeverageRequest(account_id=account_id)
        return pages(self.raw.leverage.ListLeverage, request, lambda page: page.settings, LeverageSetting, timeout)

    @unary
    def set_leverage(
        self,
        account_id: str,
        symbol: str,
        leverage: Number,
        *,
        validate_only: bool = False,
        broker: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[SetLeverageOutcome]:
        """Sets a symbol's leverage. An open position is margined anew first; refused if it would not fit.

        `validate_only` decides and changes nothing. `broker` is the one that the caller believes the account is at:
        another one is InvalidRequest.
        """
        request = message(
            pb.SetLeverageRequest,
            request_id=request_id,
            account_id=account_id,
            symbol=symbol,
            leverage=decimal(leverage, "leverage"),
            validate_only=validate_only,
            broker=broker,
        )
        return command(self.raw.leverage.SetLeverage, request, SetLeverageOutcome, timeout)

    @unary
    def set_margin_mode(
        self,
        account_id: str,
        symbol: str,
        margin_mode: MarginMode | str,
        *,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[SetMarginModeOutcome]:
        """Sets a symbol's margin mode. Refused while it has a position or a reservation."""
        request = message(
            pb.SetMarginModeRequest,
            request_id=request_id,
            account_id=account_id,
            symbol=symbol,
            margin_mode=margin_mode,
        )
        return command(self.raw.leverage.SetMarginMode, request, SetMarginModeOutcome, timeout)

    @unary
    def adjust_isolated_margin(
        self,
        account_id: str,
        symbol: str,
        amount: Number,
        *,
        position_side: PositionSide | str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[AdjustIsolatedMarginOutcome]:
        """Adds margin to an isolated position, or takes some back when `amount` is negative; in settlement currency."""
        request = message(
            pb.AdjustIsolatedMarginRequest,
            request_id=request_id,
            account_id=account_id,
            symbol=symbol,
            position_side=position_side,
            amount=decimal(amount, "amount"),
        )
        return command(self.raw.leverage.AdjustIsolatedMargin, request, AdjustIsolatedMarginOutcome, timeout)

    @listing
    def leverage_limits(
        self, account_id: str, *, symbols: Sequence[str] = (), timeout: Timeout = None
    ) -> Pages[LeverageLimits]:
        """The caps on leverage by instrument; only those in `symbols`, where any are named."""
        request = pb.ListLeverageLimitsRequest(account_id=account_id, symbols=symbols)
        send = self.raw.leverage.ListLeverageLimits
        return pages(send, request, lambda page: page.limits, LeverageLimits, timeout)
