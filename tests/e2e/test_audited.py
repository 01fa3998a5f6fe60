"""What the audit keeps besides decisions: who could not prove who they are, and which settings changed."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import account_service_pb2
from tests.support.service import Desk, service


async def events(desk: Desk, kind: str) -> list[dict[str, object]]:
    rows = await desk.engine.journal.list_rows(kinds=[kind], limit=1000)
    return [json.loads(row.payload) for row in rows]


async def test_a_sign_in_failure_is_in_the_audit_with_peer_and_method(tmp_path: Path) -> None:
    journal = MemoryJournal()
    async with service(
        journal=journal, server__auth="tokens", server__admin_token_file=str(tmp_path / "admin.token")
    ) as desk:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await desk.accounts.ListAccounts(
                account_service_pb2.ListAccountsRequest(), metadata=(("authorization", "Bearer not-a-token"),)
            )
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await asyncio.sleep(0.05)
        (failure,) = await events(desk, "SignInFailed")
        assert failure["method"] == "AccountService/ListAccounts"
        assert str(failure["peer"]).startswith("ipv4:127.0.0.1")
        assert "not-a-token" not in json.dumps(failure)


async def test_changed_settings_are_in_the_audit_and_secrets_are_not() -> None:
    journal = MemoryJournal()
    async with service(
        journal=journal, database__host="db", database__password="canary-key", server__address="127.0.0.1:0"
    ) as first:
        (start,) = await events(first, "ConfigurationChanged")
        assert "canary-key" not in json.dumps(start)
        (told,) = [one for one in start["changes"] if one["key"] == "database.password"]  # type: ignore[attr-defined]
        assert told["after"].startswith("secret ")
    async with service(journal=journal, database__host="db", database__password="canary-key") as again:
        assert len(await events(again, "ConfigurationChanged")) == 1
    async with service(journal=journal, database__host="db", database__password="another-key") as changed:
        last = (await events(changed, "ConfigurationChanged"))[-1]
        assert [one["key"] for one in last["changes"]] == ["database.password"]  # type: ignore[attr-defined]
