"""What a caller who is limited to some accounts may learn of limits that other accounts share."""

from collections.abc import Iterable
from typing import Any

import msgspec

from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.server.actor import Actor

OF_ALL = frozenset({Reason.EXPOSURE_LIMIT, Reason.CONCURRENT_POSITIONS, Reason.OPEN_RESERVATIONS, Reason.ORDER_RATE})
"""Reasons whose numbers, at a node of several accounts, are those of all of them."""


def as_seen(violations: Iterable[Violation], actor: Actor) -> tuple[Violation, ...]:
    """The violations, those of wider nodes without what would tell of other accounts."""
    if actor.accounts is None:
        return tuple(violations)
    return tuple(one if is_own(one, actor) else without_others(one) for one in violations)


def is_own(one: Violation, actor: Actor) -> bool:
    return one.scope is None or (one.scope.account_id != "" and actor.may_see(one.scope.account_id))


def without_others(one: Violation) -> Violation:
    if one.reason in OF_ALL:
        return msgspec.structs.replace(one, value=None, limit=None, headroom=None)
    if one.reason is Reason.MISSING_MARK and one.scope is not None:
        return msgspec.structs.replace(one, subject=f"something in {one.scope.words}")
    return one


def payload_as_seen(payload: bytes, actor: Actor) -> bytes:
    """An event as the journal has it, without what would tell a limited caller of other accounts."""
    if actor.accounts is None or not (b'"scope"' in payload or b'"outside"' in payload):
        return payload
    event: dict[str, Any] = msgspec.json.decode(payload)
    inputs = event.get("inputs")
    if isinstance(inputs, dict):
        inputs.pop("outside", None)
    for field in ("violations", "shadow"):
        if field in event:
            told = msgspec.convert(event[field], tuple[Violation, ...], strict=False)
            event[field] = msgspec.to_builtins(as_seen(told, actor))
    return msgspec.json.encode(event)
