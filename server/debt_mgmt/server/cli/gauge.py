"""The utilization bar: how much of the equity is used, with ticks where the service acts."""

from decimal import Decimal

from rich.text import Text

from debt_mgmt.client.enums import RiskLevel
from debt_mgmt.client.figures import Thresholds
from debt_mgmt.server.cli.wording import LEVEL_STYLES

FULL, EMPTY, TICK_FULL, TICK_EMPTY = "━", "─", "╋", "┼"
USUAL = (Decimal("0.70"), Decimal("0.80"), Decimal("0.90"))


def ticks_of(thresholds: Thresholds | None) -> tuple[Decimal, ...]:
    """Where the service acts, as fractions."""
    if thresholds is None:
        return USUAL
    return (
        thresholds.margin_call_threshold,
        thresholds.liquidation_threshold,
        thresholds.forced_liquidation_threshold,
    )


def gauge(share: Decimal | None, level: RiskLevel | None, cells: int = 20, ticks: tuple[Decimal, ...] = USUAL) -> Text:
    """A bar of `cells` from 0 to 100 %, coloured by the level. `share` None: no bar can be drawn."""
    marked = {min(int(tick * cells), cells - 1) for tick in ticks}
    style = LEVEL_STYLES.get(level, "") if level is not None else ""
    filled = 0 if share is None else min(max(round(share * cells), 0), cells)
    bar = Text()
    for cell in range(cells):
        if cell < filled:
            bar.append(TICK_FULL if cell in marked else FULL, style)
        else:
            bar.append(TICK_EMPTY if cell in marked else EMPTY, "dim")
    return bar
