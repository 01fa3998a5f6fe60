"""The blocking client: the same methods as the asynchronous one, without await."""

import time
from collections.abc import Generator, Iterable, Sequence
from types import TracebackType
from typing import Self

import grpc

from debt_mgmt.client.enums import CheckDetail, MarkClock
from debt_mgmt.client.errors import error_from
from debt_mgmt.client.market import Marks, MarksPublished
from debt_mgmt.client.methods import BlockingCaller
from debt_mgmt.client.services import ServiceMethods
from debt_mgmt.client.streams import Checks, OrderToCheck, StreamedCheck, mark_batches, orders_to_check
from debt_mgmt.client.sync_watch import SyncMarginWatch
from debt_mgmt.client.times import Span, Timeout, optional_seconds
from debt_mgmt.client.watch import WatchSession, watch_order
from debt_mgmt.client.wire import read


class SyncMarginClient(ServiceMethods, BlockingCaller):
    """Speaks to the service from threads: any number of them may share a client.

        with SyncMarginClient() as client:
            check = client.check_order("demo", Order.buy("BTCUSDT", "0.05"))

    Everything else is as on MarginClient.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the watches and closes the connection. Calls that are under way are cancelled."""
        for watch in list(self._watches):
            watch.close()
        for channel in self._unlink():
            channel.close()

    def watch_margin(
        self,
        account_ids: Sequence[str] | None = None,
        *,
        min_interval: Span | None = None,
        max_staleness: Span = 15.0,
        give_up_after: Span | None = None,
    ) -> SyncMarginWatch:
        """Streams the margin of accounts; of all that the caller may see, new ones too, where none is named.

        First each account's Snapshot, then SnapshotComplete, then an Update for each account that changed, and every
        AlertEvent and LiquidationEvent. `min_interval` is the shortest time between two updates of an account.

        When the stream breaks it is connected again and continues where it was: Disconnected and Reconnected tell of
        it, Resynced that everything held must be dropped. When nothing was heard for `max_staleness`, or what is read
        was sent so long ago, Stale says for how long. Raises DebtMgmtError where connecting again can't help, when the
        service can't be reached in the first place, and after an outage of `give_up_after`.
        """
        order = watch_order(account_ids, min_interval, max_staleness, give_up_after, self.timeouts.read)
        session = WatchSession(order, time.monotonic())
        watch = SyncMarginWatch(session, lambda request: self._link(streams=True).stubs.margin.WatchMargin(request))
        self._watches.add(watch)
        return watch

    def stream_checks(
        self,
        orders: Iterable[OrderToCheck],
        *,
        detail: CheckDetail | str = CheckDetail.FIGURES,
        timeout: Timeout = None,
    ) -> Generator[StreamedCheck, None, None]:
        """Checks orders as they come, each on the state of its moment: (account id, order) in, one answer for each out.

        An order that can't be checked, being malformed or of an unknown account, is answered with an error, and the
        stream goes on. The timeout is for the whole stream; there is none by default.
        """
        checks = Checks(detail)
        outgoing = orders_to_check(checks)
        limit = optional_seconds(timeout, "timeout")
        call = self.raw.margin.StreamCheckOrders(outgoing.iterate(orders), timeout=limit)
        try:
            for response in call:
                yield checks.received(response)
        except grpc.RpcError as failure:
            raise error_from(failure, "StreamCheckOrders") from failure
        finally:
            call.cancel()
        outgoing.raise_failure()

    def feed_marks(
        self,
        batches: Iterable[Marks],
        *,
        clock: MarkClock | str = MarkClock.LIVE,
        settle: bool = False,
        timeout: Timeout = None,
    ) -> MarksPublished:
        """Publishes batches of prices over one stream, as publish_marks each; answers when there are no more.

        The timeout is for the whole stream; there is none by default.
        """
        outgoing = mark_batches(clock, settle)
        limit = optional_seconds(timeout, "timeout")
        try:
            response = self.raw.market.PublishMarks(outgoing.iterate(batches), timeout=limit)
        except grpc.RpcError as failure:
            raise error_from(failure, "PublishMarks") from failure
        outgoing.raise_failure()
        return read(MarksPublished, response)
