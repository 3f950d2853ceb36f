"""Git's wire format: packets, side bands, the commands of a push and the report on them. Pure.

Source: Git's own `gitprotocol-pack` and `gitprotocol-http` documents.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from interlock.errors import Refusal
from interlock_registry import errors

ZERO: Final = b"0" * 40
FLUSH: Final = b"0000"
MAIN: Final = b"refs/heads/main"
KEEPALIVE: Final = b"0005\x01"
PUSH_CAPABILITIES: Final = b"report-status side-band-64k ofs-delta no-thin object-format=sha1 agent=interlock"
PACKET_BYTES_MAX: Final = 65520
COMMANDS_MAX: Final = 64
_COMMAND: Final = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) (\S{1,512})\n?")
_SHALLOW: Final = re.compile(rb"shallow [0-9a-f]{40}\n?")


@dataclass(frozen=True)
class Command:
    """One line of a push: move a reference from an object to another (all zeros: none)."""

    old: bytes
    new: bytes
    reference: bytes


@dataclass(frozen=True)
class Commands:
    """The head of a push: its commands, and what the client is able to read."""

    commands: tuple[Command, ...]
    capabilities: frozenset[bytes]

    @property
    def banded(self) -> bool:
        """Whether progress can be shown on the pusher's terminal."""
        return b"side-band-64k" in self.capabilities


def packet(payload: bytes) -> bytes:
    """Return one packet line; `payload` is at most 65516 bytes."""
    return b"%04x" % (len(payload) + 4) + payload


def band(channel: int, payload: bytes) -> Iterator[bytes]:
    """Yield the payload as packets of a side band: 1 is data, 2 the pusher's terminal, 3 the end."""
    size = PACKET_BYTES_MAX - 5
    for start in range(0, len(payload), size):
        yield packet(bytes([channel]) + payload[start : start + size])


def terminal(line: str) -> bytes:
    """Return one line for the pusher's terminal, without anything that could steer it."""
    visible = "".join(" " if unicodedata.category(sign) in ("Cc", "Cf") else sign for sign in line)
    return b"".join(band(2, visible.encode("utf-8", "replace")[:8000] + b"\n"))


def read_packet(file: BinaryIO) -> bytes | None:
    """Return the next packet's payload, or None for a flush; raises Refusal(PUSH_MALFORMED)."""
    head = file.read(4)
    if re.fullmatch(rb"[0-9a-fA-F]{4}", head) is None:
        raise Refusal(errors.PUSH_MALFORMED, "The request does not consist of git packets.")
    size = int(head, 16)
    if size == 0:
        return None
    if not 4 <= size <= PACKET_BYTES_MAX:
        raise Refusal(errors.PUSH_MALFORMED, f"A packet says that it is {size} bytes long.")
    payload = file.read(size - 4)
    if len(payload) != size - 4:
        raise Refusal(errors.PUSH_MALFORMED, "The request ends inside a packet.")
    return payload


def read_commands(file: BinaryIO) -> Commands:
    """Read the head of a push up to its flush; what follows in `file` is the pack.

    Raises Refusal(PUSH_MALFORMED).
    """
    commands: list[Command] = []
    capabilities: frozenset[bytes] = frozenset()
    while (line := read_packet(file)) is not None:
        if _SHALLOW.fullmatch(line):
            continue
        line, zero, rest = line.partition(b"\0")
        if zero and not commands:
            capabilities = frozenset(rest.split())
        match = _COMMAND.fullmatch(line)
        if match is None or len(commands) == COMMANDS_MAX:
            raise Refusal(errors.PUSH_MALFORMED, "The push holds a line that is not a command, or too many of them.")
        commands.append(Command(match[1], match[2], match[3]))
    return Commands(tuple(commands), capabilities)


def report(unpacked: str, outcomes: Mapping[bytes, str | None], *, banded: bool) -> bytes:
    """Return the report on a push: `unpacked` is "ok" or why not; each reference with None (done) or why not."""
    lines = [packet(f"unpack {one_line(unpacked)}\n".encode())]
    for reference, refused in outcomes.items():
        status = b"ok " + reference if refused is None else b"ng " + reference + b" " + one_line(refused).encode()
        lines.append(packet(status + b"\n"))
    body = b"".join(lines) + FLUSH
    return b"".join(band(1, body)) if banded else body


def one_line(text: str) -> str:
    """Return the text on one line of at most 300 characters."""
    return " ".join(text.split())[:300]


def advertisement(service: str, references: Iterable[tuple[bytes, bytes]], capabilities: bytes) -> bytes:
    """Return the answer to `info/refs`: the references as (name, object id), and what the server can do."""
    lines = [packet(f"# service={service}\n".encode()), FLUSH]
    known = sorted(references) or [(b"capabilities^{}", ZERO)]
    for place, (name, oid) in enumerate(known):
        lines.append(packet(oid + b" " + name + (b"\0" + capabilities if place == 0 else b"") + b"\n"))
    return b"".join(lines) + FLUSH
