"""DebtService.ListInterestCharges: charges from the journal with their working, newest first."""

from typing import TYPE_CHECKING

from debt_mgmt.core import events as e
from debt_mgmt.core.money import text
from debt_mgmt.server.journal.journal import Row
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import CODEC, reading
from debt_mgmt.server.rpc.audit_search import Search, newest, place_of
from debt_mgmt.server.rpc.pages import Cursor, cursor_of, token_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import debt_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

NAME = "ListInterestCharges"


async def list_interest_charges(
    engine: "Engine", request: wire.ListInterestChargesRequest
) -> wire.ListInterestChargesResponse:
    """Charges are journaled in the order in which they fell due, and never before: that is the order of the list."""
    read = Reader()
    account_id = read.account_id(request.account_id)
    size = read.page_size(request.page_size)
    asset = read.optional_asset(request.asset, "asset")
    since, until = read.period(request)
    read.done()
    engine.account(account_id)
    place, at = engine.revision(account_id), engine.clock()
    filters = (account_id, asset, str(since), str(until))
    cursor: Cursor | None = cursor_of(request.page_token, NAME, *filters)
    search = Search(account_id, ["InterestCharged"], "", "", since, None, True)
    found: list[tuple[Row, e.InterestCharged]] = []
    while len(found) <= size:
        rows = await newest(engine.journal, search, cursor, size + 1, at)
        for row in rows:
            charge = CODEC.decode_event(row.payload)
            assert isinstance(charge, e.InterestCharged)
            if (
                asset in ("", charge.asset)
                and (since is None or charge.due_at >= since)
                and (until is None or charge.due_at < until)
            ):
                found.append((row, charge))
        if len(rows) <= size:
            break
        cursor = place_of(rows[-1])
    page = found[:size]
    return wire.ListInterestChargesResponse(
        **reading(place, at),
        charges=[charge_message(row, charge) for row, charge in page],
        next_page_token=token_of(place_of(page[-1][0]), NAME, *filters) if len(found) > size else "",
    )


def charge_message(row: Row, charge: e.InterestCharged) -> wire.InterestCharge:
    return wire.InterestCharge(
        revision=convert.revision((row.shard, row.position)),
        account_id=row.account_id,
        asset=charge.asset,
        charge_time=convert.timestamp(charge.due_at),
        principal=text(charge.principal),
        rate=text(charge.rate),
        periods=charge.periods,
        amount=text(charge.amount),
        accrued_interest=text(charge.accrued_interest),
        interest_clock=charge.clock,
    )
