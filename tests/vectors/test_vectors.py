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

from tests.vectors import account_cases, debt_cases

D = Decimal
RUNNERS = account_cases.RUNNERS | debt_cases.RUNNERS
CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "margin_vectors.json").read_text("utf-8"))

SILENT_ZERO = "counts a missing mark as no funding; here a rate without a mark is refused, and nothing is settled"
PORTFOLIO = "needs portfolio margin: stress scenarios over options, which the core has no model for"
EARLY_STOP = "needs a stop some way before the liquidation price: here reductions follow margin utilization instead"

NOT_MODELLED = {
    "ft-funding-nan-mark": SILENT_ZERO,
    "doc-okx-pm-scaling": PORTFOLIO,
    "ft-doc-liq-buffer": EARLY_STOP,
}


BELONGS: dict[str, Callable[[dict[str, Any]], bool]] = {
    SILENT_ZERO: lambda case: case["inputs"].get("mark_price") == "NaN",
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
    actual = runner({"exchange": case["exchange"], **case["inputs"]})
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
