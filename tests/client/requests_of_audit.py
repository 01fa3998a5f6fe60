"""What the methods about what happened send: rows of test_requests."""

from typing import Any

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
]
