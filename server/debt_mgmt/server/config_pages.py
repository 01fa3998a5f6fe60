"""The pages that are made from the settings: config.example.yaml, .env.example and docs/configuration.md."""

import argparse
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from debt_mgmt.server.config import CATALOGUE, OTHER_VARIABLES, Settings
from debt_mgmt.server.config_sources import Secret, Section, Setting, spelled

MADE_BY = "Made by `make generate` from server/debt_mgmt/server/config.py: change it there."

INTRODUCTION = f"""\
<!-- {MADE_BY} -->
# Configuration

Every setting has a default, so the service starts without any of this. A value is taken from the last of these that
gives one:

1. the default,
2. the YAML file that `--config` or `DEBT_MGMT_CONFIG` names: [config.example.yaml](../config.example.yaml) shows all,
3. the environment; [.env.example](../.env.example) has every name,
4. the command line.

All sources are read once, at the start, and checked as a whole. An unknown key, an unknown `DEBT_MGMT_*` name, a value
out of bounds or two values that contradict each other stop the start. All problems are told at once, each with the
place it came from:

```
The configuration has 3 problems:
  config.yaml:2: unknown key risk_settings.max_leverge; did you mean risk_settings.max_leverage?
  environment DEBT_MGMT_DEFAULT_LEVERAGE: risk_settings.default_leverage is 75, must be at most 5
  risk_settings.hysteresis 0.75 (config.yaml:3) must be below risk_settings.margin_call_threshold 0.70 (default)
```

Numbers are plain decimals: no exponent, no underscores. `null` is none, where a setting may have none. In the
environment an empty value counts as not given, and a mapping is written as in YAML: `{{USDT: {{INR: 83}}}}`. No log and
no error message shows a secret.

| name in the environment | meaning |
|---|---|
"""


def render_example_yaml() -> str:
    """A complete YAML file that says what the defaults say."""
    lines = [f"# {MADE_BY}", "# Every key with its default. A key that is left out keeps it."]
    for path, section in every_section():
        indent = "  " * path.count(".")
        lines += ["", *(f"# {line}".rstrip() for line in introduction(path, section))]
        lines.append(f"{indent}{path.rpartition('.')[2]}:")
        for setting in settings_in(path):
            lines.append(f"{indent}  # {setting.key.says} {remark(setting)}")
            lines.append(f"{indent}  {setting.path.rpartition('.')[2]}: {spelled(setting.default)}")
    return "\n".join(lines) + "\n"


def render_env_example() -> str:
    """Every environment name, commented out, with its default."""
    lines = [
        f"# {MADE_BY}",
        "# Copy to .env, uncomment what you change, and load it: set -a; . ./.env; set +a",
        "",
    ]
    for name, meaning in OTHER_VARIABLES.items():
        lines += [f"# {meaning}", f"# {name}="]
    for path, _ in every_section():
        if settings := settings_in(path):
            lines += ["", f"# {path}"]
        for setting in settings:
            lines.append(f"# {setting.key.says} ({written_as(setting)})")
            lines.append(f"# {setting.variable}={in_shell(setting.default)}")
    return "\n".join(lines) + "\n"


def render_markdown() -> str:
    """The reference of all settings."""
    lines = [INTRODUCTION + "\n".join(f"| `{name}` | {meaning} |" for name, meaning in OTHER_VARIABLES.items())]
    for path, section in every_section():
        lines += ["", f"## {path}"]
        if words := introduction(path, section):
            lines += ["", *words]
        if settings := settings_in(path):
            lines += ["", "| key | default | written as | environment | meaning |", "|---|---|---|---|---|"]
        for setting in settings:
            name = setting.path.rpartition(".")[2]
            cells = (f"`{name}`", f"`{spelled(setting.default)}`", written_as(setting), f"`{setting.variable}`")
            lines.append(f"| {' | '.join(cells)} | {setting.key.says} |")
    return "\n".join(lines) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "config.example.yaml": render_example_yaml,
    ".env.example": render_env_example,
    "docs/configuration.md": render_markdown,
}


def every_section(part: msgspec.Struct | None = None, prefix: str = "") -> Iterator[tuple[str, Section]]:
    """Every section with its path, outer ones first."""
    part = Settings() if part is None else part
    for field in msgspec.structs.fields(type(part)):
        value, path = getattr(part, field.name), prefix + field.encode_name
        if isinstance(value, Section):
            yield path, value
            yield from every_section(value, f"{path}.")


def settings_in(path: str) -> list[Setting]:
    """The settings directly in one section."""
    return [setting for setting in CATALOGUE.settings if setting.path.rpartition(".")[0] == path]


def introduction(path: str, section: Section) -> list[str]:
    """The docstring of an outer section, line by line; inner ones are introduced by the outer."""
    return [] if "." in path else (inspect.getdoc(type(section)) or "").splitlines()


def written_as(setting: Setting) -> str:
    """What a value is: its unit, its choices or its form, and whether it is secret or may be null."""
    kind, parts = setting.kind, typing.get_args(setting.kind)
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(parts)
    words = [setting.key.unit or ("true, false" if kind is bool else "text")]
    words += ["secret"] if Secret in (kind, *parts) else []
    words += ["null"] if type(None) in parts else []
    return ", ".join(words)


def remark(setting: Setting) -> str:
    return f"({written_as(setting)}; {setting.variable})"


def in_shell(value: object) -> str:
    """`value` as a line of .env gives it: a mapping quoted, none as nothing."""
    if value is None:
        return ""
    return f"'{spelled(value)}'" if isinstance(value, Mapping) else spelled(value)


def main() -> None:
    """Writes the pages below the working directory (--write), or fails where one is not what it should be."""
    arguments = argparse.ArgumentParser(prog="python -m debt_mgmt.server.config", description=__doc__)
    arguments.add_argument("--write", action="store_true", help="write the pages instead of comparing them")
    write = arguments.parse_args().write
    stale = []
    for name, render in PAGES.items():
        page, text = Path(name), render()
        if page.is_file() and page.read_text("utf-8") == text:
            continue
        stale.append(name)
        if write:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, "utf-8")
    if stale and not write:
        sys.exit(f"not what the settings say: {', '.join(stale)}; run `make generate`")
