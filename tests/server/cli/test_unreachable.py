"""What the command line says where a connection fails: what is wrong, and what to try."""

from datetime import timedelta
from pathlib import Path

import pytest

from debt_mgmt.client import DebtMgmtError
from debt_mgmt.server.cli.session import Failed, client_of, what_to_try
from tests.server.security.signing import Authority
from tests.server.security.test_tls import served
from tests.support.service import service


async def advice(target: str) -> str:
    async with client_of(target) as client:
        with pytest.raises(DebtMgmtError) as failed:
            await client.caller(timeout=5)
    return what_to_try(failed.value.message)


async def test_the_port_of_http_and_a_name_that_is_none_are_told() -> None:
    async with service() as desk:
        assert "speaks HTTP" in await advice(f"127.0.0.1:{desk.running.metrics_port}")
    assert "Start one" in await advice("127.0.0.1:1")
    assert "host:port" in await advice("no-such-machine.invalid:50051")


async def test_encryption_on_one_side_alone_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    async with served(tmp_path, server__tls__certificate=str(certificate), server__tls__key=str(key)) as running:
        assert "if it is encrypted" in await advice(f"127.0.0.1:{running.port}")
        monkeypatch.setenv("DEBT_MGMT_TLS_CA", str(Authority(tmp_path, "stranger").file))
        assert "who vouches for it" in await advice(f"127.0.0.1:{running.port}")
    monkeypatch.setenv("DEBT_MGMT_TLS_CA", str(authority.file))
    async with service() as desk:
        assert "without encryption" in await advice(f"127.0.0.1:{desk.running.port}")
    old, old_key = authority.issue("old", ends_in=-timedelta(hours=1))
    async with served(tmp_path, server__tls__certificate=str(old), server__tls__key=str(old_key)) as running:
        assert "still valid" in await advice(f"127.0.0.1:{running.port}")


@pytest.mark.parametrize("name", ["DEBT_MGMT_TOKEN_FILE", "DEBT_MGMT_TLS_CA"])
def test_a_file_that_is_not_there_is_told_with_who_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/no/such/file")
    with pytest.raises(Failed, match=f"{name}: /no/such/file: No such file"):
        client_of("127.0.0.1:1")
