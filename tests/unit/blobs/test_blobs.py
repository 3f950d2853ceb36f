"""The content-addressed store."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from interlock.blobs import BLOB_CORRUPT, BLOB_MISSING, DIGEST_INVALID, Blobs
from interlock.errors import Refusal, Transient
from interlock.ids import digest_of


def test_what_is_put_is_got_under_its_digest(tmp_path: Path) -> None:
    """The same bytes twice are one file; the empty blob is a blob."""
    blobs = Blobs(tmp_path)
    for data in (b"", b"x" * 100_000):
        digest = blobs.put(data)
        assert digest == blobs.put(data) == digest_of(data)
        assert blobs.get(digest) == data
        assert blobs.has(digest)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2


def test_a_blob_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """404, with the digest."""
    with pytest.raises(Refusal) as caught:
        Blobs(tmp_path).get(digest_of(b"absent"))
    assert caught.value.code is BLOB_MISSING


def test_changed_bytes_are_noticed_when_read(tmp_path: Path) -> None:
    """The digest is checked each time: a disk may lie."""
    blobs = Blobs(tmp_path)
    digest = blobs.put(b"truth")
    blobs.path(digest).chmod(0o644)
    blobs.path(digest).write_bytes(b"lies!")
    with pytest.raises(Refusal) as caught:
        blobs.get(digest)
    assert caught.value.code is BLOB_CORRUPT


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "A" * 64,
        "sha256:../../etc/passwd",
        "sha256:" + "0" * 64 + "\n",
        "../x",
    ],
)
def test_no_name_leaves_the_folder(tmp_path: Path, digest: str) -> None:
    """What is not exactly a digest never becomes a path."""
    for call in (Blobs(tmp_path).get, Blobs(tmp_path).has, Blobs(tmp_path).path):
        with pytest.raises(Refusal) as caught:
            call(digest)
        assert caught.value.code is DIGEST_INVALID


def test_many_writers_of_one_blob_leave_one_sound_file(tmp_path: Path) -> None:
    """Renaming into place: nobody ever reads half a blob, and nothing is left lying about."""
    data = os.urandom(1_000_000)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: Blobs(tmp_path).put(data), range(16)))
    assert Blobs(tmp_path).get(digests.pop()) == data
    assert [path.name for path in tmp_path.rglob(".incoming-*")] == []


def test_blobs_are_read_only_files(tmp_path: Path) -> None:
    """Nobody writes into a blob by accident."""
    blobs = Blobs(tmp_path)
    mode = stat.S_IMODE(blobs.path(blobs.put(b"x")).stat().st_mode)
    assert mode == 0o444


def test_a_store_that_cannot_be_written_is_transient(tmp_path: Path) -> None:
    """The folder's place is taken by a file: said plainly, and tried again later."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(Transient, match="cannot be written"):
        Blobs(tmp_path / "taken").put(b"x")
