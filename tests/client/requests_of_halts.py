"""What the methods of halts send, and orders of a strategy: rows of test_requests."""

from typing import Any

from debt_mgmt.client import Order

ID = {"request_id": "r1"}
ALICE = {"account_id": "alice"}
PAGE = {"page_size": 1000}

ROWS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any], str]] = [
    ("halt", (), {**ID, **ALICE, "reason": "why"}, "HaltTrading", {**ID, **ALICE, "reason": "why"}, "HaltOutcome"),
    ("halt", (), {**ID, "everything": True}, "HaltTrading", {**ID, "everything": True}, "HaltOutcome"),
    ("resume", (), {**ID, "owner": "desk"}, "ResumeTrading", {**ID, "owner": "desk"}, "ResumeOutcome"),
    (
        "halt",
        (),
        {**ID, "strategy": "momo", "instrument": "BTCUSDT", "owner": "desk", "account_id": "alice"},
        "HaltTrading",
        {**ID, "node": {"strategy": "momo", "symbol": "BTCUSDT", "owner": "desk", "account_id": "alice"}},
        "HaltOutcome",
    ),
    (
        "resume",
        (),
        {**ID, "strategy": "momo"},
        "ResumeTrading",
        {**ID, "node": {"strategy": "momo"}},
        "ResumeOutcome",
    ),
    ("halts", (), {}, "ListHalts", PAGE, "HaltStatus"),
    (
        "check_order",
        ("alice", Order.buy("BTCUSDT", "0.5", strategy="momo")),
        {},
        "CheckOrder",
        {**ALICE, "order": {"symbol": "BTCUSDT", "side": "SIDE_BUY", "quantity": "0.5", "strategy": "momo"}},
        "OrderCheck",
    ),
]
