"""`debt`, `borrow`, `repay`, `funds`, `pnl` and `history`: figures in words and units, and charts that can be read."""

import builtins
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import Result

from debt_mgmt.client import (
    AssetAmount,
    BorrowOutcome,
    BorrowRate,
    Debt,
    DebtSummary,
    FundHistoryEntry,
    FundInterval,
    Funds,
    InterestCharge,
    Lender,
    LeverageState,
    Listing,
    PeriodProfit,
    ProfitAndLoss,
    RefusalReason,
    RepayOutcome,
    RiskLevel,
    VenueRequest,
    Violation,
)
from debt_mgmt.server.cli.chart import HEIGHT, WIDTH, chart_of, ticks
from debt_mgmt.server.cli.chart_files import svg_of
from tests.server.cli.made import NOON, PLACE, FakeClient, figures, status

D = Decimal
Run = Callable[..., Result]
SVG = "{http://www.w3.org/2000/svg}"

OWED = Debt(
    account_id="demo",
    asset="USDT",
    principal=D("2500"),
    accrued_interest=D("0.022831050229"),
    annual_rate=D("0.08"),
    lender=Lender.HOUSE,
    interest_clock="binance_hourly",
    open_time=NOON,
    last_charge_time=NOON,
    next_charge_time=NOON + timedelta(hours=1),
    value=D("2500.022831050229"),
    separate_wallet=False,
)
SUMMARY = DebtSummary(
    revision=PLACE,
    as_of=NOON,
    currency="USDT",
    borrowed=D(2500),
    collateral=D(12500),
    accrued_interest=D("0.022831050229"),
    daily_cost=D("0.547945205479"),
    debt_to_collateral=D("0.20000183"),
    available_collateral=D("3959.32"),
    active_leveraged_positions=2,
    exposure=D("29946.68"),
    average_leverage=D("4.5"),
    maximum_leverage=D(5),
    level=RiskLevel.WARNING,
    margin_utilization=D("0.602"),
    maintenance_ratio=D("0.012"),
    account_count=1,
    separate_debt=D(0),
)
CHARGE = InterestCharge(
    revision=PLACE,
    account_id="demo",
    asset="USDT",
    charge_time=NOON,
    principal=D(2500),
    rate=D("0.000009132420091325"),
    periods=1,
    amount=D("0.022831050229"),
    accrued_interest=D("0.022831050229"),
    interest_clock="binance_hourly",
)
RATE = BorrowRate(
    asset="USDT",
    annual_rate=D("0.08"),
    daily_rate=D("0.000219178082191781"),
    interest_clock="binance_hourly",
    available_amount=D("7347.47"),
    effective_time=NOON,
)
FUNDS = Funds(
    account_id="demo",
    currency="USDT",
    balances=(AssetAmount("BTC", "0.5"), AssetAmount("USDT", 12500)),
    starting_capital=AssetAmount("USDT", 10000),
    available_balance=D("3959.32"),
    used_margin=D("5989.33"),
    collateral_value=D(36250),
    realized_pnl=D("120.5"),
    unrealized_pnl=D("-51.35"),
    last_reset_time=None,
    next_reset_time=NOON + timedelta(days=1),
    reset_count=3,
    realized_pnl_today=D("20.25"),
)


def profit(price: str, transfers: str = "0", **parts: str) -> ProfitAndLoss:
    given = {name: D(0) for name in ("funding", "interest", "fees", "liquidation_cost", "synced")}
    given |= {name: D(value) for name, value in parts.items()}
    return ProfitAndLoss(
        price=D(price),
        transfers=D(transfers),
        total=D(price) + D(transfers) + sum(given.values()),
        **given,
    )


def entry(number: int, equity: str | None, made: ProfitAndLoss | None) -> FundHistoryEntry:
    """The day `number` days after 1 January 2026."""
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
    return FundHistoryEntry(
        start_time=start,
        end_time=start + timedelta(days=1),
        equity=None if equity is None else D(equity),
        wallet_balance=None,
        unrealized_pnl=None,
        realized_pnl=None,
        profit_and_loss=made,
    )


HISTORY = (
    entry(4, "10190", profit("-20", fees="-1.5", interest="-8.5")),
    entry(3, "10220", profit("120", "100")),
    entry(2, "10000", None),
    entry(1, None, None),
    entry(0, "9900", profit("-100", "10000")),
)
"""As the service tells it, the newest first."""


class Bank(FakeClient):
    """Answers what it was made with."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(statuses=[status()])
        self.answers: dict[str, Any] = {
            "debts": [OWED],
            "charges": [CHARGE],
            "rates": [RATE],
            "summaries": [SUMMARY],
            "history": HISTORY,
            "whole": profit("0", "10100"),
            **answers,
        }
        self.asked: list[Any] = []

    def listing(self, name: str) -> Listing[Any]:
        return Listing(self.answers[name], PLACE, NOON)

    async def debts(self, account_id: str | None = None) -> Listing[Debt]:
        return self.listing("debts")

    async def debt_summary(self, account_id: str) -> DebtSummary:
        return SUMMARY

    async def debt_summaries(self, *, owner: str | None = None) -> Listing[DebtSummary]:
        return self.listing("summaries")

    async def borrow_rates(self, account_id: str) -> Listing[BorrowRate]:
        return self.listing("rates")

    async def interest_charges(self, account_id: str, *, limit: int | None = None) -> AsyncIterator[InterestCharge]:
        for one in self.answers["charges"]:
            yield one

    async def borrow(self, account_id: str, asset: str, amount: Decimal, *, request_id: str | None) -> BorrowOutcome:
        self.asked.append((account_id, asset, amount, request_id))
        outcome: BorrowOutcome = self.answers["outcome"]
        return outcome

    async def repay(
        self, account_id: str, asset: str, amount: Decimal | None, *, request_id: str | None
    ) -> RepayOutcome:
        self.asked.append((account_id, asset, amount, request_id))
        outcome: RepayOutcome = self.answers["outcome"]
        return outcome

    async def funds(self, account_id: str) -> Funds:
        found: Funds = self.answers.get("funds", FUNDS)
        return found

    async def fund_history(self, account_id: str, **wanted: Any) -> AsyncIterator[FundHistoryEntry]:
        self.asked.append(wanted)
        for one in self.answers["history"][: wanted["limit"]]:
            yield one

    async def profit_and_loss(self, account_id: str, **period: Any) -> PeriodProfit:
        self.asked.append(period)
        return PeriodProfit(revision=PLACE, as_of=NOON, profit_and_loss=self.answers["whole"], realized_pnl=D("120.5"))


def plain(result: Result) -> str:
    """What was printed, with blanks made one."""
    return " ".join(result.stdout.split())


# debts


def test_one_account_shows_what_it_owes_its_charges_and_rates(run: Run) -> None:
    result = run(Bank(), "debt", "demo")
    assert result.exit_code == 0, result.output
    said = plain(result)
    for words in (
        "borrowed 2,500.00 USDT",
        "a day's interest 0.54794521 USDT at the present rates",
        "debt to collateral 20.00 %",
        "leveraged positions 2 5 x at most",
        "average leverage 4.5 x weighted by notional",
        "margin utilization 60.2 %",
        "worst level WARNING",
        "USDT 2,500 0.022831050229 8.00 % 2,500.02 binance_hourly 2026-01-05 13:00",
        "2026-01-05 12:00:00 USDT 2,500 0.000009132420091325 1 0.022831050229 0.022831050229",
        "USDT 8.00 % 0.02192 % 7,347.47 binance_hourly 2026-01-05 12:00",
    ):
        assert words in said, words


def test_all_accounts_show_their_sums_and_debts(run: Run) -> None:
    said = plain(run(Bank(), "debt"))
    assert "1 account valued in USDT" in said
    assert "demo USDT 2,500 0.022831050229 8.00 % 2,500.02" in said


def test_a_lender_is_named_where_it_is_not_the_house(run: Run) -> None:
    lent = replace(OWED, lender=Lender.BROKER, annual_rate=None, interest_clock=None, value=None)
    assert "demo USDT 2,500 0.022831050229 – – broker" in plain(run(Bank(debts=[lent]), "debt"))


def test_nothing_owed_is_said(run: Run) -> None:
    said = plain(run(Bank(debts=[], charges=[], rates=[]), "debt", "demo"))
    assert "nothing is owed no interest was charged yet the house lends nothing to this account" in said
    assert "no accounts yet" in plain(run(Bank(summaries=[]), "debt"))


def test_what_is_not_known_is_a_dash_and_never_zero(run: Run) -> None:
    class Blind(Bank):
        async def debt_summary(self, account_id: str) -> DebtSummary:
            return replace(SUMMARY, borrowed=None, daily_cost=None, debt_to_collateral=None, average_leverage=None)

    said = plain(run(Blind(), "debt", "demo"))
    assert "borrowed – USDT" in said and "debt to collateral –" in said and "average leverage –" in said


def outcome(kind: type[Any], *violations: Violation, **fields: Any) -> Any:
    if "venue_request" in kind.__dataclass_fields__:
        fields = {"venue_request": None, **fields}
    return kind(revision=PLACE, as_of=NOON, replayed=False, accepted=not violations, violations=violations, **fields)


SHORT = Violation(
    reason=RefusalReason.INSUFFICIENT_MARGIN,
    message="margin required 5500, available 3730",
    value=D(5500),
    limit=D(3730),
    headroom=D(3730),
    subject="USDT",
)


def test_a_loan_is_told_with_the_debt_and_the_account_before_and_after(run: Run) -> None:
    lent = outcome(
        BorrowOutcome, debt=OWED, largest_amount=D(9946), before=figures("100", "50"), after=figures("99", "50")
    )
    bank = Bank(outcome=lent)
    result = run(bank, "borrow", "demo", "USDT", "2500", "--request-id", "loan")
    assert result.exit_code == 0
    assert bank.asked == [("demo", "USDT", D(2500), "loan")]
    assert "BORROWED demo borrows 2,500 USDT" in plain(result)
    assert "owed now: 2,500 USDT and 0.022831050229 USDT interest; next charge 2026-01-05 13:00:00 UTC" in plain(result)
    assert "most that could be borrowed before: 9,946 USDT" in plain(result)


def test_what_the_broker_says_to_a_loan_or_a_repayment_is_told_in_its_words(run: Run) -> None:
    asked = VenueRequest(change_id="1-7", state=LeverageState.REQUESTED, refusal=None, refusal_code=None)
    no = replace(asked, state=LeverageState.REFUSED, refusal="limit exceeded", refusal_code="110007")
    after = {"debt": replace(OWED, lender=Lender.BROKER), "after": figures("99", "50")}
    lent = outcome(BorrowOutcome, largest_amount=None, before=figures("100", "50"), venue_request=asked, **after)
    result = run(Bank(outcome=lent), "borrow", "demo", "USDT", "2500")
    assert result.exit_code == 0 and "ASKED demo borrows 2,500 USDT: the broker has not answered yet" in plain(result)
    paid = outcome(RepayOutcome, interest_paid=None, principal_paid=None, venue_request=no, **after)
    for bank, command in (
        (replace(lent, venue_request=no), ("borrow", "demo", "USDT", "9")),
        (paid, ("repay", "demo", "USDT")),
    ):
        result = run(Bank(outcome=bank), *command)
        assert result.exit_code == 1
        assert "REFUSED BY THE BROKER" in plain(result) and "limit exceeded (code 110007)" in plain(result)


def test_a_refused_loan_ends_with_status_1_and_says_the_most_that_fits(run: Run) -> None:
    refused = outcome(
        BorrowOutcome, SHORT, debt=None, largest_amount=D(7347), before=figures("100", "50"), after=figures("99", "50")
    )
    result = run(Bank(outcome=refused), "borrow", "demo", "USDT", "2500")
    assert result.exit_code == 1
    said = plain(result)
    assert "REFUSED demo borrows 2,500 USDT" in said and "INSUFFICIENT_MARGIN USDT 5,500 3,730 3,730" in said
    assert "7,347 USDT" in said
    blind = replace(refused, largest_amount=None)
    assert "not known: a price is missing" in plain(run(Bank(outcome=blind), "borrow", "demo", "USDT", "2500"))


def test_a_repayment_says_what_went_where(run: Run) -> None:
    paid = outcome(
        RepayOutcome, interest_paid=D("0.02"), principal_paid=D("99.98"), debt=None, after=figures("100", "50")
    )
    bank = Bank(outcome=paid)
    result = run(bank, "repay", "demo", "USDT")
    assert result.exit_code == 0 and bank.asked == [("demo", "USDT", None, None)]
    assert plain(result) == (
        "REPAID demo pays back 100 USDT: 0.02 interest, 99.98 principal nothing is owed in USDT any more"
    )
    refused = outcome(
        RepayOutcome, SHORT, interest_paid=None, principal_paid=None, debt=OWED, after=figures("100", "50")
    )
    assert run(Bank(outcome=refused), "repay", "demo", "USDT", "5").exit_code == 1


@pytest.mark.parametrize("amount", ["1e5", "much", "1,000"])
def test_an_amount_that_is_no_number_is_named(run: Run, amount: str) -> None:
    result = run(Bank(), "borrow", "demo", "USDT", amount)
    assert result.exit_code == 2 and "is no number" in result.output


# funds, profit and loss


def test_funds_are_shown_in_words_and_units(run: Run) -> None:
    said = plain(run(Bank(), "funds", "demo"))
    for words in (
        "wallet balance 0.50 BTC",
        "wallet balance 12,500.00 USDT",
        "unrealized -51.35 USDT",
        "realized today 20.25 USDT",
        "starting capital 10,000.00 USDT",
        "resets 3 last: never; next: 2026-01-06 12:00:00 UTC",
    ):
        assert words in said, words
    blind = replace(FUNDS, unrealized_pnl=None, balances=(), starting_capital=None, next_reset_time=None)
    said = plain(run(Bank(funds=blind), "funds", "demo"))
    assert "unrealized – USDT" in said and "wallet balance nothing" in said and "next: none planned" in said


def test_profit_and_loss_shows_today_beside_all_of_it(run: Run) -> None:
    bank = Bank(whole=profit("290", "10100", fees="-200"))
    said = plain(run(bank, "pnl", "demo"))
    for words in (
        "price -20.00 +290.00 moves of prices",
        "fees -1.50 -200.00",
        "transfers 0.00 +10,100.00",
        "change of equity -30.00 +10,190.00",
        "today began 2026-01-05 00:00 UTC",
        "20.25 USDT today, 120.50 USDT in all",
    ):
        assert words in said, words
    assert bank.asked[1]["interval"] is FundInterval.DAY and bank.asked[1]["start_time"] == NOON


def test_profit_and_loss_of_a_period_is_asked_for_and_named(run: Run) -> None:
    bank = Bank()
    said = plain(run(bank, "pnl", "demo", "--since", "2026-01-01", "--until", "2026-01-03T12:00"))
    assert "from 2026-01-01 00:00 UTC to 2026-01-03 12:00 UTC" in said
    assert bank.asked[0]["end_time"] == datetime(2026, 1, 3, 12, tzinfo=UTC)


def test_an_unknown_profit_is_said_to_be_unknown(run: Run) -> None:
    said = plain(run(Bank(whole=None), "pnl", "demo"))
    assert "change of equity -30.00 –" in said
    assert "in all: not known, a price was missing or nothing was recorded" in said


# the history


def test_the_history_is_a_table_with_the_causes_that_there_were(run: Run) -> None:
    result = run(Bank(), "history", "demo")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "begins (UTC) equity change price interest fees transfers" in lines
    shown = [line for line in lines if line.startswith("2026-01-0")]
    assert shown == [
        "2026-01-01 00:00 9,900.00 +9,900.00 -100.00 0.00 0.00 +10,000.00",
        "2026-01-02 00:00 – – – – – –",
        "2026-01-03 00:00 10,000.00 – – – – –",
        "2026-01-04 00:00 10,220.00 +220.00 +120.00 0.00 0.00 +100.00",
        "2026-01-05 00:00 10,190.00 -30.00 -20.00 -8.50 -1.50 0.00",
    ]
    assert "– is not known: a price was missing (2 days)" in lines


def test_no_history_is_said_and_no_picture_is_written(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "none.svg"
    result = run(Bank(history=()), "history", "demo", "--output", str(picture))
    assert result.exit_code == 0 and "no history of demo" in result.output and "was not written" in result.output
    assert not picture.exists()


@pytest.mark.parametrize("columns", [40, 70, 100, 200])
def test_the_plot_fits_the_terminal_and_says_its_scale(run: Run, columns: int) -> None:
    result = run(Bank(), "history", "demo", "--plot", columns=columns)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines) <= columns
    assert lines[0] == "Equity of demo in USDT"
    said = plain(result)
    assert "10,190.00 at the end, 9,900.00 to 10,220.00, -10.00 made in 3 days, 1 day not known" in said
    assert "9,900 ┤" in result.stdout and "└──" in result.stdout and "Jan 1" in result.stdout
    assert any("\u2801" <= sign <= "\u28ff" for sign in result.stdout), "no dot was set"


def test_a_plot_without_a_known_equity_says_so(run: Run) -> None:
    said = plain(run(Bank(history=(entry(1, None, None), entry(0, None, None))), "history", "demo", "--plot"))
    assert "2 days, none of them with a known equity" in said


def elements(document: str, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(document).iter(f"{SVG}{name}"))


def places(element: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in element.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def picture_of(history: Sequence[FundHistoryEntry]) -> str:
    return svg_of(chart_of("demo & co", "USDT", FundInterval.DAY, history, datetime(2026, 1, 6, tzinfo=UTC)))


def test_the_picture_has_a_line_that_breaks_where_nothing_is_known(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    result = run(Bank(), "history", "demo", "-o", str(picture))
    assert result.exit_code == 0 and "Equity of demo in USDT, 5 days" in result.output
    document = picture.read_text("utf-8")
    lines = [one for one in elements(document, "polyline") if one.attrib["stroke-width"] == "2"]
    assert [len(places(one)) for one in lines] == [3], "the first day stands alone, as a dot"
    assert len(elements(document, "circle")) == 2
    (line,) = lines
    xs, ys = zip(*places(line), strict=True)
    assert list(xs) == sorted(xs)
    assert ys[0] > ys[2] > ys[1], "10,000 lies below 10,190, which lies below 10,220"


def test_the_picture_keeps_within_its_frame_and_names_its_scale() -> None:
    document = picture_of(HISTORY)
    for one in (*elements(document, "polyline"), *elements(document, "polygon")):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places(one))
    words = [one.text for one in elements(document, "text")]
    assert "Equity of demo & co in USDT" in words
    assert {"9,900", "10,000", "10,300", "0", "Jan 1", "Jan 5"} <= set(words)
    bars = [one for one in elements(document, "polygon") if one.attrib["fill"] in ("#15803d", "#b91c1c")]
    assert [one.attrib["fill"] for one in bars] == ["#b91c1c", "#15803d", "#b91c1c"]


def test_one_interval_alone_is_drawn() -> None:
    assert len(elements(picture_of(HISTORY[:1]), "circle")) >= 1
    assert "no equity is known in this time" in picture_of(HISTORY[3:4])


def test_a_png_has_the_same_picture(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "demo.png"
    assert run(Bank(), "history", "demo", "-o", str(picture)).exit_code == 0
    with Image.open(picture) as image:
        assert image.size == (2 * WIDTH, 2 * HEIGHT)
        found = {color for _, color in image.convert("RGB").getcolors(1 << 24) or ()}
    assert {(29, 78, 216), (219, 234, 254), (21, 128, 61), (185, 28, 28), (255, 255, 255)} <= found


def test_a_png_without_pillow_says_what_to_install(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    result = run(Bank(), "history", "demo", "-o", str(tmp_path / "demo.png"))
    assert result.exit_code == 2 and "pip install 'debt-mgmt[plot]'" in result.output


def test_a_picture_of_another_kind_or_at_a_place_that_is_not_there_is_refused(run: Run, tmp_path: Path) -> None:
    unknown = run(Bank(), "history", "demo", "-o", str(tmp_path / "demo.gif"))
    assert unknown.exit_code == 2 and "neither a .svg nor a .png" in unknown.output
    nowhere = run(Bank(), "history", "demo", "-o", str(tmp_path / "no" / "demo.svg"))
    assert nowhere.exit_code == 2 and "can't be written" in nowhere.output


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("9900", "10220", ["9900", "10000", "10100", "10200", "10300"]),
        ("0", "1", ["0", "0.25", "0.50", "0.75", "1.00"]),
        ("-3", "8", ["-5", "0", "5", "10"]),
        ("5", "5", ["4.950", "4.975", "5.000", "5.025", "5.050"]),
        ("0", "0", ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_scales_have_round_numbers(low: str, high: str, expected: list[str]) -> None:
    found = ticks(D(low), D(high), 4)
    assert found == [D(one) for one in expected]
    assert found[0] <= D(low) and found[-1] >= D(high)


@pytest.mark.parametrize(
    ("arguments", "members"),
    [
        (["debt"], {"summaries", "debts"}),
        (["debt", "demo"], {"summary", "debts", "charges", "rates"}),
        (["funds", "demo"], {"funds"}),
        (["pnl", "demo"], {"currency", "today", "in_all", "realized_pnl_today"}),
        (["pnl", "demo", "--since", "1d"], {"currency", "period"}),
        (["history", "demo"], {"account_id", "currency", "interval", "entries"}),
        (["history", "demo", "--plot"], {"account_id", "currency", "interval", "entries"}),
    ],
)
def test_json_is_one_document_with_decimals_as_strings(run: Run, arguments: list[str], members: set[str]) -> None:
    result = run(Bank(), *arguments, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert set(told) == members
    if arguments[0] == "history":
        assert [one["equity"] for one in told["entries"]] == ["9900", None, "10000", "10220", "10190"]
        assert told["entries"][-1]["profit_and_loss"]["interest"] == "-8.5"
