"""The first administrator: where there is none, the service makes a token, in a file that only it may read."""

import contextlib
import logging
import os
from pathlib import Path

from debt_mgmt.core.access import Role
from debt_mgmt.core.commands import IssueToken
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.security.tokens import digest_of_secret, new_secret

logger = logging.getLogger(__name__)

NAME = "admin"


async def make_first_token(engine: Engine, file: Path) -> Path | None:
    """Where the new administrator's token is; None where a good one that may do everything was there before.

    This is also the way back for whoever has lost every token: revoke or outlive the last one, and start again.
    """
    at = engine.clock()
    good = {one.name: one for one in engine.house.tokens.values() if one.is_good(at)}
    if any(one.role is Role.ADMIN and not one.accounts for one in good.values()):
        return None
    name, number = NAME, 1
    while name in good:
        number += 1
        name = f"{NAME}-{number}"
    secret = new_secret()
    write_secret(file, secret)
    note = f"made at the start, in {file.name}"
    command = IssueToken(name, digest_of_secret(secret), Role.ADMIN, note=note)
    await engine.submit_house(command, request_id="", actor=SYSTEM)
    logger.warning("the administrator's token is in %s, which only this user can read", file)
    return file


def write_secret(file: Path, secret: str) -> None:
    """The file is never readable by others, not even while it is written, and never half written.

    Raises OSError where something that is no plain file stands in its place: a device is not replaced by a secret.
    """
    if file.exists() and not file.is_file():
        raise OSError(f"{file} is not a plain file")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(secret + "\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
