"""Borrowers over days beside a model on fractions: charges and funding agree digit by digit, however one looks."""

import pytest

from benchmarks.lending import compare


@pytest.mark.parametrize("seed", range(3))
def test_interest_and_funding_are_exact_beside_an_independent_model(seed: int) -> None:
    """Five clocks, changing rates, loans that grow and are repaid, and nobody who looks for days. The long form, of a
    thousand accounts over thirty days, is `python -m benchmarks lending`."""
    found = compare(accounts=20, days=5, seed=seed)
    assert found.different == ()
    assert found.charges > 20 * 24, "nearly nothing was charged"
    assert found.settlements > 20
