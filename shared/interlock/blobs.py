"""The content-addressed store: bytes are kept under the digest of themselves, and checked when read."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from interlock.errors import Code, Refusal, Transient
from interlock.ids import digest_of

_DIGEST = re.compile(r"^sha256:([0-9a-f]{64})$")

DIGEST_INVALID = Code("DIGEST_INVALID", 400, "That is not a digest", "A digest is `sha256:` and 64 hex digits.")
BLOB_MISSING = Code(
    "BLOB_MISSING", 404, "The blob is not in the store", "Check the digest; blobs are never deleted by the platform."
)
BLOB_CORRUPT = Code(
    "BLOB_CORRUPT",
    500,
    "The blob's bytes do not match its digest",
    "Restore the file from a copy: the store's disk is at fault.",
)


class Blobs:
    """A folder of blobs. Calls are synchronous; async callers use `asyncio.to_thread` for large ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep `data`, return its digest; the same bytes twice are one blob. Raises Transient if the disk says no."""
        digest = digest_of(data)
        path = self.path(digest)
        try:
            if not path.exists():
                self._write(path, data)
        except OSError as error:
            raise Transient(
                f"The blob store at {self._folder} cannot be written: {error.strerror or error}."
            ) from error
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes behind `digest`, verified; raises Refusal(BLOB_MISSING or BLOB_CORRUPT), or Transient."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError as error:
            raise Refusal(BLOB_MISSING, f"There is no blob {digest}.") from error
        except OSError as error:
            raise Transient(f"The blob store at {self._folder} cannot be read: {error.strerror or error}.") from error
        if digest_of(data) != digest:
            raise Refusal(BLOB_CORRUPT, f"The file of blob {digest} holds other bytes.")
        return data

    def has(self, digest: str) -> bool:
        """Say whether the blob is there (not whether its bytes are sound: `get` checks that)."""
        return self.path(digest).is_file()

    def path(self, digest: str) -> Path:
        """Return where the blob lies or would lie; raises Refusal(DIGEST_INVALID): no name leaves the folder."""
        match = _DIGEST.match(digest)
        if match is None or digest != f"sha256:{match[1]}":
            raise Refusal(DIGEST_INVALID, f"{digest[:100]!r} is not a digest.")
        return self._folder / "sha256" / match[1][:2] / match[1]

    def _write(self, path: Path, data: bytes) -> None:
        """Write beside, flush to disk, rename into place: a reader sees all of a blob or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".incoming-")
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(0o444)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
