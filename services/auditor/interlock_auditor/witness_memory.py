"""The witness's memory: every leaf hash it was ever shown, on its own disk, and the last head that it signed.

Order on disk: hashes and fsync, then the head whole and fsync, then the answer. So what was answered is kept, and
hashes behind the head were never answered.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from interlock.errors import InterlockError, Refusal, Transient
from interlock.ids import digest_of
from interlock.merkle import HASH_BYTES, Tree
from interlock_auditor.checkpoint import BadNote, Checkpoint, NoteKey, VerifierKey
from interlock_auditor.errors import LOG_FORKED, LOG_SHRUNKEN, NOTE_REFUSED, WITNESS_SIZE_DIFFERS

LEAVES: Final = "leaves"
HEAD: Final = "checkpoint"
REFUSED: Final = "refused"


class Memory:
    """What one witness knows of one log; its calls are not to overlap."""

    def __init__(self, folder: Path, log: VerifierKey, origin: str, key: NoteKey) -> None:
        self._folder = folder
        self._log = log
        self._origin = origin
        self._key = key
        self.tree = Tree()
        self.head: Checkpoint | None = None

    def open(self) -> None:
        """Read the folder, made if it is not there; raises InterlockError where its parts do not fit together."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / REFUSED).mkdir(exist_ok=True, mode=0o700)
        self.head, hashes = remembered(self._folder)
        if self.head is not None:
            try:
                self._key.public.check(self.head.note)
                self._log.check(self.head.note)
            except BadNote as error:
                raise InterlockError(
                    f"The witness's head in {self._folder} is not signed as it was: {error}."
                ) from error
        self.tree.extend_with(hashes)
        if self.head is not None and (self.tree.size, self.tree.root()) != (self.head.size, self.head.root):
            raise InterlockError(
                f"The leaf hashes in {self._folder} are not those over which the witness signed its head."
            )
        with (self._folder / LEAVES).open("ab") as file:
            file.truncate(len(hashes))

    def take(self, note: str, old_size: int, hashes: bytes, now_seconds: int) -> str:
        """Judge a head that the log shows, with the leaf hashes behind `old_size`; return the cosignature line.

        Raises Refusal: NOTE_REFUSED, LOG_SHRUNKEN, WITNESS_SIZE_DIFFERS or LOG_FORKED. What is refused changes nothing
        and is kept as evidence where the log has signed it.
        """
        try:
            shown = Checkpoint.parse(note)
            self._log.check(note)
        except BadNote as error:
            raise Refusal(NOTE_REFUSED, f"The checkpoint is refused: {error}.") from error
        if shown.origin != self._origin:
            raise Refusal(NOTE_REFUSED, f"The checkpoint is of {shown.origin[:80]!r}, not of {self._origin!r}.")
        size = self.tree.size
        self._extend(shown, old_size, hashes)
        line = self._key.line(shown.text, now_seconds)
        try:
            self._add(size, hashes)
            self._write(HEAD, shown.cosigned(line).note.encode())
        except OSError as error:
            self.tree.truncate(size)
            raise Transient(f"The witness cannot write to its disk: {error.strerror}.") from error
        self.head = shown.cosigned(line)
        return line

    def _extend(self, shown: Checkpoint, old_size: int, hashes: bytes) -> None:
        """Add the hashes to the tree in memory, or refuse and leave it as it was."""
        size = self.tree.size
        if shown.size < size:
            self._keep(shown)
            raise Refusal(
                LOG_SHRUNKEN, f"The log shows {shown.size} entries; {size} were signed before.", size=size
            )  # fmt: skip
        if old_size != size or len(hashes) != (shown.size - size) * HASH_BYTES:
            raise Refusal(WITNESS_SIZE_DIFFERS, f"The witness knows {size} entries, not {old_size}.", size=size)
        self.tree.extend_with(hashes)
        if self.tree.root() != shown.root:
            self.tree.truncate(size)
            self._keep(shown)
            raise Refusal(
                LOG_FORKED, f"The log's head of {shown.size} entries does not continue the {size} that were signed.",
                size=size,
            )  # fmt: skip

    def _keep(self, shown: Checkpoint) -> None:
        """Keep what the log signed against its own past."""
        name = f"{shown.size}-{digest_of(shown.root).removeprefix('sha256:')[:16]}"
        self._write(f"{REFUSED}/{name}", shown.note.encode())

    def _add(self, size: int, hashes: bytes) -> None:
        """Write hashes behind the first `size`, over what an earlier attempt may have left there."""
        with (self._folder / LEAVES).open("r+b") as file:
            file.truncate(size * HASH_BYTES)
            file.seek(size * HASH_BYTES)
            file.write(hashes)
            file.flush()
            os.fsync(file.fileno())

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole: a reader, or a crash, finds the old one or the new one."""
        target, part = self._folder / name, self._folder / f"{name}.part"
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remembered(folder: Path) -> tuple[Checkpoint | None, bytes]:
    """Return the last head that a witness signed, and its leaf hashes; whether they fit is for the caller to see.

    Raises InterlockError where there is no reading them.
    """
    head, leaves = folder / HEAD, folder / LEAVES
    hashes = leaves.read_bytes() if leaves.exists() else b""
    if not head.exists():
        if hashes:
            raise InterlockError(f"{folder} holds leaf hashes, but no head that was signed over them.")
        return None, b""
    try:
        found = Checkpoint.parse(head.read_text("utf-8"))
    except (BadNote, UnicodeDecodeError) as error:
        raise InterlockError(f"The witness's head in {folder} cannot be read: {error}.") from error
    return found, hashes[: min(found.size, len(hashes) // HASH_BYTES) * HASH_BYTES]
