"""Reading what was true earlier: every call within `as_of` is answered from that revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from debt_mgmt.client.answers import Revision

METADATA = "debt-mgmt-as-of"

_moment: ContextVar[str | None] = ContextVar("debt_mgmt_as_of", default=None)


@contextmanager
def as_of(moment: Revision | datetime) -> Iterator[None]:
    """Within it, calls that read are answered from an earlier state: as of a revision, or of a time.

        with as_of(Revision(3, 1274)):
            then = await client.margin_status("alice")

    Prices are not part of the state. Known are those that the account's last decision was made on; a figure that rests
    on any other is None. A call that changes something, or is about the present alone, raises InvalidRequest.
    """
    token = _moment.set(spelled(moment))
    try:
        yield
    finally:
        _moment.reset(token)


def spelled(moment: Revision | datetime) -> str:
    """The moment as it is sent. Raises ValueError for a time without a zone."""
    if isinstance(moment, Revision):
        return f"{moment.shard}:{moment.position}"
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone, such as datetime(2026, 3, 2, 9, tzinfo=UTC)")
    return moment.astimezone(UTC).isoformat()


def looking_back() -> dict[str, Any]:
    """What a call is to carry for that; nothing outside of `as_of`."""
    moment = _moment.get()
    return {} if moment is None else {"metadata": ((METADATA, moment),)}
