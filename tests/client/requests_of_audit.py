"""What the methods about what happened send: rows of test_requests."""

from typing import Any

from debt_mgmt.client import Revision

ROWS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any], str]] = [
    (
        "audit_events",
        ("alice",),
        {"kinds": ["MarginReserved"], "actor": "desk", "request_id": "r9", "newest_first": True, "limit": 2000},
        "ListAuditEvents",
        {
            "page_size": 1000,
            "account_id": "alice",
            "kinds": ["MarginReserved"],
            "actor": "desk",
            "request_id": "r9",
            "newest_first": True,
        },
        "AuditEvent",
    ),
    (
        "verify_audit",
        (),
        {"shard": 2, "start_position": 100, "max_events": 5000},
        "VerifyAudit",
        {"shard": 2, "start_position": "100", "max_events": "5000"},
        "AuditVerification",
    ),
    (
        "explain_event",
        (Revision(3, 17),),
        {},
        "ExplainEvent",
        {"event_revision": {"shard": 3, "position": "17"}},
        "EventExplanation",
    ),
    (
        "explain_event",
        (),
        {"account_id": "alice", "caused_by": "r9"},
        "ExplainEvent",
        {"account_id": "alice", "caused_by_request_id": "r9"},
        "EventExplanation",
    ),
]
