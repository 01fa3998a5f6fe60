"""An account's own limits on the command line: shown, changed, compared, and over time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import AuditEvent, MarginClient, OrderRate, RiskLimits, RiskLimitsStatus
from debt_mgmt.server.cli.audit import actor_name
from debt_mgmt.server.cli.changes import not_done
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import Exit, Failed, as_it_was
from debt_mgmt.server.cli.tables import exact, table
from debt_mgmt.server.cli.typed import number_of
from debt_mgmt.server.cli.wording import moment, span, state_text

NAMES = tuple(field.name for field in fields(RiskLimits))
COUNTS = ("max_concurrent_positions", "max_open_reservations")
HOUSE = "house"
"""Typed for a limit that goes back to the configured value."""
RATE = re.compile(r"([0-9]+)/([0-9]+)?(s|m|h)")
LENGTH = re.compile(r"([0-9]+)(s|m|h|d)")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
NONE = "not limited"
CHANGED = "LimitsSet"


async def show(client: MarginClient, output: Output, account: str) -> None:
    """Every limit with its use and headroom, and which protections are OFF."""
    found = await client.risk_limits(account)
    output.document(account_id=account, limits=found)
    output.show(*limits_shown(account, found))


async def change(client: MarginClient, output: Output, account: str, values: Mapping[str, Any], reason: str) -> Exit:
    """Change the limits that are named; the others stay."""
    before = (await client.risk_limits(account)).limits
    try:
        outcome = await client.set_risk_limits(account, **values, reason=reason)
    except ValueError as error:
        raise Failed(str(error)) from None
    output.document(outcome=outcome, before=before)
    if not outcome.accepted:
        output.show(not_done(outcome))
        return Exit.REFUSED
    output.show(*differences_shown({"before": before, "now": outcome.limits}))
    return Exit.OK


async def compare(
    client: MarginClient, output: Output, account: str, other: str | None, since: datetime | None
) -> None:
    """Two accounts, or one then and now."""
    if since is not None:
        with as_it_was(since):
            then = (await client.risk_limits(account)).limits
        sides = {f"{moment(since)} UTC": then, "now": (await client.risk_limits(account)).limits}
    else:
        assert other is not None
        sides = {name: (await client.risk_limits(name)).limits for name in dict.fromkeys((account, other))}
    output.document(sides=sides, different=different(sides))
    output.show(*differences_shown(sides))


async def look_back(client: MarginClient, output: Output, account: str, limit: int) -> None:
    """Who changed which limit, when, and why; the newest last."""
    found = client.audit_events(account, kinds=(CHANGED,), newest_first=True, limit=limit + 1)
    events = [event async for event in found][::-1]
    changes = changes_in(events, beginning=len(events) <= limit)
    output.document(account_id=account, changes=changes)
    output.show(
        history_table(changes)
        if changes
        else Text(f"no limit of {account} was ever changed: all are the house's", "dim")
    )


def history_table(changes: Sequence[Mapping[str, Any]]) -> Table:
    made = table("time (UTC)", "place", "changed", "by", "why")
    for one in changes:
        what = "\n".join(f"{name} {old or HOUSE} → {new or HOUSE}" for name, (old, new) in one["changed"].items())
        place = f"{one['revision'].shard}:{one['revision'].position}"
        made.add_row(moment(one["time"]), place, what or "nothing", one["actor"], one["reason"])
    return made


def changes_in(events: Sequence[AuditEvent], *, beginning: bool) -> list[dict[str, Any]]:
    """What each event changed. The first one is compared with the house's limits where it is the `beginning`."""
    own: Mapping[str, Any] | None = {} if beginning else None
    changes = []
    for event in events:
        told = event.fields()
        after: Mapping[str, Any] = told.get("limits", {})
        if own is not None:
            names = [name for name in {**own, **after} if own.get(name) != after.get(name)]
            changes.append(
                {
                    "time": event.time,
                    "revision": event.revision,
                    "changed": {name: (own.get(name), after.get(name)) for name in names},
                    "actor": actor_name(event.actor),
                    "reason": told.get("reason", ""),
                }
            )
        own = after
    return changes


def changes_of(typed: Sequence[str]) -> dict[str, Any]:
    """`max_leverage=3` and the like, as the client takes them."""
    values: dict[str, Any] = {}
    for one in typed:
        name, equals, text = one.partition("=")
        if not equals or not text:
            raise typer.BadParameter(f"{one!r} is no change: write LIMIT=VALUE, such as max_leverage=3")
        if name not in NAMES:
            raise typer.BadParameter(f"{name!r} is no limit; limits are {', '.join(NAMES)}")
        if name in values:
            raise typer.BadParameter(f"{name} is named twice")
        values[name] = None if text == HOUSE else value_of(name, text)
    return values


def value_of(name: str, text: str) -> Decimal | int | OrderRate | timedelta:
    if name == "max_order_rate":
        rate = RATE.fullmatch(text)
        if rate is None:
            raise typer.BadParameter(f"{text!r} is no rate: write 10/1s, or 600/1m")
        return OrderRate(int(rate[1]), timedelta(seconds=int(rate[2] or 1) * UNITS[rate[3]]))
    if name == "breaker_cool_down":
        length = LENGTH.fullmatch(text)
        if length is None:
            raise typer.BadParameter(f"{text!r} is no length of time: write 90s, 30m, 1h or 1d")
        return timedelta(seconds=int(length[1]) * UNITS[length[2]])
    if name in COUNTS:
        if not re.fullmatch("[0-9]{1,9}", text):
            raise typer.BadParameter(f"{text!r} is no count: {name} is a whole number")
        return int(text)
    return number_of(text)


def limits_shown(account: str, found: RiskLimitsStatus) -> list[Any]:
    made = table("limit", "in force", "from")
    for name in NAMES:
        own = name in found.own_limits
        made.add_row(
            name, worded(getattr(found.limits, name)), Text("the account's own", "bold") if own else Text(HOUSE, "dim")
        )
    use = table("protection", "used", "limit", "headroom", "", right=("used", "limit", "headroom"))
    for one in found.protections:
        numbers = ("" if value is None else exact(value) for value in (one.used, one.limit, one.headroom))
        note = " ".join(part for part in (one.subject, one.note) if part)
        state = Text("OFF  ", "bold yellow") if one.off else Text("")
        use.add_row(one.protection.value, *numbers, Text.assemble(state, (note, "dim")))
    heading = Text.assemble((f"{account}  ", "bold"), state_text(found.trading_state))
    if found.trading_state_reason:
        heading.append(f"  {found.trading_state_reason}", "yellow")
    return [heading, made, use]


def different(sides: Mapping[str, RiskLimits]) -> list[str]:
    """The limits that are not the same on every side."""
    return [
        name
        for name in NAMES
        if any(getattr(one, name) != getattr(other, name) for one in sides.values() for other in sides.values())
    ]


def differences_shown(sides: Mapping[str, RiskLimits]) -> list[Any]:
    names = different(sides)
    if not names:
        return [Text("no difference", "dim")]
    made = table("limit", *sides)
    for name in names:
        made.add_row(name, *(worded(getattr(one, name)) for one in sides.values()))
    return [made]


def worded(value: Decimal | int | OrderRate | timedelta | None) -> str:
    match value:
        case None:
            return NONE
        case OrderRate():
            return f"{value.orders} in {span(value.interval)}"
        case timedelta():
            return span(value)
        case Decimal():
            return exact(value)
    return str(value)
