"""Where answers go: tables for people or JSON for programs on stdout, everything else on stderr."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

PIPED_WIDTH = 120
"""Columns where nobody says how wide the reader is."""


def console_on(stream: Any, *, stderr: bool = False) -> Console:
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(stderr=stderr, highlight=False, width=width)


class Output:
    """Writes what a command found: `show` for people, `document` and `line` for programs, `say` for both on stderr."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.out = console_on(sys.stdout)
        self.err = console_on(sys.stderr, stderr=True)

    def show(self, *parts: RenderableType) -> None:
        """Prints for people; nothing where JSON was asked for."""
        if not self.as_json:
            for part in parts:
                self.out.print(part)

    def paste(self, text: str) -> None:
        """Prints lines for people to copy: left whole, however narrow the screen."""
        if not self.as_json:
            self.out.print(text, style="cyan", markup=False, soft_wrap=True)

    def document(self, **members: Any) -> None:
        """Prints one JSON document; nothing where it was not asked for."""
        if self.as_json:
            self.write(json.dumps(plain(members), indent=2, ensure_ascii=False))

    def line(self, **members: Any) -> None:
        """Prints one line of JSON; nothing where it was not asked for."""
        if self.as_json:
            self.write(json.dumps(plain(members), ensure_ascii=False))

    def say(self, text: str, style: str = "") -> None:
        """Prints a remark on stderr."""
        self.err.print(text, style=style, markup=False, soft_wrap=True)

    def write(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def plain(value: Any) -> Any:
    """The value in JSON's own types: decimals as strings, times in ISO 8601, spans in seconds, unknown as null."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return value.value
        case str():
            return value
        case Decimal():
            return format(abs(value) if value.is_zero() else value, "f")
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
        case Path():
            return str(value)
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")
