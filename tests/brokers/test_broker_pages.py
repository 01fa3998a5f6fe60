"""The page about exchanges is what their profiles say, and says all of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from debt_mgmt.server.broker_pages import FEATURES, PAGES
from debt_mgmt.server.brokers.credentials import variable_of
from debt_mgmt.server.brokers.profiles import PROFILES, Feature

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_profiles_say(name: str) -> None:
    assert (PROJECT / name).read_text("utf-8") == PAGES[name](), "run: make generate"


def test_every_exchange_feature_reason_and_key_is_on_it() -> None:
    page = PAGES["docs/brokers.md"]()
    assert set(FEATURES) == set(Feature)
    for profile in PROFILES.values():
        assert profile.display_name in page
        assert profile.key_read in page
        assert profile.key_trade in page
        assert all(variable_of(profile, part) in page for part in profile.credentials)
        assert all(one.note in page for one in profile.capabilities)


def test_a_page_that_was_changed_by_hand_fails_the_comparison(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "debt_mgmt.server.broker_pages"]
    paths = ":".join(str(PROJECT / one) for one in ("core", "server", "client"))
    (tmp_path / "docs").mkdir()
    made = subprocess.run([*command, "--write"], cwd=tmp_path, env={"PYTHONPATH": paths}, check=False)
    assert made.returncode == 0
    page = tmp_path / "docs" / "brokers.md"
    page.write_text(page.read_text("utf-8") + "by hand\n", "utf-8")
    compared = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": paths}, capture_output=True, check=False)
    assert compared.returncode == 1
    assert b"make generate" in compared.stderr
