"""Limit sets of a node on the command line: shown, changed, taken away, compared, and over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import (
    AuditEvent,
    LimitHours,
    LimitMode,
    LimitSet,
    LimitSetStatus,
    MarginClient,
    NodeLimits,
    ProtectionStatus,
    Scope,
)
from debt_mgmt.server.cli.account_limits import NAMES as NAMES_OF_ACCOUNTS
from debt_mgmt.server.cli.account_limits import NONE, value_of, worded
from debt_mgmt.server.cli.audit import actor_name
from debt_mgmt.server.cli.changes import not_done
from debt_mgmt.server.cli.limit_hours import ALWAYS, DAYS, hours_words
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import Exit, Failed
from debt_mgmt.server.cli.tables import exact, table
from debt_mgmt.server.cli.wording import counted, moment

NAMES = tuple(field.name for field in fields(NodeLimits))
NO_LIMIT = "none"
"""Typed for a limit that is taken out of a set."""
STANDING = "standing"
"""What the set without a name is called."""
PUT, DELETED = "LimitSetPut", "LimitSetDeleted"
MODE_STYLES = {LimitMode.ENFORCED: "", LimitMode.SHADOW: "magenta"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be different of a set; None and what is not named stays."""

    values: Mapping[str, Any]
    mode: LimitMode | None
    hours: Sequence[LimitHours] | None
    currency: str | None

    @property
    def empty(self) -> bool:
        return not self.values and self.mode is None and self.hours is None and self.currency is None

    def of(self, before: LimitSet) -> LimitSet:
        return replace(
            before,
            limits=replace(before.limits, **self.values),
            mode=self.mode or before.mode,
            hours=before.hours if self.hours is None else tuple(self.hours),
            currency=self.currency or before.currency,
            reason=None,
        )


async def sets_of(client: MarginClient, node: Scope) -> list[LimitSetStatus]:
    """The sets of exactly this node."""
    return [one for one in await client.limit_sets(concerning=node) if one.limit_set.scope == node]


async def show(client: MarginClient, output: Output, node: Scope, name: str | None) -> None:
    """Every set of a node, or the one that is named, with the use of its limits."""
    found = await sets_of(client, node)
    if name is not None:
        found = [one for one in found if called(one.limit_set) == name]
        if not found:
            raise Failed(f"{node} has no limit set {name!r}; `debt-mgmt limits get` without --name shows those it has")
    output.document(scope=node, limit_sets=found)
    if not found:
        output.show(Text(f"{node} has no limit set of its own; `debt-mgmt limits tree` shows what concerns it", "dim"))
    for one in found:
        output.show(status_shown(one))


async def put(client: MarginClient, output: Output, node: Scope, name: str | None, change: Change, reason: str) -> Exit:
    """Change one set of a node, made where there is none."""
    name = None if name == STANDING else name
    before = next((one.limit_set for one in await sets_of(client, node) if one.limit_set.name == name), None)
    try:
        wanted = change.of(before or LimitSet(node, NodeLimits(), name=name))
        if wanted.limits == NodeLimits():
            raise Failed("a set without a limit limits nothing: name one, or take the set away by `limits delete`")
        in_money = wanted.limits.max_position_notional is not None or wanted.limits.max_exposure_notional is not None
        if in_money and wanted.currency is None and node.account_id is None:
            raise Failed("say what the notional is counted in, such as --currency USDT: the node is not one account")
        outcome = await client.put_limit_set(wanted, reason=reason)
    except ValueError as error:
        raise Failed(str(error)) from None
    output.document(outcome=outcome, before=before)
    if not outcome.accepted:
        output.show(not_done(outcome))
        return Exit.REFUSED
    now = outcome.limit_set
    output.show(Text.assemble(("SET  ", "bold green"), title_of(wanted)))
    if before is not None:
        output.show(*differences_shown({"before": before, "now": now.limit_set if now else wanted}))
    if now is not None:
        if not now.account_count:
            output.show(Text("it concerns no account that is open", "yellow"))
        output.show(use_shown(now))
    return Exit.OK


async def delete(client: MarginClient, output: Output, node: Scope, name: str | None, reason: str) -> Exit:
    """Take one set of a node away."""
    outcome = await client.delete_limit_set(node, None if name == STANDING else name, reason=reason)
    output.document(outcome=outcome, scope=node, name=name)
    if not outcome.accepted:
        output.show(not_done(outcome))
        return Exit.REFUSED
    output.show(Text.assemble(("TAKEN AWAY  ", "bold green"), f"{node}  {name or STANDING}"))
    return Exit.OK


async def compare_sets(client: MarginClient, output: Output, node: Scope, name: str | None) -> None:
    """The sets of a node beside each other: the shadow beside the enforced."""
    found = {called(one.limit_set): one.limit_set for one in await sets_of(client, node)}
    if name is not None:
        if name not in found:
            raise Failed(f"{node} has no limit set {name!r}")
        found = {each: found[each] for each in found if each in (STANDING, name)}
    if len(found) < 2:
        raise Failed(
            f"{node} has {counted(len(found), 'limit set')}: there is nothing to compare; --since compares times"
        )
    tell_differences(output, node, found)


async def compare_times(client: MarginClient, output: Output, node: Scope, name: str | None, since: datetime) -> None:
    """One set of a node then and now, as the journal has it."""
    events = await events_of_sets(client)
    of_set = [one for one in changes_in(events) if (one["scope"], one["name"]) == (node, name or STANDING)]
    if not of_set:
        raise Failed(f"{node} has no limit set {(name or STANDING)!r}, neither then nor now")
    then = [one["facts"] for one in of_set if one["time"] <= since]
    sides = {f"{moment(since)} UTC": then[-1] if then else {}, "now": of_set[-1]["facts"]}
    names = dict.fromkeys(each for facts in sides.values() for each in facts)
    different = [each for each in names if len({facts.get(each) for facts in sides.values()}) > 1]
    output.document(scope=node, sides=sides, different=different)
    made = table("", *sides)
    for each in different:
        made.add_row(each, *(facts.get(each, "–" if facts else "no set") for facts in sides.values()))
    output.show(Text(str(node), "bold"), made if different else Text("no difference", "dim"))


async def look_back(client: MarginClient, output: Output, node: Scope | None, name: str | None, limit: int) -> None:
    """Who changed which set, when, and why; of every node, where none is named."""
    changes = changes_in(await events_of_sets(client))
    wanted = [one for one in changes if node in (None, one["scope"]) and name in (None, one["name"])][-limit:]
    output.document(scope=node, changes=wanted)
    where = "no limit set was ever put" if node is None else f"no limit set of {node} was ever put"
    output.show(*([change_shown(one) for one in wanted] or [Text(where, "dim")]))


def values_of(typed: Sequence[str]) -> dict[str, Any]:
    """`max_leverage=3` and the like, as fields of NodeLimits."""
    values: dict[str, Any] = {}
    for one in typed:
        name, equals, text = one.partition("=")
        if not equals or not text:
            raise typer.BadParameter(f"{one!r} is no change: write LIMIT=VALUE, such as max_leverage=3")
        if name not in NAMES:
            only = "is a limit of accounts only" if name in NAMES_OF_ACCOUNTS else "is no limit"
            raise typer.BadParameter(f"{name!r} {only}; limits of a node are {', '.join(NAMES)}")
        if name in values:
            raise typer.BadParameter(f"{name} is named twice")
        values[name] = None if text == NO_LIMIT else value_of(name, text)
    return values


def called(one: LimitSet) -> str:
    return one.name or STANDING


def title_of(one: LimitSet) -> Text:
    """The node, the name, the mode and the hours of a set."""
    title = Text.assemble((str(one.scope), "bold"), f"  {called(one)}")
    title.append(f"  {one.mode.value}" if one.mode is not LimitMode.ENFORCED else "", MODE_STYLES.get(one.mode, ""))
    if one.hours:
        title.append(f"  {hours_words(one.hours)}", "dim")
    return title


def status_shown(one: LimitSetStatus) -> RenderableType:
    made = one.limit_set
    about = f"{counted(one.account_count, 'account')}, set {moment(made.update_time)} UTC"
    heading = title_of(made)
    if not one.in_force:
        heading.append("  NOT IN FORCE NOW", "yellow")
    return Group(heading, Text(f"{about}: {made.reason}" if made.reason else about, "dim"), use_shown(one))


def use_shown(one: LimitSetStatus) -> Table:
    """What is used of each limit and what is left."""
    numbers = ("used", "limit", "headroom")
    made = table("", *numbers, "", "", right=numbers)
    for protection in one.protections:
        name = field_of(protection)
        values = [
            "" if value is None else exact(value) for value in (protection.used, protection.limit, protection.headroom)
        ]
        note = " ".join(part for part in (protection.subject, protection.note) if part)
        made.add_row(
            name, *values, unit_of(one.limit_set, name), Text(note, "dim"), style="" if one.in_force else "dim"
        )
    return made


def field_of(protection: ProtectionStatus) -> str:
    """The limit's name in a set."""
    name = f"max_{protection.protection.lower()}"
    return f"{name}_fraction" if name == "max_drawdown" else name


def unit_of(one: LimitSet, name: str) -> str:
    """What the numbers of a limit count."""
    if name.endswith("_notional"):
        return one.currency or ""
    units = {"max_leverage": "x", "max_position_quantity": "contracts"}
    return units.get(name, "")


# comparing


def facts_of(one: LimitSet | None) -> dict[str, str]:
    """What a set says, in words; of none, that nothing is limited."""
    if one is None:
        return {"mode": "no set"}
    limits = {name: getattr(one.limits, name) for name in NAMES}
    return {
        "mode": one.mode.value,
        "hours": hours_words(one.hours),
        "currency": one.currency or "the account's own",
        **{name: worded(value) for name, value in limits.items()},
    }


def tell_differences(output: Output, node: Scope, sides: Mapping[str, LimitSet | None]) -> None:
    output.document(scope=node, sides=sides, different=different(sides))
    output.show(Text(str(node), "bold"), *differences_shown(sides))


def different(sides: Mapping[str, LimitSet | None]) -> list[str]:
    """What is not the same on every side."""
    told = [facts_of(one) for one in sides.values()]
    names = dict.fromkeys(name for facts in told for name in facts)
    absent = NONE if None in sides.values() else None
    return [
        name
        for name in names
        if len({facts.get(name) for facts in told}) > 1
        and not (absent and {facts.get(name) for facts in told} <= {None, NONE, ALWAYS, "the account's own"})
    ]


def differences_shown(sides: Mapping[str, LimitSet | None]) -> list[RenderableType]:
    names = different(sides)
    if not names:
        return [Text("no difference", "dim")]
    made = table("", *sides)
    for name in names:
        made.add_row(name, *(facts_of(one).get(name, "") for one in sides.values()))
    return [made]


# looking back


async def events_of_sets(client: MarginClient) -> list[AuditEvent]:
    """All that was ever done to limit sets. Raises Failed for a caller who does not see the house's journal."""
    found = [event async for event in client.audit_events(kinds=(PUT, DELETED))]
    if not found and (await client.caller()).account_ids:
        raise Failed("a token that is limited to some accounts does not see who changed the limits of the house")
    return found


def changes_in(events: Sequence[AuditEvent]) -> list[dict[str, Any]]:
    """What each event changed of its set; `events` from the beginning."""
    before: dict[tuple[Scope, str], dict[str, str]] = {}
    changes = []
    for event in events:
        told = event.fields()
        of_set: Mapping[str, Any] = told.get("limit_set", told)
        node, name = scope_told(of_set.get("scope", {})), of_set.get("name") or STANDING
        old = before.get((node, name), {})
        new = {} if event.kind == DELETED else told_facts(of_set)
        names = [each for each in {**old, **new} if old.get(each) != new.get(each)]
        changes.append(
            {
                "time": event.time,
                "revision": event.revision,
                "scope": node,
                "name": name,
                "deleted": event.kind == DELETED,
                "changed": {each: (old.get(each), new.get(each)) for each in names},
                "facts": new,
                "actor": actor_name(event.actor),
                "reason": told.get("reason") or of_set.get("reason", ""),
            }
        )
        before[node, name] = new
    return changes


def told_facts(of_set: Mapping[str, Any]) -> dict[str, str]:
    """The set of an event, as it was recorded, by the names of facts."""
    limits = dict(of_set.get("limits", {}))
    orders, seconds = limits.pop("order_rate_count", None), limits.pop("order_rate_interval_seconds", 1)
    if orders is not None:
        limits["max_order_rate"] = f"{orders}/{seconds}s"
    hours = [
        LimitHours(one["start"], one["end"], [DAYS[day] for day in one.get("days", ())], one.get("zone"))
        for one in of_set.get("hours", ())
    ]
    facts = {"mode": of_set.get("mode", LimitMode.ENFORCED.value), "hours": hours_words(hours) if hours else None}
    facts |= {"currency": of_set.get("currency") or None, **limits}
    return {name: str(value) for name, value in facts.items() if value is not None}


def scope_told(told: Mapping[str, str]) -> Scope:
    return Scope(**{name: told.get(name) or None for name in ("owner", "account_id", "strategy", "symbol")})


def change_shown(one: Mapping[str, Any]) -> RenderableType:
    """One change: when and of which set, by whom and why, then what it changed, a line each."""
    heading = Text.assemble((f"{moment(one['time'])}  ", "dim"), (str(one["scope"]), "bold"), f"  {one['name']}")
    heading.append("  taken away" if one["deleted"] else "", "yellow")
    heading.append(f"  by {one['actor']}" + (f": {one['reason']}" if one["reason"] else ""), "dim")
    if one["deleted"]:
        return heading
    steps = ((name, f"{old} → " if old else "", new or "–") for name, (old, new) in one["changed"].items())
    return Group(heading, *(Text(f"  {name} {before}{after}") for name, before, after in steps))
