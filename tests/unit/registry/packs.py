"""Git objects, packs and pushes made by hand, honest and hostile."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

COMMIT, TREE, BLOB, TAG, REF_DELTA = 1, 2, 3, 4, 7
NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}


@dataclass
class Objects:
    """Objects of one pack, by id; whatever it is told to hold, it holds."""

    held: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def add(self, kind: int, content: bytes) -> bytes:
        """Add an object and return its hexadecimal id."""
        oid = hashlib.sha1(NAMES[kind] + b" %d\0" % len(content) + content, usedforsecurity=False).hexdigest().encode()
        self.held[oid] = (kind, content)
        return oid

    def tree(self, *lines: tuple[bytes, bytes, bytes]) -> bytes:
        """Add a tree of (mode, name, id) lines, in the order given."""
        return self.add(
            TREE, b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid.decode()) for mode, name, oid in lines)
        )

    def commit(self, tree: bytes, *parents: bytes) -> bytes:
        """Add a commit."""
        above = b"".join(b"parent " + parent + b"\n" for parent in parents)
        who = b"Mallory <m@example.org> 1700000000 +0000"
        return self.add(
            COMMIT, b"tree " + tree + b"\n" + above + b"author " + who + b"\ncommitter " + who + b"\n\nhello\n"
        )

    def pack(self) -> bytes:
        """Return all of them as a pack."""
        return pack([entry(kind, content) for kind, content in self.held.values()])


def entry(kind: int, content: bytes, size: int | None = None, base: bytes = b"") -> bytes:
    """Return one entry of a pack; `size` is what it says of itself, if that is to be a lie."""
    left = len(content) if size is None else size
    first, left = (kind << 4) | (left & 15), left >> 4
    head = bytearray()
    while left:
        head.append(first | 0x80)
        first, left = left & 0x7F, left >> 7
    head.append(first)
    return bytes(head) + bytes.fromhex(base.decode()) + zlib.compress(content)


def pack(entries: list[bytes], count: int | None = None) -> bytes:
    """Return a pack of these entries, with a true checksum."""
    body = b"PACK" + struct.pack(">II", 2, len(entries) if count is None else count) + b"".join(entries)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def varint(number: int) -> bytes:
    """Return a number as deltas write it."""
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes([*out, number])


def push(new: bytes, packed: bytes, reference: bytes = b"refs/heads/main", old: bytes = b"0" * 40) -> bytes:
    """Return the body of a push as a client would send it."""
    line = old + b" " + new + b" " + reference + b"\0 report-status side-band-64k agent=test"
    return b"%04x" % (len(line) + 4) + line + b"0000" + packed
