"""What all commands share: options, the connection to the service, exit codes, errors told without a traceback."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Annotated, Any

import grpc
import typer

from debt_mgmt.client import DebtMgmtError, MarginClient, Refused, RetryPolicy, Revision, as_of, errors
from debt_mgmt.client.channel import (
    CA_VARIABLE,
    CERTIFICATE_VARIABLE,
    DEFAULT_TARGET,
    KEY_VARIABLE,
    TARGET_VARIABLE,
    TOKEN_FILE_VARIABLE,
)
from debt_mgmt.server.cli.output import Output, plain

ATTEMPTS = 3
"""How often a call is tried; a person at a terminal would rather know."""


class Exit(IntEnum):
    """What a command's exit status says."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    FAULT = 4
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit status: 0 done; 1 refused by the rules; 2 wrong arguments, configuration or names; 3 the service can't be "
    "reached; 4 the service failed."
)

Target = Annotated[
    str, typer.Option("--target", envvar=TARGET_VARIABLE, help="Where the service listens, as host:port.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
NEAR = DEFAULT_TARGET

Work = Callable[[MarginClient], Coroutine[Any, Any, Exit | None]]

WRONG = (
    errors.InvalidRequest,
    errors.NotFound,
    errors.Conflict,
    errors.FailedPrecondition,
    errors.NotImplementedByServer,
    errors.Unauthenticated,
    errors.PermissionDenied,
)
"""Errors that another command line would not meet."""


class Failed(Exception):
    """A command can't go on; the message is for people."""

    def __init__(self, message: str, status: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.status = status


FILES = (TOKEN_FILE_VARIABLE, CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE)
"""Variables that name files."""


def client_of(target: str) -> MarginClient:
    """A client of the service at `target`, with the token and the certificates that the environment names."""
    try:
        return MarginClient.from_env(target=target, retries=RetryPolicy(attempts_max=ATTEMPTS))
    except OSError as error:
        named = [name for name in FILES if os.environ.get(name) == str(error.filename)]
        raise Failed(f"{named[0] if named else 'a file'}: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise Failed(str(error)) from None


def ask(output: Output, target: str, work: Work, then: Revision | datetime | None = None) -> None:
    """Run `work` with a connection to `target` and end the command with the status that it gives.

    With `then` everything is read as it was at that revision or time.
    """

    async def connected() -> Exit | None:
        async with client_of(target) as client:
            with contextlib.nullcontext() if then is None else as_it_was(then):
                return await work(client)

    finish(output, target, connected())


@contextlib.contextmanager
def as_it_was(then: Revision | datetime) -> Iterator[None]:
    """Read what stood then. Raises Failed for what was not there yet, which is not to be taken for a wrong name."""
    try:
        with as_of(then):
            yield
    except errors.NotFound as error:
        raise Failed(f"{error.reason}: {error.message} at that time; it may have been opened later") from None


def finish(output: Output, target: str, work: Coroutine[Any, Any, Exit | None], loop: Any = None) -> None:
    """Run `work` and end the command with its status; expected errors are told, not traced."""
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            status = runner.run(work)
    except DebtMgmtError as error:
        tell(output, target, error)
        status = status_of(error)
    except Refused as error:
        output.say("debt-mgmt: refused by the rules", "bold red")
        for violation in error.violations:
            output.say(f"  {violation.reason.value}: {violation.message}")
        status = Exit.REFUSED
    except Failed as error:
        output.say(f"debt-mgmt: {error}", "bold red")
        status = error.status
    except KeyboardInterrupt:
        status = Exit.INTERRUPTED
    if status:
        raise typer.Exit(status)


def status_of(error: DebtMgmtError) -> Exit:
    if isinstance(error, errors.Unavailable | errors.DeadlineExceeded):
        return Exit.UNREACHABLE
    return Exit.USAGE if isinstance(error, WRONG) else Exit.FAULT


def unreachable(error: DebtMgmtError) -> bool:
    """Nothing that speaks for the service answered."""
    return error.code is grpc.StatusCode.UNAVAILABLE and error.reason is None


def what_to_try(said: str) -> str:
    """What to do about a connection that failed, by what the library said of it."""
    if "http1.x server" in said:
        return "That port speaks HTTP, not gRPC: name the gRPC port with --target."
    if "WRONG_VERSION_NUMBER" in said:
        return f"Something answers there without encryption, and {CA_VARIABLE} asks for it."
    if "handshake failed" in said.lower() or "certificate" in said.lower():
        return f"The encryption failed: does {CA_VARIABLE} name who vouches for it, and is its certificate still valid?"
    if "errors resolving" in said or "lookup" in said:
        return "There is no machine of that name: a target is host:port, such as 127.0.0.1:50051."
    if "Socket closed" in said or "Connection reset" in said:
        return f"Something took the connection and closed it: if it is encrypted, set {CA_VARIABLE}."
    return "Start one with `debt-mgmt serve --demo`, or name another with --target."


def tell(output: Output, target: str, error: DebtMgmtError) -> None:
    """Say what went wrong: the reason, the message and every field concerned."""
    if output.as_json:
        members = {
            "reason": error.reason or error.code.name,
            "message": error.message,
            "metadata": error.metadata,
            "fields": error.field_violations,
            "target": target,
        }
        output.say(json.dumps({"error": plain(members)}, ensure_ascii=False))
        return
    if unreachable(error):
        output.say(f"debt-mgmt: no service answers at {target}. {what_to_try(error.message)}", "bold red")
        return
    named = bool(error.field_violations) and all(one.description in error.message for one in error.field_violations)
    words = "the request is malformed" if named else error.message
    output.say(f"debt-mgmt: {error.reason or error.code.name}: {words}", "bold red")
    if isinstance(error, errors.Unauthenticated):
        output.say("  set DEBT_MGMT_TOKEN, or DEBT_MGMT_TOKEN_FILE to the path of a file that holds it")
    for violation in error.field_violations:
        output.say(f"  {violation.field}: {violation.description}")
    if error.retry_after is not None:
        output.say(f"  try again in {error.retry_after.total_seconds():g} s")


PLACE = re.compile(r"(\d+):(\d+)")
AGO = re.compile(r"(\d+)\s*(s|m|min|h|d)")
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def then_of(text: str) -> Revision | datetime:
    """A revision as it is shown, 3:1274, or a time as `time_of` reads it."""
    place = PLACE.fullmatch(text.strip())
    return Revision(int(place[1]), int(place[2])) if place else time_of(text)


def time_of(text: str) -> datetime:
    """A time as people write it: ISO 8601, in UTC unless it says otherwise, or how long ago: 90s, 15m, 2h, 1d."""
    if ago := AGO.fullmatch(text.strip().removesuffix("ago").strip()):
        return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * UNITS[ago[2]])
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write 2026-01-31T12:00 (UTC unless it says otherwise), or 15m, 2h, 1d ago"
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


AsOf = Annotated[
    Any,
    typer.Option(
        "--as-of", parser=then_of, metavar="SHARD:POSITION|TIME", help="As it was then: a revision, or a time."
    ),
]
