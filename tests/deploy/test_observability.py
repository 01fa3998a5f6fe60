"""What deploy/ asks of the service exists: each expression, each page it leads to, each command that a page tells."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from debt_mgmt.server.cli.program import app
from debt_mgmt.v1 import margin_service_pb2, types_pb2
from tests.support.service import service

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
RUNBOOKS = PROJECT / "docs" / "runbooks"
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
BUY = types_pb2.SIDE_BUY

NAME = re.compile(r"\b(?:debt_mgmt_\w+|up\b)")
MATCHERS = re.compile(r"(debt_mgmt_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([\w, ]+)\)")
OF_PROMETHEUS = {"up", "job", "instance", "le"}


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    board: dict[str, Any] = json.loads((DEPLOY / "grafana" / "debt-mgmt.json").read_text("utf-8"))
    return list(board["panels"])


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression, with where it stands."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


class Exposed:
    """What a service that has had something to do shows: sample names, and each label's values."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self.labels: dict[str, dict[str, set[str]]] = {}
        for family in text_string_to_metric_families(text):
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            self.names |= {family.name + ending for ending in endings}
            for sample in family.samples:
                for label, value in sample.labels.items():
                    self.labels.setdefault(sample.name, {}).setdefault(label, set()).add(value)

    def problems(self, expression: str) -> list[str]:
        """What an expression asks for that is not there. Labels are looked at where there are samples."""
        names = set(NAME.findall(expression))
        found = [f"no metric {name}" for name in sorted(names - self.names - OF_PROMETHEUS)]
        known = {label for name in names for label in self.labels.get(name, {})}
        for group in GROUPED.findall(expression):
            asked = {label.strip() for label in group.split(",")} - OF_PROMETHEUS
            found += [f"no label {label}" for label in sorted(asked - known) if known]
        for name, matchers in MATCHERS.findall(expression):
            for label, operator, value in MATCHER.findall(matchers):
                values = self.labels.get(name, {}).get(label)
                wanted = value.split("|") if operator == "=~" else [value]
                if values is None:
                    found.append(f"{name} has no label {label}")
                elif label != "code":
                    found += [f"{name}: {label} is never {one}" for one in wanted if one not in values]
        return found


@pytest.fixture(scope="module")
def exposed() -> Exposed:
    return asyncio.run(scraped())


async def scraped() -> Exposed:
    """A scrape of a service in which something was accepted, something refused, and something failed."""
    async with service() as desk:
        await desk.open("alice", "1000")
        await desk.mark({"BTCUSDT": "50000"})
        await desk.reserve("alice", BUY, "0.01")
        await desk.reserve("alice", BUY, "10")
        order = types_pb2.Order(symbol="BTCUSDT", side=BUY, quantity="10")
        await desk.margin.CheckOrder(margin_service_pb2.CheckOrderRequest(account_id="alice", order=order))
        with pytest.raises(Exception, match="not known"):
            await desk.status("nobody")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{desk.running.metrics_port}/metrics") as answer,
        ):
            return Exposed(await answer.text())


def test_every_expression_asks_for_metrics_and_labels_that_exist(exposed: Exposed) -> None:
    found = {place: problems for place, expression in expressions() if (problems := exposed.problems(expression))}
    assert found == {}
    assert len(list(expressions())) > 50


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(debt_mgmt_liquidation_total[5m])", "no metric debt_mgmt_liquidation_total"),
        ('debt_mgmt_accounts_by_level{level="DOOMED"} > 0', "debt_mgmt_accounts_by_level: level is never DOOMED"),
        ('debt_mgmt_refusals_total{cause="X"}', "debt_mgmt_refusals_total has no label cause"),
        ("sum by (account) (debt_mgmt_refusals_total)", "no label account"),
    ],
)
def test_an_expression_that_asks_for_something_else_is_found(exposed: Exposed, expression: str, problem: str) -> None:
    assert exposed.problems(expression) == [problem]


def test_critical_alerts_wait_for_nothing_and_all_others_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert ("for" in rule) == (rule["labels"]["severity"] == "warning"), rule["alert"]
        assert "keep_firing_for" not in rule


def test_every_alert_leads_to_a_page_that_is_about_it_and_no_page_is_left_over() -> None:
    pages = {}
    for rule in rules():
        page = PROJECT / rule["annotations"]["runbook_url"]
        text = page.read_text("utf-8")
        assert f"`{rule['alert']}`, {rule['labels']['severity']}" in text
        assert f"`{rule['expr']}`" in text, f"{page.name} tells another expression than {rule['alert']}"
        pages[page.name] = rule["alert"]
    assert len(pages) == len(rules())
    assert {page.name for page in RUNBOOKS.glob("*.md")} == pages.keys()


def test_pages_tell_commands_metrics_and_pages_that_exist(exposed: Exposed) -> None:
    commands: Any = get_command(app)
    unknown = []
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text("utf-8")
        for command, below in re.findall(r"`debt-mgmt ([a-z-]+)(?: ([a-z-]+))?", text):
            there = commands.commands.get(command)
            if there is None or (below and hasattr(there, "commands") and below not in there.commands):
                unknown.append(f"{page.name}: debt-mgmt {command} {below}")
        unknown += [f"{page.name}: {name}" for name in NAME.findall(text) if name not in exposed.names | {"up"}]
        links = re.findall(r"\]\(([\w.-]+\.md)\)", text)
        unknown += [f"{page.name}: {link}" for link in links if not (RUNBOOKS / link).is_file()]
    assert unknown == []


def test_every_alert_has_figures_with_which_it_fires() -> None:
    read = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yaml").read_text("utf-8"))
    tried = [one for case in read["tests"] for one in case["alert_rule_test"]]
    assert {one["alertname"] for one in tried if one["exp_alerts"]} == {rule["alert"] for rule in rules()}


def test_panels_of_the_dashboard_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_alertmanager_sends_critical_ones_at_once_to_receivers_that_exist() -> None:
    read = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yaml").read_text("utf-8"))
    receivers = {receiver["name"] for receiver in read["receivers"]}
    critical = [route for route in read["route"]["routes"] if route["matchers"] == ['severity = "critical"']]
    assert [route["group_wait"] for route in critical] == ["0s"]
    assert {read["route"]["receiver"], *(route["receiver"] for route in read["route"]["routes"])} <= receivers
    muted = [rule["target_matchers"] for rule in read["inhibit_rules"]]
    assert all(matchers == ['severity = "warning"'] for matchers in muted), "nothing mutes a critical alert"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there: put it on the PATH, or name it in PROMTOOL")
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "rules.yaml"), ("check", "config", "prometheus.yaml"), ("test", "rules", "rules_test.yaml")],
    ids=" ".join,
)
def test_promtool_accepts_the_rules_and_they_fire_when_they_should(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
