"""Limit sets by the SDK against the real service in this process."""

from dataclasses import replace
from decimal import Decimal

import pytest

from debt_mgmt.client import (
    AssetAmount,
    LimitMode,
    LimitSet,
    NodeLimits,
    Order,
    Protection,
    RefusalReason,
    Refused,
    Scope,
)
from debt_mgmt.client.testing import InProcessServer

DESK = Scope(owner="desk")
BUDGET = LimitSet(DESK, NodeLimits(max_exposure_notional=3000), currency="USDT")
BUY = Order.buy("BTCUSDT", "0.05")


async def test_what_one_account_uses_the_other_has_not() -> None:
    async with InProcessServer(marks={"BTCUSDT": 50000}) as server, server.client() as client:
        for name in ("alice", "bob"):
            deposit = AssetAmount("USDT", 10000)
            await client.create_account(name, owner="desk", currency="USDT", initial_deposit=deposit)
        shadow = replace(BUDGET, mode=LimitMode.SHADOW)
        (await client.put_limit_set(shadow, reason="try it")).raise_if_refused()
        (await client.reserve("alice", BUY)).raise_if_refused()
        tried = (await client.check_order("bob", BUY)).raise_if_refused()
        (broken,) = tried.shadow_violations
        assert (broken.reason, broken.scope, broken.limit_set) == (RefusalReason.EXPOSURE_LIMIT, DESK, None)

        now = (await client.put_limit_set(BUDGET, reason="in earnest")).raise_if_refused().limit_set
        assert now is not None and (now.account_count, now.in_force, now.limit_set.reason) == (2, True, "in earnest")
        with pytest.raises(Refused) as caught:
            (await client.reserve("bob", BUY)).raise_if_refused()
        assert caught.value.violations[0].scope == DESK
        assert caught.value.violations[0].headroom == 500

        (found,) = await client.limit_sets(concerning=Scope(account_id="bob"))
        (use,) = found.protections
        assert (use.protection, use.used, use.headroom) == (Protection.EXPOSURE_NOTIONAL, Decimal(2500), Decimal(500))
        assert not await client.limit_sets(concerning=Scope(owner="fund"))

        (await client.delete_limit_set(DESK, reason="over")).raise_if_refused()
        assert (await client.check_order("bob", BUY)).fits
        again = await client.delete_limit_set(DESK)
        assert [one.reason for one in again.violations] == [RefusalReason.LIMIT_SET_NOT_FOUND]
