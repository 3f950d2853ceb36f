"""What a pushed tree may hold: plain files and folders with honest names, and nothing that points elsewhere. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from interlock.errors import Refusal
from interlock_registry import errors

COMMIT: Final = 1
TREE: Final = 2
BLOB: Final = 3
TAG: Final = 4

_FOLDER: Final = 0o040000
_FILES: Final = frozenset({0o100644, 0o100755, 0o100664})
_SYMLINK: Final = 0o120000
_SUBMODULE: Final = 0o160000
_NAME_BYTES_MAX: Final = 255
_ENTRY: Final = re.compile(rb"([0-7]{5,6}) ([^\0]*)\0(.{20})", re.DOTALL)
_HEADER: Final = re.compile(rb"(tree|parent|object) ([0-9a-f]{40})")
_GIT_SHORT: Final = re.compile(r"git~\d+")

Read = Callable[[bytes], tuple[int, bytes]]
"""Returns an object's type number and content by its hexadecimal id; raises KeyError where it is absent."""


@dataclass(frozen=True)
class Entry:
    """One line of a tree object."""

    mode: int
    name: bytes
    oid: bytes


def entries(content: bytes) -> list[Entry]:
    """Return the lines of a tree object; raises Refusal(TREE_REFUSED) for one that cannot be read."""
    found: list[Entry] = []
    place = 0
    while place < len(content):
        match = _ENTRY.match(content, place)
        if match is None:
            raise _refused("the tree holds an object that cannot be read")
        found.append(Entry(int(match[1], 8), match[2], match[3].hex().encode()))
        place = match.end()
    return found


def links(kind: int, content: bytes) -> list[bytes]:
    """Return the ids that a commit, tag or tree says must exist; raises Refusal for a tree with a dangerous name.

    Submodules name objects of other repositories and are left out; the head's tree refuses them.
    """
    if kind == TREE:
        listed = entries(content)
        for entry in listed:
            _honest(entry.name, b"")
        return [entry.oid for entry in listed if entry.mode != _SUBMODULE]
    if kind in (COMMIT, TAG):
        head = content.split(b"\n\n", 1)[0].split(b"\n")
        return [match[2] for line in head if (match := _HEADER.fullmatch(line))]
    return []


def tree_of(commit: bytes, read: Read) -> bytes:
    """Return the id of a commit's tree; raises Refusal(PUSH_MALFORMED) where the object is no commit."""
    kind, content = read(commit)
    ids = links(kind, content)
    if kind != COMMIT or not content.startswith(b"tree ") or not ids:
        raise Refusal(errors.PUSH_MALFORMED, "The branch main does not point to a commit.")
    return ids[0]


def files(tree: bytes, read: Read, *, entries_max: int, depth_max: int) -> dict[str, bytes]:
    """Return every file under a tree, path to blob id.

    Raises Refusal(TREE_REFUSED) that names the path: a symbolic link, a submodule, `..`, `.git`, a name twice, a
    name that is not UTF-8 or holds a separator or a control character, too many entries, too deep.
    """
    found: dict[str, bytes] = {}
    for seen, (path, entry, depth) in enumerate(_walk(tree, read), start=1):
        if seen > entries_max:
            raise _refused(f"the tree holds more than {entries_max} files and folders")
        if entry.mode != _FOLDER:
            found[path] = entry.oid
        elif depth >= depth_max:
            raise _refused(f"{path} is nested deeper than {depth_max} folders")
    return found


def _walk(tree: bytes, read: Read) -> Iterator[tuple[str, Entry, int]]:
    waiting: list[tuple[bytes, bytes, int]] = [(tree, b"", 0)]
    while waiting:
        oid, prefix, depth = waiting.pop()
        kind, content = read(oid)
        if kind != TREE:
            raise _refused(f"{prefix.decode('utf-8', 'replace') or 'the root'} is not a folder")
        names: set[bytes] = set()
        for entry in entries(content):
            path = _honest(entry.name, prefix)
            if entry.name in names:
                raise _refused(f"{path} stands in the tree twice")
            names.add(entry.name)
            _plain(entry.mode, path)
            yield path, entry, depth
            if entry.mode == _FOLDER:
                waiting.append((entry.oid, prefix + entry.name + b"/", depth + 1))


def _plain(mode: int, path: str) -> None:
    if mode == _SYMLINK:
        raise _refused(f"{path} is a symbolic link")
    if mode == _SUBMODULE:
        raise _refused(f"{path} is a submodule")
    if mode != _FOLDER and mode not in _FILES:
        raise _refused(f"{path} has the mode {mode:o}, which is neither a file's nor a folder's")


def _honest(name: bytes, prefix: bytes) -> str:
    """Return the path as text; raises Refusal for a name that some file system would take for something else."""
    shown = (prefix + name).decode("utf-8", "backslashreplace")
    if not name or len(name) > _NAME_BYTES_MAX:
        raise _refused(f"{shown!r} has a name that is empty or longer than {_NAME_BYTES_MAX} bytes")
    if name in (b".", b".."):
        raise _refused(f"{shown!r} leads out of its folder")
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise _refused(f"{shown!r} has a name that is not UTF-8") from None
    if "/" in text or "\\" in text:
        raise _refused(f"{shown!r} has a separator in its name")
    if any(unicodedata.category(sign) in ("Cc", "Cf") for sign in text):
        raise _refused(f"{shown!r} has an invisible character in its name")
    plain = text.casefold().rstrip(". ")
    if plain == ".git" or plain.startswith(".git:") or _GIT_SHORT.fullmatch(plain):
        raise _refused(f"{shown!r} is a name that git keeps for itself")
    return shown


def _refused(what: str) -> Refusal:
    return Refusal(errors.TREE_REFUSED, f"The push is refused: {what}.")
