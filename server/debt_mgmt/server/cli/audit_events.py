"""An event of the journal as JSON."""

from typing import Any

from debt_mgmt.client import AuditEvent


def members_of(event: AuditEvent) -> dict[str, Any]:
    """The event with its payload decoded."""
    return {
        "revision": event.revision,
        "time": event.time,
        "account_id": event.account_id,
        "request_id": event.request_id,
        "actor": event.actor,
        "kind": event.kind,
        "payload": event.fields(),
        "chain_hash": event.chain_hash,
    }
