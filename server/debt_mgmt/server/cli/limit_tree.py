"""The tree of limits on the command line: house, owner, account, strategy, instrument, with what is used and left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from debt_mgmt.client import LimitSetStatus, MarginClient, ProtectionStatus, RiskLevel, RiskLimitsStatus, Scope
from debt_mgmt.server.cli.account_limits import NAMES as NAMES_OF_ACCOUNTS
from debt_mgmt.server.cli.accounts import NARROW
from debt_mgmt.server.cli.gauge import gauge
from debt_mgmt.server.cli.limit_hours import hours_words
from debt_mgmt.server.cli.limit_sets import MODE_STYLES, NAMES, called, field_of, unit_of
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.tables import exact
from debt_mgmt.server.cli.wording import counted

UNTOLD = "·"
"""Stands for a bar where the use is not known, or not told to this caller."""
FULL, NEARLY, MUCH = Decimal(1), Decimal("0.9"), Decimal("0.7")
NO_TICKS: tuple[Decimal, ...] = ()
KINDS = ("owner", "account", "strategy", "instrument")
NAME_CELLS = max(len(name) for name in NAMES)
Path = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Node:
    """A node of the tree with its sets and what is below it."""

    sets: list[LimitSetStatus] = field(default_factory=list)
    own: RiskLimitsStatus | None = None
    below: dict[tuple[str, str], "Node"] = field(default_factory=dict)

    def at(self, path: Path) -> "Node":
        """The node at the end of the path, made with those on the way where there is none."""
        node = self
        for step in path:
            node = node.below.setdefault(step, Node())
        return node


async def show(client: MarginClient, output: Output, concerning: Scope) -> None:
    """Every set of the nodes above and below what is named; of a named account also its own limits."""
    account_id = concerning.account_id
    own = None if account_id is None else await client.risk_limits(account_id)
    owners = {one.account_id: one.owner for one in await client.accounts(include_closed=True)}
    found = [one for one in await client.limit_sets() if meets(one.limit_set.scope, concerning, owners)]
    house = Node()
    for one in found:
        house.at(path_of(one.limit_set.scope, owners)).sets.append(one)
    if account_id is not None:
        house.at(path_of(Scope(account_id=account_id), owners)).own = own
    output.document(
        concerning=concerning,
        limit_sets=[
            {"path": [" ".join(step) for step in path_of(one.limit_set.scope, owners)], "status": one} for one in found
        ],
        own_limits=own,
    )
    output.show(tree_shown(house, 10 if output.out.width < NARROW else 20))
    if not found:
        output.show(Text("no limit set" + ("" if concerning == Scope() else f" concerns {concerning}"), "dim"))


def meets(scope: Scope, concerning: Scope, owners: Mapping[str, str]) -> bool:
    """Whether something can belong to both: the nodes above what is named, and those below it."""
    pairs = zip(names_of(scope, owners), names_of(concerning, owners), strict=True)
    return all(one is None or other is None or one == other for one, other in pairs)


def names_of(scope: Scope, owners: Mapping[str, str]) -> tuple[str | None, ...]:
    """Owner, account, strategy and instrument; an account names its owner."""
    owner = scope.owner or owners.get(scope.account_id or "")
    return owner, scope.account_id, scope.strategy, scope.symbol


def path_of(scope: Scope, owners: Mapping[str, str]) -> Path:
    """The way from the house to a node; an account stands below its owner, also where the node does not name it."""
    return tuple((kind, name) for kind, name in zip(KINDS, names_of(scope, owners), strict=True) if name)


def tree_shown(house: Node, cells: int) -> Tree:
    tree = Tree(Text("house", "bold"), guide_style="dim")
    grow(tree, house, cells)
    return tree


def grow(tree: Tree, node: Node, cells: int) -> None:
    if node.own is not None:
        tree.add(own_shown(node.own, cells))
    for one in node.sets:
        tree.add(set_shown(one, cells))
    for (kind, name), below in sorted(node.below.items(), key=lambda step: (KINDS.index(step[0][0]), step[0][1])):
        grow(tree.add(Text.assemble((f"{kind} ", "dim"), (name, "bold"))), below, cells)


def set_shown(one: LimitSetStatus, cells: int) -> RenderableType:
    made = one.limit_set
    heading = Text(called(made), "italic")
    heading.append(f"  {made.mode.value}" if MODE_STYLES.get(made.mode) else "", MODE_STYLES.get(made.mode, ""))
    if made.hours:
        heading.append(f"  {hours_words(made.hours)}", "dim")
    heading.append("" if one.in_force else "  not in force now", "dim")
    if made.scope.account_id is None:
        heading.append(f"  {counted(one.account_count, 'account')}", "dim")
    rows = [(each, unit_of(made, field_of(each))) for each in one.protections]
    return Group(heading, bars(rows, cells, dimmed=not one.in_force))


def own_shown(own: RiskLimitsStatus, cells: int) -> RenderableType:
    """The account's own limits, as far as they are on."""
    rows = [(each, "") for each in own.protections if not each.off and field_of(each) in NAMES_OF_ACCOUNTS]
    return Group(Text("the account's own limits", "italic"), bars(rows, cells, dimmed=False))


def bars(rows: Sequence[tuple[ProtectionStatus, str]], cells: int, *, dimmed: bool) -> Table:
    """A bar of what is used of each limit, and what is left."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, min_width=NAME_CELLS)
    grid.add_column(overflow="fold")
    for one, unit in rows:
        share = share_of(one)
        bar = Text(UNTOLD * cells, "dim") if share is None else gauge(share, level_of(share), cells, NO_TICKS)
        note = " ".join(part for part in (one.subject, one.note) if part)
        use = Text.assemble(use_words(one, unit), (f"  {note}" if note else "", "dim"))
        grid.add_row(Text(bar.plain) if dimmed else bar, field_of(one), use, style="dim" if dimmed else "")
    return grid


def share_of(one: ProtectionStatus) -> Decimal | None:
    """How much of the limit is used; a limit of zero is used up. None: not known, or not told."""
    if one.used is None or one.limit is None:
        return None
    return FULL if one.limit.is_zero() else one.used / one.limit


def level_of(share: Decimal | None) -> RiskLevel | None:
    """The colour of a bar."""
    if share is None:
        return None
    if share >= FULL:
        return RiskLevel.LIQUIDATING
    return RiskLevel.CRITICAL if share >= NEARLY else RiskLevel.WARNING if share >= MUCH else RiskLevel.NORMAL


def use_words(one: ProtectionStatus, unit: str) -> str:
    """`12,000 of 20,000 USDT, 8,000 left`."""
    if one.limit is None:
        return "limited"
    most = f"{exact(one.limit)} {unit}".strip()
    if one.limit.is_zero():
        return f"{most}: nothing can be opened"
    if one.used is None:
        return f"at most {most}"
    left = "" if one.headroom is None else f", {exact(one.headroom)} left"
    return f"{exact(one.used)} of {most}{left}"
