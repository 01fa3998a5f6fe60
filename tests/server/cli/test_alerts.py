"""`debt-mgmt alerts`, in front of a made-up client."""

import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from typer.testing import Result

from debt_mgmt.client import AcknowledgeOutcome, Alert
from tests.server.cli.made import ALERT, NOON, PLACE, TOO_MUCH, FakeClient

Run = Callable[..., Result]
SEEN = dataclasses.replace(ALERT, acknowledged=True, acknowledged_by="risk-desk", acknowledge_time=NOON)


class AlertClient(FakeClient):
    def __init__(self, *alerts: Alert, accepted: bool = True) -> None:
        super().__init__()
        self.made = alerts
        self.accepted = accepted

    async def alerts(self, account_id: str | None = None, **filters: Any) -> AsyncIterator[Alert]:
        self.filters = {"account_id": account_id, **filters}
        for one in self.made:
            yield one

    async def acknowledge_alert(self, alert_id: str, *, note: str | None = None) -> AcknowledgeOutcome:
        self.filters = {"alert_id": alert_id, "note": note}
        violations = () if self.accepted else (TOO_MUCH,)
        return AcknowledgeOutcome(
            revision=PLACE, as_of=NOON, replayed=False, accepted=self.accepted, violations=violations, alert=SEEN
        )


def test_alerts_that_nobody_has_acknowledged_are_listed(run: Run) -> None:
    client = AlertClient(ALERT)
    done = run(client, "alerts", "list", "--account", "demo", "--severity", "warning")
    assert done.exit_code == 0, done.output
    assert "1-20" in done.output and "LEVEL_RAISED" in done.output
    assert client.filters["unacknowledged_only"] is True and client.filters["min_severity"] == "WARNING"
    run(client, "alerts", "list", "--all")
    assert client.filters["unacknowledged_only"] is False
    assert "no alert" in run(AlertClient(), "alerts", "list").output


def test_an_alert_is_acknowledged(run: Run) -> None:
    client = AlertClient()
    done = run(client, "alerts", "acknowledge", "1-20", "--note", "on it")
    assert (done.exit_code, client.filters) == (0, {"alert_id": "1-20", "note": "on it"})
    assert "ACKNOWLEDGED" in done.output and "by risk-desk" in done.output
    told = json.loads(run(client, "alerts", "acknowledge", "1-20", "--json").stdout)
    assert told["outcome"]["alert"]["acknowledged_by"] == "risk-desk"


def test_one_that_somebody_acknowledged_before_is_refused_and_says_who(run: Run) -> None:
    done = run(AlertClient(accepted=False), "alerts", "acknowledge", "1-20")
    assert done.exit_code == 1
    assert "REFUSED" in done.output and "by risk-desk" in done.output
