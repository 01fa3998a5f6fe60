"""What docs/limits.md shows is run as it stands: its commands and its Python against a service of the demo."""

import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from debt_mgmt.client import SyncMarginClient
from tests.server.cli.test_service import Service, asked, environment, run, start
from tests.server.journal.places import open_place

PAGE = (Path(__file__).parents[3] / "docs" / "limits.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with open_place() as directory:
        running = start(directory, "--demo")
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.communicate(timeout=30)


def test_the_commands_of_the_page_do_what_it_says(service: Service) -> None:
    assert len(COMMANDS) > 10
    for line in COMMANDS:
        program, *words = shlex.split(line, comments=True)
        assert program == "debt-mgmt"
        done = run(service, *words)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    names = {one["status"]["limit_set"]["name"] for one in asked(service, "limits", "tree")["limit_sets"]}
    assert {None, "weekend", "nights"} <= names and "tighter" not in names


def test_the_python_of_the_page_runs(service: Service) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with SyncMarginClient(service.said["target"]) as client:
        client.create_account("alice", owner="desk")
    imports, rest = block.split("\n\n", 1)
    program = f"import asyncio\n{imports}\nasync def main():\n{textwrap.indent(rest, '    ')}\nasyncio.run(main())\n"
    program = program.replace("MarginClient()", "MarginClient.from_env()")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(DEBT_MGMT_TARGET=service.said["target"]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "owner desk" in done.stdout
