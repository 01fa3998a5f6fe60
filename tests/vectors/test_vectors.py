"""Figures that exchanges and other systems publish, each reproduced by the core within the tolerance it was given with.

Every case of `margin_vectors.json` either runs here, by the prefix of its id, or is in `NOT_MODELLED` with the reason.
"""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.account_cases import RUNNERS

D = Decimal
CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "margin_vectors.json").read_text("utf-8"))

INTEREST = "needs interest on a loan: the core keeps no debts yet"
FUNDING = "needs funding payments between longs and shorts: the core has no such event yet"
EXCHANGE_OF_DEBT = "needs a venue that sells collateral to repay a negative balance: the core keeps no debts yet"
PORTFOLIO = "needs portfolio margin: stress scenarios over options, which the core has no model for"
EARLY_STOP = "needs a stop some way before the liquidation price: here reductions follow margin utilization instead"

NOT_MODELLED = {
    **dict.fromkeys(["ft-interest-1", "ft-interest-4", "ft-interest-6", "ft-interest-7", "ft-interest-8"], INTEREST),
    **dict.fromkeys([f"ft-trade-interest-{n}" for n in (1, 2, 4, 5, 7, 8, 9, 11, 13, 15, 16)], INTEREST),
    **dict.fromkeys([f"ft-profit-{n}" for n in (6, 7, 9, 10)], INTEREST),
    **dict.fromkeys([f"ft-openclose-{n}" for n in (2, 3, 4, 5)], INTEREST),
    **dict.fromkeys(["kraken-openpos", "doc-binance-interest-old", "doc-cdc-interest-new"], INTEREST),
    **dict.fromkeys([f"ft-profit-{n}" for n in (13, 15)], FUNDING),
    **dict.fromkeys([f"ft-openclose-{n}" for n in (6, 7, 8, 9)], FUNDING),
    **dict.fromkeys(["ft-funding-short-3", "ft-funding-nan-mark"], FUNDING),
    **dict.fromkeys(["ft-funding-window-4", "ft-funding-window-7"], FUNDING),
    "doc-binance-autoexchange": EXCHANGE_OF_DEBT,
    "doc-okx-pm-scaling": PORTFOLIO,
    "ft-doc-liq-buffer": EARLY_STOP,
}


def charges_interest(case: dict[str, Any]) -> bool:
    """Whether the expected figures contain interest that is not zero."""
    return "interest" in case["tags"] or case["inputs"].get("mode") == "margin"


def pays_funding(case: dict[str, Any]) -> bool:
    return "funding" in case["tags"] or D(case["inputs"].get("funding_received", "0")) != 0


BELONGS: dict[str, Callable[[dict[str, Any]], bool]] = {
    INTEREST: charges_interest,
    FUNDING: pays_funding,
    EXCHANGE_OF_DEBT: lambda case: "debt" in case["tags"] and "negative_balance" in case["inputs"],
    PORTFOLIO: lambda case: case["margin_mode"] == "portfolio",
    EARLY_STOP: lambda case: "liquidation_buffer" in case["inputs"],
}


def runner_of(case_id: str) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """The longest prefix of the id that has a runner."""
    fitting = [prefix for prefix in RUNNERS if case_id == prefix or case_id.startswith(prefix + "-")]
    return RUNNERS[max(fitting, key=len)] if fitting else None


def is_within(printed: str, actual: Decimal, tolerance: str) -> bool:
    """Whether `actual` is the printed number, by the case's relative tolerance or half a unit of the last digit."""
    if tolerance == "exact":
        return D(printed) == actual
    relative = D(re.fullmatch(r"rel (\S+) or half a unit of the last printed decimal", tolerance)[1])  # type: ignore[index]
    half_unit = D(1).scaleb(int(D(printed).as_tuple().exponent)) / 2
    return abs(actual - D(printed)) <= max(relative * abs(D(printed)), half_unit)


RUN = [case for case in CASES if case["id"] not in NOT_MODELLED]


@pytest.mark.parametrize("case", RUN, ids=[case["id"] for case in RUN])
def test_the_published_figures_come_out(case: dict[str, Any]) -> None:
    runner = runner_of(case["id"])
    assert runner is not None, "no runner for this case"
    actual = runner(case["inputs"])
    assert set(case["expected"]) <= set(actual), "the runner leaves out an expected figure"
    for name, printed in case["expected"].items():
        found = actual[name]
        if isinstance(printed, list):
            assert len(found) == len(printed)
            assert all(is_within(p, a, case["tolerance"]) for p, a in zip(printed, found, strict=True)), (name, found)
        elif isinstance(found, str):
            assert found == printed, name
        else:
            assert is_within(printed, found, case["tolerance"]), f"{name} is {found}, published {printed}"


def test_every_case_runs_or_is_listed_with_a_reason() -> None:
    ids = [case["id"] for case in CASES]
    assert len(ids) == len(set(ids)) == 122
    assert set(NOT_MODELLED) <= set(ids)
    assert len(RUN) + len(NOT_MODELLED) == 122


@pytest.mark.parametrize("case_id", NOT_MODELLED)
def test_a_listed_case_needs_what_its_reason_says(case_id: str) -> None:
    """So that a case does not stay in the list once the core can compute it: nothing else may be listed."""
    case = next(case for case in CASES if case["id"] == case_id)
    assert BELONGS[NOT_MODELLED[case_id]](case)


def test_no_case_that_runs_needs_what_is_not_modelled() -> None:
    assert [case["id"] for case in RUN if charges_interest(case) or pays_funding(case)] == []
