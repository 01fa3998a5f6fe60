"""What a type checker knows of the clients: the right calls pass it, each wrong one is found."""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]

SNIPPET = """
from decimal import Decimal
from typing import assert_type

from debt_mgmt.client import Alert, Listing, MarginClient, Order, OrderCheck, Position, ReserveOutcome, SyncMarginClient
from debt_mgmt.client import LimitSet, LimitSetStatus, NodeLimits, PutLimitSetOutcome, Scope


async def right(client: MarginClient, blocking: SyncMarginClient) -> None:
    assert_type(await client.check_order("alice", Order.buy("BTCUSDT", "0.05")), OrderCheck)
    assert_type(blocking.check_order("alice", Order("BTCUSDT", "sell", 1, Decimal(2)), timeout=1.5), OrderCheck)
    assert_type(await client.reserve("alice", Order.buy("BTCUSDT", 1), request_id="r1"), ReserveOutcome)
    assert_type(await client.positions("alice"), Listing[Position])
    assert_type(blocking.positions("alice")[0].quantity, Decimal)
    assert_type([alert async for alert in client.alerts()], list[Alert])
    assert_type(list(blocking.alerts(limit=5)), list[Alert])
    assert_type(await client.limit_sets(concerning=Scope(owner="desk")), Listing[LimitSetStatus])
    assert_type(blocking.put_limit_set(LimitSet(Scope(), NodeLimits(max_leverage=3))), PutLimitSetOutcome)
    assert_type((await client.raw.margin.CheckOrder(request())).result.fits, bool)
    assert_type(blocking.raw.margin.CheckOrder(request()).result.fits, bool)


async def wrong(client: MarginClient, blocking: SyncMarginClient) -> None:
    Order.buy("BTCUSDT", 0.05)  # error: arg-type
    await client.deposit("alice", "USDT", 1.5)  # error: arg-type
    await client.check_order("alice", "BTCUSDT")  # error: arg-type
    await client.check_order("alice", Order.buy("B", 1), tiemout=1)  # error: call-arg
    await client.account()  # error: call-arg
    NodeLimits(max_leverage=2.5)  # error: arg-type
    await client.limit_sets(Scope())  # error: call-arg
    client.account("alice")  # error: unused-coroutine
    await blocking.account("alice")  # error: misc
    (await client.check_order("alice", Order.buy("B", 1))).fit  # error: attr-defined
    (await client.margin_status("alice")).equity + 1  # error: operator
    await client.alerts()  # error: misc
    Order.buy("B", 1).quantity = Decimal(2)  # error: misc
"""


def test_a_type_checker_finds_each_wrong_call_and_no_right_one(tmp_path: Path) -> None:
    file = tmp_path / "snippet.py"
    lines = [*SNIPPET.strip().splitlines(), "", "from debt_mgmt.v1.margin_service_pb2 import CheckOrderRequest"]
    lines += ["", "def request() -> CheckOrderRequest:", "    return CheckOrderRequest()"]
    file.write_text("\n".join(lines) + "\n")
    expected = {
        (number, marked[1])
        for number, line in enumerate(lines, 1)
        if (marked := re.search(r"# error: ([a-z-]+)", line))
    }
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", "--no-pretty", str(file)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    found = {
        (int(line), code)
        for line, code in re.findall(r"snippet\.py:(\d+): error: .*\[([a-z-]+)\]", checked.stdout, re.MULTILINE)
    }
    assert found == expected, checked.stdout + checked.stderr
