r"""Checkpoints: a head of the log as text that log and witness sign.

Sources: C2SP signed-note, tlog-checkpoint and tlog-cosignature (v1). A note is text, an empty line, and a line for
each signature: `— name base64(key id ‖ signature)`. A key id is the first four bytes of SHA-256(name ‖ "\n" ‖ type ‖
public key); the type is 1 for an Ed25519 signature of the text, 4 for a cosignature, which signs a time as well.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from interlock.merkle import HASH_BYTES

ED25519: Final = 1
COSIGNATURE: Final = 4
KEY_ID_BYTES: Final = 4
TIME_BYTES: Final = 8
NOTE_LETTERS_MAX: Final = 16_384
_DASH: Final = "\u2014 "
_NAME: Final = re.compile(r"^[^\s+]{1,200}$")


class BadNote(ValueError):
    """A note, a key or a checkpoint that is not what it must be; the text says why."""


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key with its name and its kind of signature; written `name+keyid+base64(type ‖ key)`."""

    name: str
    kind: int
    raw: bytes

    @property
    def id(self) -> bytes:
        """The four bytes by which a signature line names the key."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.raw).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """Return the key as text."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.kind]) + self.raw).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read a key; raises BadNote."""
        name, _, rest = text.strip().partition("+")
        digits, _, content = rest.partition("+")
        data = _unbase64(content)
        if not _NAME.match(name) or len(data) != 1 + HASH_BYTES or data[0] not in {ED25519, COSIGNATURE}:
            raise BadNote("this is no Ed25519 verifier key")
        key = cls(name, data[0], data[1:])
        if key.id.hex() != digits:
            raise BadNote(f"the key {name} does not have the id that it names")
        return key

    @classmethod
    def of_pem(cls, name: str, kind: int, pem: bytes) -> VerifierKey:
        """Return the key in a public PEM under a name; raises ValueError for any other kind of key."""
        key = serialization.load_pem_public_key(pem)
        if not isinstance(key, Ed25519PublicKey):
            raise BadNote(f"the key of {name} is no Ed25519 key")
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return cls(name, kind, raw)

    def check(self, note: str) -> int | None:
        """Return when this key signed the note, in s since 1970 (None for a signature without time).

        Raises BadNote where it has not signed it, or not this text.
        """
        text, lines = split(note)
        for name, data in lines:
            if name != self.name or data[:KEY_ID_BYTES] != self.id:
                continue
            rest, at = data[KEY_ID_BYTES:], None
            signed = text.encode()
            if self.kind == COSIGNATURE:
                at, rest = int.from_bytes(rest[:TIME_BYTES], "big"), rest[TIME_BYTES:]
                signed = _timed(text, at)
            try:
                Ed25519PublicKey.from_public_bytes(self.raw).verify(rest, signed)
            except InvalidSignature:
                raise BadNote(f"the signature of {self.name} does not hold") from None
            return at
        raise BadNote(f"{self.name} has not signed it")


class NoteKey:
    """A private key that signs notes under a name; it never shows its secret."""

    def __init__(self, name: str, kind: int, pem: bytes) -> None:
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, Ed25519PrivateKey) or not _NAME.match(name):
            raise BadNote(f"{name!r} has no Ed25519 key, or a name that no note can bear")
        self._key = key
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = VerifierKey(name, kind, raw)

    def sign(self, text: str) -> str:
        """Return a note of the text with this key's signature."""
        return f"{text}\n{self.line(text)}"

    def line(self, text: str, at_seconds: int = 0) -> str:
        """Return this key's signature line for a text that ends in a line break; a cosignature tells its time."""
        if not text.endswith("\n") or "\n\n" in text:
            raise BadNote("a note's text ends with a line break and has no empty line")
        if self.public.kind == COSIGNATURE:
            signature = at_seconds.to_bytes(TIME_BYTES, "big") + self._key.sign(_timed(text, at_seconds))
        else:
            signature = self._key.sign(text.encode())
        return f"{_DASH}{self.public.name} {base64.b64encode(self.public.id + signature).decode()}\n"


class Checkpoint(msgspec.Struct, frozen=True):
    """A head of the log: origin, size, root, and the note that says so with its signatures."""

    origin: str
    size: int
    root: bytes
    note: str

    @classmethod
    def parse(cls, note: str) -> Checkpoint:
        """Read the text of a note as a checkpoint, whoever signed it; raises BadNote."""
        lines = split(note)[0].split("\n")
        if len(lines) < 4 or not lines[1].isdecimal() or str(int(lines[1])) != lines[1]:
            raise BadNote("a checkpoint has three lines: origin, size, root")
        root = _unbase64(lines[2])
        if len(root) != HASH_BYTES or not lines[0]:
            raise BadNote("a checkpoint's root has 32 bytes")
        return cls(lines[0], int(lines[1]), root, note)

    @classmethod
    def signed(cls, origin: str, size: int, root: bytes, key: NoteKey) -> Checkpoint:
        """Sign a head of the log."""
        return cls(origin, size, root, key.sign(body(origin, size, root)))

    @property
    def text(self) -> str:
        """What is signed."""
        return split(self.note)[0]

    def cosigned(self, line: str) -> Checkpoint:
        """Return the checkpoint with one more signature line."""
        return msgspec.structs.replace(self, note=self.note + line)


def body(origin: str, size: int, root: bytes) -> str:
    """Return the text of a checkpoint."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a note's text and its signatures (name, key id ‖ signature); raises BadNote."""
    text, blank, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    if len(note) > NOTE_LETTERS_MAX or not blank or lines.pop() or not lines:
        raise BadNote("this is no signed note")
    found = []
    for line in lines:
        name, space, content = line.removeprefix(_DASH).partition(" ")
        data = _unbase64(content)
        if not line.startswith(_DASH) or not space or not _NAME.match(name) or len(data) <= KEY_ID_BYTES:
            raise BadNote("a line below the empty line is no signature")
        found.append((name, data))
    return text + "\n", found


def _timed(text: str, at_seconds: int) -> bytes:
    return f"cosignature/v1\ntime {at_seconds}\n{text}".encode()


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadNote("this is no base64") from error
    if base64.b64encode(data).decode() != text:
        raise BadNote("base64 that is not written in its one way")
    return data
