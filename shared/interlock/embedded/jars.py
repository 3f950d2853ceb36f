"""Kafka's jars: fetched once by coordinates, checked against pinned SHA-256 digests, kept in the cache folder.

`python -m interlock.embedded.jars VERSION` resolves Kafka's run-time jars afresh and rewrites `jars.lock`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock.embedded.home import cache_folder
from interlock.embedded.part import CannotStart

LOCK_FILE = Path(__file__).with_name("jars.lock")
FETCHES_AT_ONCE = 8
FETCH_SECONDS_MAX = 20
ATTEMPTS_MAX = 3

Progress = Callable[[int, int], None]
"""Is told how many jars are here, of how many."""


@dataclass(frozen=True)
class Jar:
    """One jar by Maven coordinates and the SHA-256 that its bytes must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Return the name of the jar's file."""
        return f"{self.artifact}-{self.version}.jar"


def pinned(text: str | None = None) -> tuple[Jar, ...]:
    """Return the jars of the lock: lines of `group:artifact:version sha256`, `#` begins a comment."""
    lines = (LOCK_FILE.read_text() if text is None else text).splitlines()
    entries = [line.replace(":", " ").split() for line in lines if line and not line.startswith("#")]
    return tuple(Jar(group, artifact, number, digest) for group, artifact, number, digest in entries)


def kafka_version() -> str:
    """Return the version of Kafka that the lock pins."""
    return next(jar.version for jar in pinned() if jar.artifact == "kafka-clients")


def place() -> Path:
    """Return where the jars are, or will be: $INTERLOCK_KAFKA_HOME/libs, or a folder in the cache."""
    if given := os.environ.get("INTERLOCK_KAFKA_HOME"):
        return Path(given).expanduser().absolute() / "libs"
    return cache_folder() / f"kafka-{kafka_version()}" / "libs"


def folder(progress: Progress | None = None) -> Path:
    """Return a folder with Kafka's jars, fetching what is missing; raises CannotStart when they cannot be had.

    $INTERLOCK_KAFKA_HOME (a folder with libs/*.jar) goes before everything and is used as it is.
    """
    target = place()
    if given := os.environ.get("INTERLOCK_KAFKA_HOME"):
        if not any(target.glob("kafka-clients-*.jar")):
            raise CannotStart(f"INTERLOCK_KAFKA_HOME is {given}, but there is no libs/kafka-clients-*.jar in it.")
        return target
    target.mkdir(parents=True, exist_ok=True)
    if absent := missing(target):
        _fetch_all(absent, target, len(pinned()), progress)
    return target


def missing(target: Path) -> list[Jar]:
    """Return the pinned jars that are absent from a folder, or there with other bytes."""
    return [jar for jar in pinned() if not _is_right(target / jar.file_name, jar)]


def class_path(libraries: Path) -> str:
    """Return the class path, in an order that never changes: a shared class archive demands that."""
    wanted = {jar.file_name for jar in pinned()}
    found = sorted(libraries.glob("*.jar"))
    ours = [path for path in found if path.name in wanted]
    return ":".join(str(path) for path in (ours if len(ours) == len(wanted) else found))


def _is_right(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _fetch_all(absent: list[Jar], target: Path, total: int, progress: Progress | None) -> None:
    here = total - len(absent)
    with (
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as staging,
        ThreadPoolExecutor(FETCHES_AT_ONCE) as workers,
    ):
        pending = [workers.submit(_fetch, jar, Path(staging), target) for jar in absent]
        try:
            for done in as_completed(pending):
                done.result()
                here += 1
                if progress is not None:
                    progress(here, total)
        except CannotStart:
            for task in pending:
                task.cancel()
            raise


def _fetch(jar: Jar, staging: Path, target: Path) -> None:
    try:
        source = _download(jar.group, jar.artifact, jar.version, staging)
    except ImportError:
        raise _cannot(jar, "the jgo package is not installed") from None
    if not _is_right(source, jar):
        raise _cannot(jar, "its bytes are not the pinned ones (SHA-256 differs)")
    source.replace(target / jar.file_name)


def _cannot(jar: Jar, reason: str) -> CannotStart:
    return CannotStart(
        f"Kafka's jars cannot be had: {jar.group}:{jar.artifact}:{jar.version}: {reason}. "
        "Set INTERLOCK_KAFKA_HOME to an unpacked Apache Kafka 4 (a folder with libs/*.jar), "
        "or connect to the network and run `interlock up` again."
    )


def _download(group: str, artifact: str, version: str, staging: Path) -> Path:
    """Fetch one artifact into `staging`; jgo knows the repositories and only warns on a wrong checksum."""
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)
    _trust_what_the_machine_trusts()
    context = MavenContext(repo_cache=staging / artifact, timeout=FETCH_SECONDS_MAX)
    reason = "?"
    for _ in range(ATTEMPTS_MAX):
        try:
            found = context.project(group, artifact).at_version(version).artifact().resolve()
            return Path(found)
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            reason = type(error).__name__
            shutil.rmtree(staging / artifact, ignore_errors=True)
    raise _cannot(Jar(group, artifact, version, ""), f"no answer from the repository ({reason})")


def _trust_what_the_machine_trusts() -> None:
    """Let requests, which jgo fetches with, use the machine's certificates; by itself it only knows its own bundle."""
    machine = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if machine:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", machine)


WANTED = ("org.apache.kafka:kafka_2.13", "org.apache.kafka:kafka-tools")
LOGGING = ("org.apache.logging.log4j", "log4j-slf4j-impl")
UNUSED_GROUPS = (
    "org.eclipse.jetty", "org.glassfish", "jakarta.", "javax.", "com.sun.activation", "io.swagger",
    "io.github.classgraph",
    "org.javassist", "org.apache.maven", "org.codehaus.plexus", "commons-beanutils", "commons-digester",
    "commons-collections", "commons-logging", "org.jspecify", "com.fasterxml.jackson.jakarta",
    "com.fasterxml.jackson.module",
)  # fmt: skip
UNUSED_ARTIFACTS = ("connect-runtime", "connect-api", "connect-json", "connect-transforms", "scala-reflect")


def regenerate(version: str) -> str:
    """Return the text of a new lock for a Kafka version: what broker, storage tool and console tools need."""
    from jgo.maven import Dependency, MavenContext, PythonResolver

    with tempfile.TemporaryDirectory() as staging:
        context = MavenContext(repo_cache=Path(staging), timeout=FETCH_SECONDS_MAX)
        wanted = [Dependency(context.project(*name.split(":")).at_version(version).artifact()) for name in WANTED]
        inputs, transitive = PythonResolver().resolve(wanted)
        needed = [*inputs, *(entry for entry in transitive if _is_needed(entry))]
        names = {(entry.artifact.groupId, entry.artifact.artifactId, entry.artifact.version) for entry in needed}
        log4j = next(number for _, artifact, number in names if artifact == "log4j-core")
        names.add((*LOGGING, log4j))
        return _lock_text(sorted(names), Path(staging) / "jars")


def _is_needed(dependency: Any) -> bool:
    artifact = dependency.artifact
    return (
        dependency.scope in ("compile", "runtime")
        and not artifact.groupId.startswith(UNUSED_GROUPS)
        and artifact.artifactId not in UNUSED_ARTIFACTS
    )


def _lock_text(names: Iterable[tuple[str, str, str]], staging: Path) -> str:
    lines = ["# Apache Kafka's run-time jars. Written by: python -m interlock.embedded.jars VERSION"]
    for group, artifact, version in names:
        content = _download(group, artifact, version, staging).read_bytes()
        lines.append(f"{group}:{artifact}:{version} {hashlib.sha256(content).hexdigest()}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    LOCK_FILE.write_text(regenerate(sys.argv[1]))
