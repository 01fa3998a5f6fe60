"""The load generator in Python, for machines without Go: the same options and the same report as benchmarks/load."""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import msgspec

from benchmarks import machine
from benchmarks.figures import percentile
from benchmarks.generator import Report, frames, read_frames

CALL_SECONDS = 30.0


class Load:
    """One measurement."""

    def __init__(self, options: argparse.Namespace, channels: list[grpc.aio.Channel]) -> None:
        self.options = options
        self.channels = channels
        self.metadata = [("authorization", f"Bearer {options.token}")] if options.token else None
        self.requests = read_frames(options.requests)
        self.responses = [b""] * len(self.requests)
        self.started_at = time.perf_counter() + options.warm_up
        self.ends_at = self.started_at + options.seconds
        self.taken = 0
        self.latencies: list[float] = []
        self.counted = self.all = self.bytes = self.errors = 0
        self.first_error = ""
        self.last = self.started_at

    def take(self) -> int | None:
        """The number of the next request; None when the time is over or the requests are used up."""
        if time.perf_counter() > self.ends_at or (self.options.once and self.taken >= len(self.requests)):
            return None
        self.taken += 1
        return (self.taken - 1) % len(self.requests)

    def answered(self, began: float | None, response: bytes) -> None:
        now = self.last = time.perf_counter()
        self.all += 1
        self.bytes += len(response)
        if self.started_at <= now <= self.ends_at:
            self.counted += 1
            if began is not None:
                self.latencies.append(now - began)

    def failed(self, error: grpc.RpcError) -> None:
        self.errors += 1
        self.first_error = self.first_error or str(error)

    async def unary(self, channel: grpc.aio.Channel) -> None:
        call: Any = channel.unary_unary(self.options.method)
        try:
            while (number := self.take()) is not None:
                began = time.perf_counter()
                response = await call(self.requests[number], timeout=CALL_SECONDS, metadata=self.metadata)
                self.answered(began, response)
                self.responses[number] = response
        except grpc.RpcError as error:
            self.failed(error)

    async def stream(self, channel: grpc.aio.Channel) -> None:
        sent: asyncio.Queue[float] = asyncio.Queue(self.options.in_flight)

        async def sending() -> AsyncIterator[bytes]:
            while (number := self.take()) is not None:
                await sent.put(time.perf_counter())
                yield self.requests[number]

        try:
            call: Any = channel.stream_stream(self.options.method)
            async for response in call(sending(), metadata=self.metadata):
                self.answered(sent.get_nowait(), response)
        except grpc.RpcError as error:
            self.failed(error)

    async def watch(self, channel: grpc.aio.Channel, number: int) -> None:
        method: Any = channel.unary_stream(self.options.method)
        call = method(self.requests[number % len(self.requests)], metadata=self.metadata)
        try:
            async with asyncio.timeout(self.ends_at - time.perf_counter()):
                async for response in call:
                    self.answered(None, response)
        except TimeoutError:
            call.cancel()
        except grpc.RpcError as error:
            self.failed(error)

    async def run(self) -> None:
        options, channels = self.options, self.channels
        count = options.in_flight if options.mode == "unary" else options.streams
        async with asyncio.TaskGroup() as work:
            for number in range(count):
                channel = channels[number % len(channels)]
                if options.mode == "watch":
                    work.create_task(self.watch(channel, number))
                else:
                    work.create_task(self.unary(channel) if options.mode == "unary" else self.stream(channel))

    def report(self) -> Report:
        end = min(self.ends_at, self.last) if self.options.once else self.ends_at
        return Report(
            generator="python",
            calls=self.counted,
            calls_in_all=self.all,
            seconds=end - self.started_at,
            errors=self.errors,
            first_error=self.first_error,
            p50_ms=percentile(self.latencies, 0.5) * 1000 if self.latencies else 0.0,
            p99_ms=percentile(self.latencies, 0.99) * 1000 if self.latencies else 0.0,
            response_bytes=self.bytes / self.all if self.all else 0.0,
        )


async def main() -> None:
    read = argparse.ArgumentParser(prog="python -m benchmarks.python_load", description=__doc__)
    read.add_argument("-target", required=True)
    read.add_argument("-method", required=True)
    read.add_argument("-requests", type=Path, required=True)
    read.add_argument("-responses", type=Path)
    read.add_argument("-token", default="")
    read.add_argument("-mode", choices=["unary", "stream", "watch"], default="unary")
    read.add_argument("-in-flight", type=int, default=1)
    read.add_argument("-streams", type=int, default=1)
    read.add_argument("-connections", type=int, default=1)
    read.add_argument("-seconds", type=float, default=1.0)
    read.add_argument("-warm-up", type=float, default=0.0)
    read.add_argument("-once", action="store_true")
    options = read.parse_args()
    channels = [
        grpc.aio.insecure_channel(
            options.target,
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * 1024 * 1024)],
        )
        for _ in range(options.connections)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    load = Load(options, channels)
    await load.run()
    if options.responses is not None:
        options.responses.write_bytes(frames(load.responses))
    for channel in channels:
        await channel.close()
    sys.stdout.write(msgspec.json.encode(load.report()).decode() + "\n")


if __name__ == "__main__":
    machine.run(main())
