"""What the methods about tokens send: rows of test_requests."""

from datetime import timedelta
from typing import Any

ROWS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any], str]] = [
    ("caller", (), {}, "GetCaller", {}, "Caller"),
    (
        "issue_token",
        ("desk-7", "trader"),
        {"account_ids": ["alice", "bob"], "time_to_live": timedelta(days=1), "note": "the engine", "request_id": "r1"},
        "IssueToken",
        {
            "request_id": "r1",
            "name": "desk-7",
            "role": "ROLE_TRADER",
            "account_ids": ["alice", "bob"],
            "time_to_live": "86400s",
            "note": "the engine",
        },
        "TokenOutcome",
    ),
    ("tokens", (), {"include_ended": True}, "ListTokens", {"page_size": 1000, "include_ended": True}, "Token"),
    (
        "rotate_token",
        ("desk-7",),
        {"overlap": timedelta(hours=1), "request_id": "r2"},
        "RotateToken",
        {"request_id": "r2", "name": "desk-7", "overlap": "3600s"},
        "TokenOutcome",
    ),
    (
        "revoke_token",
        ("desk-7",),
        {"reason": "lost", "request_id": "r3"},
        "RevokeToken",
        {"request_id": "r3", "name": "desk-7", "reason": "lost"},
        "RevokeTokenOutcome",
    ),
]
