"""What a container asks its service: over gRPC, without a token, encrypted where the service is."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from debt_mgmt.server import healthcheck
from tests.server.security.door import door
from tests.support.service import service


async def asked(target: str, *names: str) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "debt_mgmt.server.healthcheck",
        *names,
        env={**os.environ, "DEBT_MGMT_TARGET": target, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode is not None
    return child.returncode, said.decode()


async def test_a_service_that_asks_for_tokens_tells_its_health_without_one(tmp_path: Path) -> None:
    async with door(tmp_path) as opened:
        target = f"127.0.0.1:{opened.bare.running.port}"
        assert await asked(target) == (0, "")
        assert await asked(target, "debt_mgmt.protecting") == (0, "")


async def test_what_does_not_serve_is_not_healthy() -> None:
    async with service() as desk:
        target = f"127.0.0.1:{desk.running.port}"
        assert await asked(target, "debt_mgmt.nothing") == (1, f"no answer from {target}: NOT_FOUND\n")
    code, said = await asked(target)
    assert (code, said.split(":")[0]) == (1, "no answer from 127.0.0.1")


def test_a_certificate_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEBT_MGMT_TLS_CA", str(tmp_path / "none.pem"))
    assert "none.pem" in healthcheck.problem("127.0.0.1:1", [""])
