"""Which migrations are pending: decided from names and hashes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.errors import Refusal
from interlock.postgres.migrate import PLATFORM_FOLDER, MigrationFile, pending


def _file(name: str, sha256: str = "h") -> MigrationFile:
    return MigrationFile(name=name, path=Path(name), text="", sha256=sha256)


def test_what_is_in_the_ledger_is_not_pending() -> None:
    """Only the new, in the files' order."""
    files = [_file("s/0001_a.sql"), _file("s/0002_b.sql"), _file("s/0003_c.sql")]
    assert [file.name for file in pending(files, {"s/0001_a.sql": "h"})] == ["s/0002_b.sql", "s/0003_c.sql"]


def test_a_file_below_the_newest_applied_one_is_refused() -> None:
    """A number slipped in between would run in another order here than in a new database."""
    with pytest.raises(Refusal, match="0001_a"):
        pending([_file("s/0001_a.sql"), _file("s/0002_b.sql")], {"s/0002_b.sql": "h"})


def test_a_changed_or_vanished_file_is_refused_by_name() -> None:
    """The hash differs, or the file is gone."""
    with pytest.raises(Refusal, match="0001_a"):
        pending([_file("s/0001_a.sql", "other")], {"s/0001_a.sql": "h"})
    with pytest.raises(Refusal, match="0002_b"):
        pending([_file("s/0001_a.sql")], {"s/0001_a.sql": "h", "s/0002_b.sql": "h"})


def test_the_platforms_own_files_are_numbered_without_gaps() -> None:
    """0001, 0002, … so that two people cannot take the same number unseen."""
    numbers = [int(path.name[:4]) for path in sorted(PLATFORM_FOLDER.glob("*.sql"))]
    assert numbers == list(range(1, len(numbers) + 1))
