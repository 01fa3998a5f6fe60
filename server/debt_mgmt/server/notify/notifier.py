"""All routes that are configured: made from the settings, woken by alerts, and shown in metrics and health."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from debt_mgmt.core.account import Severity
from debt_mgmt.server.config_notify import NotifySection
from debt_mgmt.server.http import Health
from debt_mgmt.server.journal.journal import Head, Journal
from debt_mgmt.server.notify.chats import Slack, Telegram
from debt_mgmt.server.notify.mail import Mail
from debt_mgmt.server.notify.outbox import Aim
from debt_mgmt.server.notify.route import Route, SecretPlace
from debt_mgmt.server.notify.telling import Pace, Telling
from debt_mgmt.server.notify.webhook import Webhook


def routes(
    notify: NotifySection, clock: Callable[[], datetime], environment: Mapping[str, str]
) -> list[tuple[Route, Aim]]:
    """Every route that is enabled, and what it is told of."""
    webhook, slack, telegram, email = notify.webhook, notify.slack, notify.telegram, notify.email
    cool_down = timedelta(seconds=notify.cool_down_seconds)
    made: list[tuple[Route, Aim]] = []

    def aim(severity: str, accounts: str | None, escalate_after_seconds: float | None) -> Aim:
        after = None if escalate_after_seconds is None else timedelta(seconds=escalate_after_seconds)
        return Aim(
            Severity[severity.upper()], None if accounts is None else frozenset(accounts.split(",")), after, cool_down
        )

    def secret(name: str, file_setting: str, file: object) -> SecretPlace:
        return SecretPlace(f"DEBT_MGMT_NOTIFY_{name}", file, f"notify.{file_setting}", environment)  # type: ignore[arg-type]

    if webhook.url is not None:
        place = secret("WEBHOOK_SECRET", "webhook.secret_file", webhook.secret_file)
        made.append(
            (
                Webhook(webhook.url, place, clock),
                aim(webhook.min_severity, webhook.accounts, webhook.escalate_after_seconds),
            )
        )
    if slack.enabled:
        place = secret("SLACK_URL", "slack.url_file", slack.url_file)
        made.append((Slack(place), aim(slack.min_severity, slack.accounts, slack.escalate_after_seconds)))
    if telegram.chat_id is not None:
        place = secret("TELEGRAM_TOKEN", "telegram.token_file", telegram.token_file)
        made.append(
            (
                Telegram(telegram.api_url, telegram.chat_id, place),
                aim(telegram.min_severity, telegram.accounts, telegram.escalate_after_seconds),
            )
        )
    if email.to is not None:
        place = secret("EMAIL_PASSWORD", "email.password_file", email.password_file)
        made.append(
            (
                Mail(email.host, email.port, email.security, email.sender, email.to, email.user, place, clock),
                aim(email.min_severity, email.accounts, email.escalate_after_seconds),
            )
        )
    return made


class Notifier:
    """`alerted` is called with each alert: it wakes the routes and returns at once."""

    def __init__(
        self,
        notify: NotifySection,
        journal: Journal,
        heads: Callable[[], Mapping[int, Head]],
        clock: Callable[[], datetime],
        environment: Mapping[str, str],
        pace: Pace = Pace(),  # noqa: B008
    ) -> None:
        give_up_after = timedelta(seconds=notify.give_up_after_seconds)
        self.tellings = [
            Telling(route, aim, journal, heads, clock, give_up_after, pace)
            for route, aim in routes(notify, clock, environment)
        ]

    async def start(self) -> None:
        for telling in self.tellings:
            await telling.open()
        for telling in self.tellings:
            telling.start()

    async def stop(self) -> None:
        for telling in self.tellings:
            await telling.stop()

    def alerted(self) -> None:
        for telling in self.tellings:
            telling.wake.set()

    def problems(self) -> list[str]:
        """Every route that does not work, in words."""
        return [
            f"route {one.route.name} tells nobody since {one.failing_since:%Y-%m-%d %H:%M:%S} UTC: {one.failing}"
            for one in self.tellings
            if one.failing
        ]

    def seen(self, health: Health) -> Health:
        """The health with the routes that do not work."""
        return msgspec.structs.replace(health, warnings=[*health.warnings, *self.problems()])

    # what Prometheus asks

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        told = CounterMetricFamily(
            "debt_mgmt_notifications", "Alerts that a route was told of, or failed to be.", labels=["route", "result"]
        )
        waiting = GaugeMetricFamily("debt_mgmt_notifications_waiting", "Alerts due at a route.", labels=["route"])
        failing = GaugeMetricFamily(
            "debt_mgmt_notification_route_failing", "1 while a route tells nobody, 0 while it works.", labels=["route"]
        )
        for one in self.tellings:
            name = one.route.name
            for result, count in (("told", one.told), ("failed", one.failed), ("given_up", one.given_up)):
                told.add_metric([name, result], count)
            waiting.add_metric([name], one.waiting)
            failing.add_metric([name], 1 if one.failing else 0)
        yield from (told, waiting, failing)
