"""What the methods about changes that need a second person send: rows of test_requests."""

from typing import Any

ROWS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any], str]] = [
    (
        "pending_changes",
        (),
        {"include_decided": True, "limit": 5},
        "ListPendingChanges",
        {"page_size": 5, "include_decided": True},
        "PendingChange",
    ),
    (
        "approve_change",
        ("change-17",),
        {"note": "I looked", "request_id": "r1"},
        "ApproveChange",
        {"request_id": "r1", "change_id": "change-17", "note": "I looked"},
        "ApproveOutcome",
    ),
    (
        "reject_change",
        ("change-17",),
        {"note": "not today", "request_id": "r2"},
        "RejectChange",
        {"request_id": "r2", "change_id": "change-17", "note": "not today"},
        "RejectOutcome",
    ),
]
