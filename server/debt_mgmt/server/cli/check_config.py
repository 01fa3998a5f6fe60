"""`debt-mgmt check-config`: whether the settings can be used, what each of them is, and where it came from."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.serve import value_at
from debt_mgmt.server.cli.session import Exit, Json
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.wording import counted
from debt_mgmt.server.config import CATALOGUE, ConfigurationError, Settings, read_settings
from debt_mgmt.server.config_sources import Secret, Setting, spelled

DEFAULT = "default"


def check_config(
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.", envvar="DEBT_MGMT_CONFIG")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Every setting, not only what somebody set.")] = False,
    as_json: Json = False,
) -> None:
    """Check the settings without a service: the file, the environment, and what can't be true together.

    Exit status 0: they can be used. 2: they can't, with every problem and, for a wrong name, the one that was meant.
    """
    output = Output(as_json)
    try:
        settings = read_settings(config)
    except ConfigurationError as error:
        output.document(usable=False, problems=error.problems, settings=[])
        if not as_json:
            output.say(str(error), "bold red")
        raise typer.Exit(Exit.USAGE) from None
    found = [explained(settings, one) for one in CATALOGUE.settings]
    given = [one for one in found if one["origin"] != DEFAULT]
    output.document(usable=True, problems=[], settings=found if explain else given)
    shown = found if explain else given
    if shown:
        output.show(settings_table(shown, explain=explain))
    output.show(
        Text(
            f"the settings can be used: {counted(len(found), 'setting')}, {len(given)} not left at the default", "green"
        )
    )


def explained(settings: Settings, setting: Setting) -> dict[str, Any]:
    """A setting with its value and where that came from; a secret's value is not told."""
    value = value_at(settings, setting.path)
    return {
        "path": setting.path,
        "value": "<secret>" if isinstance(value, Secret) else spelled(value),
        "origin": settings.origin(setting.path),
        "default": spelled(setting.default),
        "variable": setting.variable,
        "unit": setting.key.unit,
        "says": setting.key.says,
    }


def settings_table(shown: list[dict[str, Any]], *, explain: bool) -> Table:
    made = table("setting", "value", "from", *(["what it is"] if explain else []))
    for one in shown:
        style = "" if one["origin"] == DEFAULT else "bold"
        cells = [Text(one["path"], style), Text(one["value"], style), Text(one["origin"], style or "dim")]
        made.add_row(*cells, *([Text(one["says"], "dim")] if explain else []))
    return made
