"""The project's own rules about its files: names, openings, lengths, and what must not stand in them."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
GENERATED = "client/debt_mgmt/v1/"
LINES_MOST = 600

BANNED_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "manager",
    "common",
    "misc",
    "data",
    "process",
    "handle",
    "handler",
}
"""Words that say nothing about a file, or two things."""

ONE_MACHINE = re.compile(
    r"(?<![\w./~$}-])/(?:work|farm|root|workspace|home/\w+|Users/\w+|tmp/venv)(?:/|\b)"
    r"|(?:--|\b)(?:extra-)?index-url\b|\bGOPROXY\b|\bNPM_CONFIG_REGISTRY\b"
    r"|\b(?:pypi\.org|pythonhosted\.org|proxy\.golang\.org|registry\.npmjs\.org|static\.crates\.io|deb\.debian\.org)"
    r"|\b(?:artifactory|nexus|jfrog)\b",
    re.IGNORECASE,
)
"""Paths that exist on one machine only, and hosts or settings of package registries."""

LEFTOVERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
OTHER_PAPERS = re.compile(r"\b(?:DESIGN|STYLE|SEED|BRIEF)\.md\b|\bDESIGN §")
"""Papers that are not part of the project."""

BESIDE_THE_PROJECT = re.compile(r"\.\./shared\b")
"""Recordings that a test may be pointed at; nothing else knows of them."""


def tracked() -> list[str]:
    """Every file that is, or is about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
        text=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file())


FILES = tracked()
WRITTEN = [name for name in FILES if not name.startswith(GENERATED)]
PYTHON = [name for name in WRITTEN if name.endswith(".py")]


def text_of(name: str) -> str | None:
    """The text of a file, None where it is not one."""
    try:
        return (PROJECT / name).read_text("utf-8")
    except UnicodeDecodeError:
        return None


def lines_with(pattern: re.Pattern[str], names: list[str]) -> list[str]:
    """Where the pattern stands, in every file but this one."""
    this = Path(__file__).relative_to(PROJECT).as_posix()
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in names
        if name != this and (text := text_of(name)) is not None
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_there_are_files_to_look_at() -> None:
    assert {"pyproject.toml", "server/debt_mgmt/server/config.py", "core/debt_mgmt/core/money.py"} <= set(FILES)


def test_the_namespace_package_has_no_init() -> None:
    assert [str(path) for path in PROJECT.glob("*/debt_mgmt/__init__.py")] == []


@pytest.mark.parametrize(
    "package", ["core/debt_mgmt/core", "server/debt_mgmt/server", "client/debt_mgmt/client", "client/debt_mgmt/v1"]
)
def test_every_package_is_typed(package: str) -> None:
    assert (PROJECT / package / "py.typed").is_file()
    assert (PROJECT / package / "__init__.py").is_file()


def test_every_file_says_in_its_first_line_what_it_is_for() -> None:
    silent = []
    for name in PYTHON:
        docstring = ast.get_docstring(ast.parse((PROJECT / name).read_text("utf-8")))
        if not docstring or not docstring.splitlines()[0].endswith("."):
            silent.append(name)
    assert silent == []


def test_files_are_named_after_what_they_are_about() -> None:
    named = [name for name in WRITTEN if name.endswith((".py", ".proto", ".sql", ".sh"))]
    vague = [
        name
        for name in named
        if BANNED_NAMES & {word for part in Path(name).with_suffix("").parts for word in part.split("_")}
    ]
    assert vague == []


def test_no_file_is_longer_than_one_sitting() -> None:
    lengths = {name: len((PROJECT / name).read_text("utf-8").splitlines()) for name in PYTHON}
    assert {name: length for name, length in lengths.items() if length > LINES_MOST} == {}


def test_nothing_belongs_to_one_machine() -> None:
    assert lines_with(ONE_MACHINE, FILES) == []


def test_nothing_is_left_for_later() -> None:
    assert lines_with(LEFTOVERS, WRITTEN) == []


def test_the_project_speaks_of_itself_alone() -> None:
    assert lines_with(OTHER_PAPERS, FILES) == []
    assert lines_with(BESIDE_THE_PROJECT, [name for name in FILES if not name.startswith("tests/")]) == []


def test_margin_level_is_not_a_word_here() -> None:
    own = [name for name in FILES if name.startswith(("proto/", "core/", "server/", "client/", "migrations/"))]
    assert lines_with(re.compile(r"margin_?level", re.IGNORECASE), own) == []


def test_only_the_screen_uses_floats() -> None:
    floats = [
        f"{name}:{node.lineno}: {node.value}"
        for name in PYTHON
        if name.startswith("core/") and Path(name).name not in ("screen.py", "slopes.py")
        for node in ast.walk(ast.parse((PROJECT / name).read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    assert floats == []


@pytest.mark.parametrize(
    ("line", "belongs"),
    [
        ("see /home/alice/notes", True),
        ("data = Path('/work/main')", True),
        ("pip install --index-url https://mirror.example/simple debt-mgmt", True),
        ("GOPROXY=off", True),
        ("../shared/data/tape.csv.gz", False),
        ("the workshop/root of it", False),
        ("~/.local/share/debt-mgmt", False),
        ("--home-dir /var/lib/debt-mgmt", False),
    ],
)
def test_a_machine_is_recognised(line: str, belongs: bool) -> None:
    assert bool(ONE_MACHINE.search(line)) is belongs
