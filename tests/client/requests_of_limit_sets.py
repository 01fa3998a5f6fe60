"""What the methods of limit sets send: rows of test_requests."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from debt_mgmt.client import LimitHours, LimitSet, NodeLimits, OrderRate, Scope

ID = {"request_id": "r1"}
NIGHTS = LimitSet(
    Scope(owner="desk", strategy="momentum"),
    NodeLimits(
        max_leverage="2.5",
        max_position_quantity=0,
        max_position_notional=1000,
        max_exposure_notional=Decimal("25000.50"),
        max_concurrent_positions=3,
        max_open_reservations=0,
        max_order_rate=OrderRate(10, timedelta(seconds=1)),
    ),
    name="nights",
    mode="shadow",
    hours=[LimitHours("22:00", "06:00", ["monday", "friday"], "Europe/Zurich"), LimitHours("12:00", "13:00")],
    currency="USDT",
    reason="as it was made",
    update_time=datetime(2026, 1, 1, tzinfo=UTC),
)
SENT_NIGHTS = {
    "scope": {"owner": "desk", "strategy": "momentum"},
    "name": "nights",
    "mode": "LIMIT_MODE_SHADOW",
    "limits": {
        "max_leverage": "2.5",
        "max_position_quantity": "0",
        "max_position_notional": "1000",
        "max_exposure_notional": "25000.50",
        "max_concurrent_positions": 3,
        "max_open_reservations": 0,
        "max_order_rate": {"orders": 10, "interval": "1s"},
    },
    "hours": [
        {"days": ["monday", "friday"], "start_time": "22:00", "end_time": "06:00", "time_zone": "Europe/Zurich"},
        {"start_time": "12:00", "end_time": "13:00"},
    ],
    "currency": "USDT",
}

ROWS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any], str]] = [
    ("limit_sets", (), {}, "ListLimitSets", {"page_size": 1000}, "LimitSetStatus"),
    (
        "limit_sets",
        (),
        {"concerning": Scope(account_id="alice", symbol="BTCUSDT")},
        "ListLimitSets",
        {"page_size": 1000, "concerning": {"account_id": "alice", "symbol": "BTCUSDT"}},
        "LimitSetStatus",
    ),
    (
        "put_limit_set",
        (NIGHTS,),
        {**ID, "reason": "quiet hours"},
        "PutLimitSet",
        {**ID, "limit_set": {**SENT_NIGHTS, "reason": "quiet hours"}},
        "PutLimitSetOutcome",
    ),
    (
        "put_limit_set",
        (LimitSet(Scope(), NodeLimits(max_leverage=3), reason="calm"),),
        ID,
        "PutLimitSet",
        {
            **ID,
            "limit_set": {
                "scope": {},
                "mode": "LIMIT_MODE_ENFORCED",
                "limits": {"max_leverage": "3"},
                "reason": "calm",
            },
        },
        "PutLimitSetOutcome",
    ),
    (
        "delete_limit_set",
        (Scope(owner="desk"), "nights"),
        {**ID, "reason": "over"},
        "DeleteLimitSet",
        {**ID, "scope": {"owner": "desk"}, "name": "nights", "reason": "over"},
        "DeleteLimitSetOutcome",
    ),
]
