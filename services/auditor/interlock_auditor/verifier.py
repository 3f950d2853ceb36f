"""Checks a case without Interlock, offline: this one file, the standard library and the package `cryptography`.

    python verifier.py BUNDLE --log-key KEY --witness-key KEY [--json]

BUNDLE is what `interlock case RESULT --bundle FILE` wrote. The keys (or files that hold them, PEM as well) are those
that whoever runs the log and its witness have published; do not take them from the bundle. Exit status: 0 everything
holds, 1 something does not and is named, 2 wrongly called. What is used: Avro 1.12, RFC 9162 (Merkle trees), BLAKE3,
C2SP's signed notes, checkpoints and cosignatures.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "interlock-case/1"
BUNDLE_BYTES_MAX = 64 * 1024 * 1024
ED25519, COSIGNATURE = 1, 4
NUMBER_BYTES, NO_VALUE = 4, 0x8000_0000
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, struct.error)
VERSION_DOMAIN = b"interlock-version-v1\x00"
PROVENANCE = ("topic", "partition", "endpoint", "model", "version", "digest", "epoch", "arm", "request_schema_id")
ENVELOPE = ("request_id", "offset", "requested_at", *PROVENANCE, "scored_at", "rejection", "dead_letter")
LOOKED_UP = ("features_age_milliseconds", "features_missing")
TIMES = ("at", "window_start", "window_end", "detected_at", "scored_at", "requested_at")
BULKY = ("manifest", "result_schema", "signature")
ENTRY = {
    "type": "record",
    "fields": [
        {"name": name, "type": kind}
        for name, kind in (
            ("seq", "long"),
            ("topic", "string"),
            ("partition", "int"),
            ("offset", "long"),
            ("event_id", "string"),
            ("action", "string"),
            ("source", "string"),
            ("actor", "string"),
            ("subject", "string"),
            ("time", "long"),
            ("schema_digest", "string"),
            ("payload_digest", "string"),
        )
    ],
}
ABOUT = [
    (
        "Proved to anybody who has both public keys: that each entry is in the log as the witness saw it; that the "
        "result stands in the batch whose digest is in the log; what these say, and that nothing was changed since."
    ),
    (
        "The auditor's word, under its signature: the request's key and time, its value where the bundle does not hold "
        "the bytes that prove it, the dead letter, and that the topics, read again, gave the batch's digests."
    ),
    (
        "The auditor's choice: which entries are shown. None that must be there can be left out, but that no later "
        "route and no drift was reported can only be learnt from the whole log."
    ),
    "Not proved: that what was entered was true when it was entered.",
]


class Wrong(Exception):
    """Something in the bundle is not what it claims to be; the text names it."""


def demand(holds: object, said: str) -> None:
    """Raise Wrong where something does not hold."""
    if not holds:
        raise Wrong(said)


# Avro


class Avro:
    """Reads one value by its schema; every byte must be used, and no length may exceed what is there."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._named = data, 0, dict[str, Any]()
        self._primitives: dict[Any, Callable[[], Any]] = {
            "null": lambda: None,
            "boolean": self._boolean,
            "int": self._long,
            "long": self._long,
            "float": lambda: struct.unpack("<f", self._take(4))[0],
            "double": lambda: struct.unpack("<d", self._take(8))[0],
            "bytes": lambda: self._take(self._long()),
            "string": self._text,
        }

    @classmethod
    def read(cls, schema: Any, data: bytes) -> Any:
        """Return the value of the whole of `data`; times stay milliseconds."""
        reader = cls(data)
        value = reader.value(schema)
        demand(reader._at == len(data), f"{len(data) - reader._at} bytes are left over after a record")
        return value

    def value(self, schema: Any) -> Any:
        """Read the next value."""
        if isinstance(schema, list):
            branch = self._long()
            demand(0 <= branch < len(schema), "a union has no such branch")
            return self.value(schema[branch])
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, (dict, list)):
            return self.value(kind)
        read = self._primitives.get(kind)
        if read is not None:
            return read()
        if isinstance(schema, str):
            return self.value(self._named[schema.rpartition(".")[2]])
        if "name" in schema:
            self._named[schema["name"]] = schema
        match kind:
            case "enum":
                index = self._long()
                demand(0 <= index < len(schema["symbols"]), "an enum has no such symbol")
                return schema["symbols"][index]
            case "record":
                return {each["name"]: self.value(each["type"]) for each in schema["fields"]}
            case "array":
                return [self.value(schema["items"]) for count in self._blocks() for _ in range(count)]
            case "map":
                return {self._text(): self.value(schema["values"]) for count in self._blocks() for _ in range(count)}
        raise Wrong(f"there is no type {kind!r}")

    def _take(self, size: int) -> bytes:
        demand(0 <= size <= len(self._data) - self._at, "a record ends before its schema does")
        self._at += size
        return self._data[self._at - size : self._at]

    def _long(self) -> int:
        raw = shift = 0
        while True:
            byte = self._take(1)[0]
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            demand(shift < 70, "a number has more than ten bytes")
        demand(raw < 2**64, "a number has more than 64 bits")
        return (raw >> 1) ^ -(raw & 1)

    def _boolean(self) -> bool:
        byte = self._take(1)
        demand(byte in (b"\x00", b"\x01"), "a boolean is neither 0 nor 1")
        return byte == b"\x01"

    def _text(self) -> str:
        return self._take(self._long()).decode()

    def _blocks(self) -> Any:
        while count := self._long():
            if count < 0:
                count, _ = -count, self._long()
            demand(count <= len(self._data) - self._at, "a list is longer than its record")
            yield count


# Merkle trees (RFC 9162, section 2.1)


def leaf_hash(content: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + content).digest()


def log_node(left: bytes, right: bytes, _top: bool) -> bytes:
    """Return the hash of the node over two."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def check_inclusion(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes, what: str) -> None:
    """Raise Wrong unless the path leads from the leaf at `index` to the root of a tree of `size` leaves."""
    demand(0 <= index < size, f"{what}: there is no leaf {index} among {size}")
    found = climbed(leaf, index, size, path, log_node, what)
    demand(found == root, f"{what}: its path does not lead to the root")


def climbed(
    found: bytes, node: int, size: int, path: list[bytes], join: Callable[[bytes, bytes, bool], bytes], what: str
) -> bytes:
    """Return what a path leads to from leaf `node` of `size`; nothing where it ends too soon.

    `join` is given two neighbours, and whether the node over them is the root.
    """
    last = size - 1
    for number, step in enumerate(path):
        demand(last, f"{what}: its path is too long")
        top = number == len(path) - 1
        if node & 1 or node == last:
            found = join(step, found, top)
            while not node & 1 and node:  # at the right edge a node without a neighbour rises as it is
                node, last = node >> 1, last >> 1
        else:
            found = join(found, step, top)
        node, last = node >> 1, last >> 1
    return b"" if last else found


# BLAKE3 (O'Connor and others, sections 2.1-2.5): a tree over chunks of 1024 bytes, shaped like that of RFC 9162


CHUNK, BLOCK = 1024, 64
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def compress(value: tuple[int, ...], block: bytes, counter: int, flags: int) -> tuple[int, ...]:
    """Compress a block of up to 64 bytes into a chaining value of eight words."""
    words = struct.unpack("<16I", block.ljust(BLOCK, b"\0"))
    state = [*value, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, len(block), flags]
    for _ in range(7):
        for place, (a, b, c, d) in enumerate(QUARTERS):
            for word, right, then in ((words[2 * place], 16, 12), (words[2 * place + 1], 8, 7)):
                state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
                turned = state[d] ^ state[a]
                state[d] = (turned >> right | turned << 32 - right) & 0xFFFFFFFF
                state[c] = (state[c] + state[d]) & 0xFFFFFFFF
                turned = state[b] ^ state[c]
                state[b] = (turned >> then | turned << 32 - then) & 0xFFFFFFFF
        words = tuple(words[each] for each in PERMUTATION)
    return tuple(low ^ high for low, high in zip(state[:8], state[8:], strict=True))


def chunk_value(content: bytes, index: int, flags: int) -> bytes:
    """Return the chaining value of the chunk at `index`; `flags` is ROOT where it is the whole message."""
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)] or [b""]
    value: tuple[int, ...] = IV
    for number, block in enumerate(blocks):
        first = CHUNK_START if number == 0 else 0
        last = CHUNK_END | flags if number == len(blocks) - 1 else 0
        value = compress(value, block, index, first | last)
    return struct.pack("<8I", *value)


def node_value(left: bytes, right: bytes, top: bool) -> bytes:
    """Return the chaining value of the node over two."""
    return struct.pack("<8I", *compress(IV, left + right, 0, PARENT | (ROOT if top else 0)))


class Shown:
    """Some chunks of a message, each proved to stand in the one that has a given BLAKE3 digest."""

    def __init__(self, given: dict[str, Any], root: str, what: str) -> None:
        self._size, self._what = given["bytes"], what
        demand(type(self._size) is int and self._size >= 0, f"{what}: its batch has no length")
        expected = bytes.fromhex(root.removeprefix("blake3:"))
        self._chunks: dict[int, bytes] = {}
        for each in given["chunks"]:
            index, content = each["index"], unbase64(each["content"], what)
            demand(type(index) is int and index > max(self._chunks, default=-1), f"{what}: its chunks are out of order")
            path = [unbase64(step, what) for step in each["path"]]
            demand(self._root(index, content, path) == expected, f"{what}: chunk {index} does not lead to the digest")
            self._chunks[index] = content

    def _root(self, index: int, content: bytes, path: list[bytes]) -> bytes:
        """Return the digest that a chunk and its neighbours lead to."""
        last = max(self._size - 1, 0) // CHUNK
        expected = CHUNK if index < last else self._size - last * CHUNK
        demand(index <= last and len(content) == expected, f"{self._what}: chunk {index} has another length")
        demand(all(len(step) == 32 for step in path), f"{self._what}: the path of chunk {index} is another")
        value = chunk_value(content, index, 0 if path else ROOT)
        return climbed(value, index, last + 1, path, node_value, f"{self._what}, chunk {index}")

    def take(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end`; raises Wrong where they are not all shown."""
        demand(0 <= start <= end <= self._size, f"{self._what}: it does not lie in its batch")
        found = bytearray()
        for index in range(start // CHUNK, -(-end // CHUNK)) if start < end else ():
            demand(index in self._chunks, f"{self._what}: chunk {index} is missing")
            begin = index * CHUNK
            found += self._chunks[index][max(start - begin, 0) : end - begin]
        return bytes(found)

    def number(self, place: int) -> int:
        """Return one of the numbers that the message begins with."""
        return int.from_bytes(self.take(NUMBER_BYTES * place, NUMBER_BYTES * (place + 1)), "big")

    def value(self, row: int, rows: int) -> bytes | None:
        """Return one of the `rows` values that the message is made of; None where it has none."""
        demand(self.number(0) == rows, f"{self._what}: its batch has another number of values")
        demand(type(row) is int and 0 <= row < rows, f"{self._what}: there is no row {row} among {rows}")
        begin, end, last = (self.number(place) if place else 0 for place in (row, row + 1, rows))
        head = NUMBER_BYTES * (1 + rows)
        demand(self._size == head + (last & ~NO_VALUE), f"{self._what}: its batch has another length")
        found = self.take(head + (begin & ~NO_VALUE), head + (end & ~NO_VALUE))
        return None if end & NO_VALUE else found


# Signed notes (C2SP signed-note, tlog-checkpoint, tlog-cosignature)


@dataclass(frozen=True)
class Key:
    """A public key with its name, as `name+hash+base64` says it."""

    name: str
    id: bytes
    kind: int
    raw: bytes

    @classmethod
    def given(cls, text: str, claimed: str) -> Key:
        """Read the key that was given, and see that the bundle claims the same; a PEM file lacks the name only."""
        key = cls.read(claimed)
        if text.startswith("-----BEGIN PUBLIC KEY-----"):
            found = serialization.load_pem_public_key(text.encode())
            demand(isinstance(found, Ed25519PublicKey), "a key that was given is no Ed25519 key")
            raw = found.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            demand(raw == key.raw, f"the bundle's key of {key.name} is not the one given")
            return key
        demand(cls.read(text) == key, f"the bundle's key of {key.name} is not the one given")
        return key

    @classmethod
    def read(cls, text: str) -> Key:
        """Read a key; raises Wrong."""
        name, _, rest = text.strip().partition("+")
        digits, _, content = rest.partition("+")
        data = unbase64(content, "a key")
        demand(name and len(data) == 33 and data[0] in (ED25519, COSIGNATURE), "a key is no Ed25519 verifier key")
        identity = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
        demand(digits == identity.hex(), f"the key {name} does not have the hash that it names")
        return cls(name, identity, data[0], data[1:])

    def check(self, text: str, lines: list[str], what: str) -> int | None:
        """Raise Wrong unless one of the lines is this key's signature of the text; return its time, if it has one."""
        for line in lines:
            name, _, content = line.removeprefix("\u2014 ").partition(" ")
            if name != self.name or (data := unbase64(content, f"a signature of {what}"))[:4] != self.id:
                continue
            signed, at, signature = text.encode(), None, data[4:]
            if self.kind == COSIGNATURE:
                at, signature = int.from_bytes(data[4:12], "big"), data[12:]
                signed = f"cosignature/v1\ntime {at}\n".encode() + signed
            try:
                Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, signed)
            except InvalidSignature:
                raise Wrong(f"{what}: the signature of {self.name} is false") from None
            return at
        raise Wrong(f"{what}: {self.name} has not signed it")


def open_note(note: str, what: str) -> tuple[str, list[str]]:
    """Return the text of a note and its signature lines."""
    text, blank, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    demand(blank and lines.pop() == "" and lines, f"{what} is no signed note")
    demand(all(line.startswith("\u2014 ") for line in lines), f"{what} has a line that is no signature")
    return text + "\n", lines


@dataclass(frozen=True)
class Checkpoint:
    """A head of the log that log and witness have signed."""

    log: str
    size: int
    root: bytes
    witnessed_at: int | None

    @classmethod
    def read(cls, note: str, log: Key, witness: Key) -> Checkpoint:
        """Read and check a checkpoint; raises Wrong."""
        text, lines = open_note(note, "the checkpoint")
        demand((log.kind, witness.kind) == (ED25519, COSIGNATURE), "the keys are not those of a log and of a witness")
        origin, size, root, *rest = text.split("\n")
        demand(rest and size.isdecimal() and str(int(size)) == size, "the checkpoint has no size")
        log.check(text, lines, "the checkpoint")
        at = witness.check(text, lines, "the checkpoint")
        demand(len(found := unbase64(root, "the checkpoint's root")) == 32, "the checkpoint has no root")
        return cls(origin, int(size), found, at)


# The bundle


def unbase64(text: str, what: str) -> bytes:
    """Return what base64 stands for; raises Wrong for anything but its one proper writing."""
    try:
        content = base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise Wrong(f"{what} is no base64") from None
    demand(base64.b64encode(content).decode() == text, f"{what} is not written in its one way")
    return content


def canonical(bundle: dict[str, Any]) -> bytes:
    """Return a bundle as the one sequence of bytes that stands for it."""
    return (json.dumps(bundle, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def statement(bundle: dict[str, Any], log: str) -> str:
    """Return the text that the log's key signs for a bundle: over all of it but the statement itself."""
    rest = {name: value for name, value in bundle.items() if name != "statement"}
    return f"{FORMAT}\n{log}\n{base64.b64encode(hashlib.sha256(canonical(rest)).digest()).decode()}\n"


@dataclass(frozen=True)
class Opened:
    """An entry of the log that is proved to be in it, with the event that it stands for."""

    seq: int
    action: str
    actor: str
    event: dict[str, Any]

    @classmethod
    def read(cls, given: dict[str, Any], schemas: dict[str, str], head: Checkpoint) -> Opened:
        """Open one entry of a bundle; raises Wrong."""
        content, payload = unbase64(given["entry"], "an entry"), unbase64(given["payload"], "an entry's payload")
        entry = Avro.read(ENTRY, content)
        what = f"entry {entry['seq']} ({entry['action']})"
        path = [unbase64(step, what) for step in given["path"]]
        check_inclusion(leaf_hash(content), entry["seq"], head.size, path, head.root, what)
        demand(digest(payload) == entry["payload_digest"], f"{what}: its payload is not what was entered")
        demand(entry["schema_digest"] in schemas, f"{what}: its schema is missing")
        schema = schemas[entry["schema_digest"]]
        demand(digest(schema.encode()) == entry["schema_digest"], f"{what}: its schema is not the one entered")
        document = json.loads(schema)
        demand(document["name"] == entry["action"], f"{what}: its schema is that of {document['name']}")
        return cls(entry["seq"], entry["action"], entry["actor"], Avro.read(document, unframe(payload, what)[1]))


def digest(content: bytes) -> str:
    """Return a content address."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def unframe(value: bytes, what: str) -> tuple[int, bytes]:
    """Return the schema id and the body of a value in Confluent's frame."""
    demand(len(value) >= 5 and value[0] == 0, f"{what}: no frame around its value")
    return int.from_bytes(value[1:5], "big"), value[5:]


def request_of(value: bytes, schema: str) -> dict[str, Any] | None:
    """Return a framed request as its schema reads it, times in ms; None where it cannot be read."""
    try:
        read: dict[str, Any] = Avro.read(json.loads(schema), unframe(value, "the request")[1])
    except (Wrong, *MALFORMED):
        return None
    return read


def moment(milliseconds: int) -> str:
    """Return a time as ISO 8601 in UTC; one that no calendar holds as its number."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"


def plain(value: Any, name: str = "") -> Any:
    """Return a value as JSON can hold it: times in ISO 8601, bytes in base64, what is not finite as a word."""
    if isinstance(value, dict):
        return {each: plain(item, each) for each, item in value.items() if each not in BULKY}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if name in TIMES and isinstance(value, int):
        return moment(value)
    return str(value) if isinstance(value, float) and value - value != 0 else value


# The case


class Case:
    """One request's evidence, opened: what must hold between its parts, and what they say together."""

    def __init__(self, bundle: dict[str, Any], head: Checkpoint) -> None:
        known = {
            "about",
            "checkpoint",
            "dead_letter",
            "entries",
            "format",
            "keys",
            "name",
            "request",
            "reread",
            "result",
        }
        demand(set(bundle) == known | {"schemas", "statement"}, "the bundle has other parts than a case has")
        demand(bundle["format"] == FORMAT, f"the bundle's format is not {FORMAT}")
        demand(bundle["about"] == ABOUT, "the bundle says something else about what it proves")
        self.head, self.name, self.reread, self.request_proved = head, bundle["name"], bundle["reread"], False
        self.entries = [Opened.read(each, bundle["schemas"], head) for each in bundle["entries"]]
        demand(len({each.seq for each in self.entries}) == len(self.entries), "an entry stands in the bundle twice")
        self._used: set[int] = set()
        self.batch = self.one("BatchAnswered")
        self.route = self.one("Route", endpoint=self.batch.event["endpoint"], epoch=self.batch.event["epoch"])
        self.row = bundle["result"]["row"]
        self.result = self._result(bundle["result"])
        self.request = self._request(bundle["request"])
        self.letter = self._letter(bundle["dead_letter"])

    def some(self, action: str, **fields: Any) -> list[Opened]:
        """Return the entries of an action whose events have these values, oldest first."""
        found = [
            each
            for each in self.entries
            if each.action == action and all(each.event[name] == value for name, value in fields.items())
        ]
        self._used |= {each.seq for each in found}
        return sorted(found, key=lambda each: each.seq)

    def one(self, action: str, **fields: Any) -> Opened:
        """Return the only such entry; raises Wrong."""
        found = self.some(action, **fields)
        said = ", ".join(f"{name} {value}" for name, value in fields.items())
        demand(len(found) == 1, f"{len(found)} entries {action} {said}: there must be one".replace("  ", " "))
        return found[0]

    def none_left(self) -> None:
        """Raise Wrong where an entry belongs to something else."""
        left = [f"{each.seq} ({each.action})" for each in self.entries if each.seq not in self._used]
        demand(not left, f"entries that do not belong to this case: {', '.join(left)}")

    def _proved(self, proof: dict[str, Any], root: str, name: str) -> bytes | None:
        """Prove this row's value out of its batch, by the bytes around it; raises Wrong."""
        return Shown(proof, root, name).value(self.row, self.batch.event["rows"])

    def _result(self, given: dict[str, Any]) -> dict[str, Any]:
        """Prove one result out of its batch, and read it."""
        batch, name = self.batch.event, f"the result of {self.name}"
        schema_id, body = unframe(self._proved(given["proof"], batch["results_digest"], name) or b"", name)
        route = self.route.event
        demand(schema_id == route["result_schema_id"], f"{name}: not written with the route's schema")
        result: dict[str, Any] = Avro.read(json.loads(route["result_schema"]), body)
        demand("{topic}/{partition}/{offset}".format(**result) == self.name, f"{name}: it answers another request")
        demand(batch["from_offset"] <= result["offset"] < batch["next_offset"], f"{name}: outside of its batch")
        for field, value in (("topic", 0), ("partition", 0), ("endpoint", 0), ("epoch", 0), ("scored_at", batch["at"])):
            demand(result[field] == (value or batch[field]), f"{name}: its {field} is not the batch's")
        identity = ("arm", "model", "version", "digest")
        if result["version"]:
            for each, where in ((batch["versions"], "batch"), (route["arms"], "route")):
                demand(
                    any(all(one[part] == result[part] for part in identity) for one in each),
                    f"{name}: the {where} names no such version",
                )
        return result

    def _request(self, given: dict[str, Any] | None) -> dict[str, Any] | None:
        """Read the request as the auditor read it again, and hold it against the result."""
        if given is None:
            return None
        value = None if given["value"] is None else unbase64(given["value"], "the request")
        if given["proof"] is not None:
            proved = self._proved(given["proof"], self.batch.event["requests_digest"], f"the request {self.name}")
            demand(proved == value, "the request is not the one that was answered")
            self.request_proved = True
        key = None if given["key"] is None else unbase64(given["key"], "the request's key")
        found: dict[str, Any] = {"key": key, "at": given["timestamp"], "features": None, "value": value}
        if given["schema"] is None or value is None:
            demand(self.result["rejection"], "the request has no schema, and yet it was answered")
            return found
        read = request_of(value, given["schema"])
        if read is None:
            demand(self.result["rejection"], "the request cannot be read, and yet it was answered")
            return found
        if not self.result["rejection"]:
            asked = self.result["request_schema_id"]
            demand(unframe(value, "the request")[0] == asked, "the request's schema is not the one the result names")
            for field in ("request_id", "requested_at"):
                demand(read.get(field, self.result[field]) == self.result[field], f"the request's {field} is another")
        found["features"] = {each: read[each] for each in read if each not in ("request_id", "requested_at")}
        return found

    def hold_against_topic(self) -> None:
        """Raise Wrong unless what the auditor found when it read the topics again is what the log says."""
        demand(set(self.reread) == {"at", "requests_digest", "results_digest"}, "what was read again is not told")
        batch, again = self.batch.event, self.reread
        demand(again["results_digest"] == batch["results_digest"], "the results read again are not those answered")
        gone = again["requests_digest"] is None and self.request is None
        demand(gone or again["requests_digest"] == batch["requests_digest"], "the requests read again are others")

    def _letter(self, given: dict[str, Any] | None) -> dict[str, Any] | None:
        """Read the dead letter as the auditor read it again, and hold it against the result."""
        demand((given is None) or self.result["rejection"], "there is a dead letter of a request that was answered")
        if given is None:
            return None
        letter: dict[str, Any] = Avro.read(
            json.loads(given["schema"]), unframe(unbase64(given["value"], "the dead letter"), "the dead letter")[1]
        )
        demand(letter["name"] == self.name == self.result["dead_letter"], "the dead letter is of another request")
        demand(letter["reason"] == self.result["rejection"], "the dead letter's reason is not the result's")
        if self.request is not None:
            demand(letter["value"] == self.request["value"], "the dead letter holds another request")
        return letter


class Account:
    """What a case says, fact by fact, each with what proves it; raises Wrong where facts contradict each other."""

    def __init__(self, case: Case) -> None:
        self.case, self.facts = case, list[dict[str, Any]]()
        result, batch = case.result, case.batch.event
        self._where = {"endpoint": batch["endpoint"]}
        self._which = {"model": result["model"], "version": result["version"]}
        self._answer()
        if result["version"]:
            self._version()
            self._order()
        self._route()
        self._watch()
        case.none_left()

    def _add(self, fact: str, said: str, values: dict[str, Any], entry: Opened | None, proof: str = "log") -> None:
        seq = None if entry is None else entry.seq
        self.facts.append({"fact": fact, "said": said, "proof": proof, "entry": seq, "values": plain(values)})

    def _event(self, fact: str, entry: Opened, said: str) -> None:
        """Add what an event says, in words that its fields fill in."""
        if self.case.result["version"] and "digest" in entry.event:
            same = entry.event["digest"] == self.case.result["digest"]
            demand(same, f"entry {entry.seq} ({entry.action}) is about another digest than the result's")
        values = {"actor": entry.actor, **entry.event}
        self._add(fact, said.format(**plain(values)), values, entry)

    def _answer(self) -> None:
        case, result, batch = self.case, self.case.result, self.case.batch
        request, late = case.request, result["scored_at"] - result["requested_at"]
        values = {"name": case.name, "request_id": result["request_id"], "requested_at": result["requested_at"]}
        said = f"Request {case.name}, id {result['request_id']!r}, of {moment(result['requested_at'])}"
        self._add("request", said, values, batch, "batch")
        if request is not None:
            features = request["features"]
            said = "features: " + ", ".join(f"{name} {value!r}" for name, value in (features or {}).items())
            values = {"features": features, "key": request["key"], "record_at": moment(request["at"])}
            proof, entry = ("batch", batch) if case.request_proved else ("reread", None)
            self._add("features", said if features else "its value cannot be read", values, entry, proof)
        online = {name: result[name] for name in result if name.startswith("online_")}
        if online:
            missing = [name for bit, name in enumerate(online) if (result["features_missing"] or 0) >> bit & 1]
            age = result["features_age_milliseconds"]
            values = {"online": online, "age_milliseconds": age, "missing": missing}
            shown = ", ".join(f"{name.removeprefix('online_')} {value!r}" for name, value in online.items())
            said = f"looked up: {shown}; the oldest {age} ms old; by default: {', '.join(missing) or 'none'}"
            self._add("online", said, values, batch, "batch")
        outputs = {name: result[name] for name in result if name not in (*ENVELOPE, *LOOKED_UP, *online)}
        said = ", ".join(f"{name} {value!r}" for name, value in outputs.items())
        if result["rejection"]:
            said = f"REJECTED: {result['rejection']}, kept as dead letter {result['dead_letter']}"
        answer = {name: result[name] for name in ENVELOPE}
        answer |= {"outputs": outputs, "latency_milliseconds": late}
        said += f"; scored at {moment(result['scored_at'])}, {late} ms after it was asked"
        self._add("result", said, answer, batch, "batch")
        if case.letter is not None:
            kept = {name: case.letter[name] for name in ("name", "reason", "detail", "schema_id", "at", "epoch")}
            self._add("dead letter", f"dead letter: {kept['reason']}: {kept['detail']}", kept, None, "reread")
        said = f"batch: offsets {{from_offset}} to {{next_offset}}, {{rows}} results, this one is row {case.row}"
        self._event("batch", batch, said)

    def _version(self) -> None:
        case, result = self.case, self.case.result
        registered = case.one("VersionRegistered", **self._which)
        event = registered.event
        demand(digest(event["manifest"].encode()) == event["manifest_digest"], "the manifest is not the one pushed")
        parts = [bytes.fromhex(event[name].removeprefix("sha256:")) for name in ("manifest_digest", "artifact_digest")]
        made = hashlib.sha256(VERSION_DOMAIN + b"".join(parts)).hexdigest()
        demand(result["digest"] == f"sha256:{made}", "the result's digest is not that of manifest and artifact")
        for entry in case.some("ModelCreated", model=result["model"]):
            self._event("model", entry, "model {model} of {owner}, created by {created_by}")
        self._event("version", registered, "{model} version {version}, {digest}")
        self._event("push", registered, "pushed by {author} as commit {commit} at {at}; manifest {manifest_digest}, "
                    "artifact {artifact_digest} ({artifact_format})")  # fmt: skip
        approvals = case.some("VersionApproved", **self._which, **self._where)
        demand(approvals, "no entry says who approved the version for this endpoint")
        built = case.one("BuildSucceeded", **self._which)
        self._event("build", built, "built at {at}, {vectors} self-test vectors, evidence {evidence_digest}")
        for gate in built.event["gates"]:
            entry = case.one("GateEvaluated", **self._which, gate=gate)
            self._event("gate", entry, "gate {gate}: {verdict}, {metric} {value} on {rows} rows: {detail}")
        for entry in approvals:
            demand(entry.event["approver"] != event["author"], "the author approved the version")
            self._event("approval", entry, "approved for {endpoint} by {approver} at {at}, on evidence "
                        "{evidence_digest}; note: {note!r}")  # fmt: skip
        same = approvals[-1].event["evidence_digest"] == built.event["evidence_digest"]
        demand(same, "the approval is for other evidence than the build's")

    def _order(self) -> None:
        case, number = self.case, self.case.route.event["promotion"]
        promoted = case.some("VersionPromoted", **self._where, promotion=number)
        orders = promoted + case.some("RollbackOrdered", **self._where, promotion=number)
        demand(len(orders) == 1, f"{len(orders)} entries say who ordered the route (promotion {number})")
        ordered = orders[0].event.get("version", orders[0].event.get("to_version"))
        versions = [arm["version"] for arm in case.route.event["arms"]]
        demand(ordered in versions, "the order is for a version that the route does not name")
        for entry in case.some("VersionPromoted", **self._which, **self._where):
            self._event("promotion", entry, "promoted on {endpoint} by {actor} at {at}, order {promotion}")
        if not promoted:
            self._event("rollback", orders[0], "gone back to from version {from_version} by {actor} at {at}, order "
                        "{promotion}: {reason!r}")  # fmt: skip
        for action, said in (
            ("VersionWarmed", "warmed at {at}: {vectors} vectors answered as expected, {seconds:.1f} s"),
            ("VersionServing", "serving since {at}, epoch {epoch}"),
        ):
            for entry in case.some(action, **self._which, **self._where):
                self._event(action.removeprefix("Version").lower(), entry, said)

    def _route(self) -> None:
        case, epoch = self.case, self.case.route.event["epoch"]
        routes = case.some("Route", **self._where)
        later = [entry for entry in routes if entry.event["epoch"] != epoch]
        demand(len(later) < 2 and all(entry.event["epoch"] > epoch for entry in later), "a route of another time")
        until = plain(later[0].event)["at"] if later else None
        arm = case.result["arm"]
        weights = {each["arm"]: each["weight"] for each in case.route.event["arms"]}
        said = f"route epoch {epoch}" + (f", arm {arm} with {weights[arm] / 100:g} % of the keys" if arm else "")
        said += f", in force since {plain(case.route.event)['at']} "
        said += f"until {until} (entry {later[0].seq})" if later else "on; no later route is shown"
        since = {"epoch": epoch, "arm": arm, "weights": weights, "since": plain(case.route.event)["at"], "until": until}
        self._add("route", said, since, case.route)
        for entry in case.some("RouteChanged", **self._where, epoch=epoch):
            self._event("change", entry, "champion version {champion_version} instead of {previous_version}: {cause}")
        for entry in case.some("EndpointCreated", **self._where):
            self._event("endpoint", entry, "endpoint {endpoint} of model {model}, created by {created_by} at {at}")

    def _watch(self) -> None:
        which = {**self._where, **self._which, "arm": self.case.result["arm"]}
        for entry in self.case.some("WindowClosed", **which):
            self._event("window", entry, "window {window_start} to {window_end}: {rows} rows, {evidence}, drifted: "
                        "{drifted}")  # fmt: skip
        for entry in self.case.some("DriftDetected", **which):
            names = ", ".join(each["feature"] for each in entry.event["features"])
            self._event("drift", entry, f"DRIFT of {names.replace('{', '').replace('}', '')} reported at {{at}}")
        for entry in self.case.some("DriftCleared", **which):
            self._event("drift", entry, "drift cleared at {at}")


def examine(content: bytes, log_key: str, witness_key: str) -> tuple[dict[str, Any], list[str]]:
    """Return the account of a bundle, and what is wrong with it (then the account is empty)."""
    try:
        demand(len(content) <= BUNDLE_BYTES_MAX, "the bundle is larger than any case")
        bundle = json.loads(content)
        demand(isinstance(bundle, dict) and canonical(bundle) == content, "the bundle is not written in its one way")
        demand(set(bundle["keys"]) == {"log", "witness"}, "the bundle does not name two keys")
        log = Key.given(log_key, bundle["keys"]["log"])
        witness = Key.given(witness_key, bundle["keys"]["witness"])
        head = Checkpoint.read(bundle["checkpoint"], log, witness)
        case = Case(bundle, head)
        facts = Account(case).facts
        case.hold_against_topic()
        text, lines = open_note(bundle["statement"], "the bundle's statement")
        demand(text == statement(bundle, head.log), "the bundle is not the one that the log's key signed")
        log.check(text, lines, "the bundle's statement")
    except Wrong as wrong:
        return {}, [str(wrong)]
    except MALFORMED as error:
        return {}, [f"the bundle is malformed: {type(error).__name__}: {error}"]
    checkpoint = {"log": head.log, "size": head.size, "root": head.root.hex(), "witnessed_at": head.witnessed_at}
    return {"name": case.name, "facts": facts, "checkpoint": checkpoint, "reread": plain(case.reread)}, []


def describe(account: dict[str, Any]) -> str:
    """Return an account in plain words, a line for each fact, with what proves it."""
    proofs = {
        "log": "entry {entry}",
        "batch": "entry {entry}, by the digest of the batch",
        "reread": "read again from the topic; the auditor's word",
    }
    lines = [f"{each['said']}  [{proofs[each['proof']].format(**each)}]" for each in account["facts"]]
    head = account["checkpoint"]
    at = f" at {datetime.fromtimestamp(head['witnessed_at'], UTC).isoformat()}" if head["witnessed_at"] else ""
    lines.append(f"Checkpoint of {head['log']}: {head['size']} entries, root {head['root']}, seen by the witness{at}")
    return "".join(printable(line) + "\n" for line in lines)


def printable(text: str) -> str:
    """Return a text without what could move a terminal's cursor: names and notes are anybody's words."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def main(words: list[str]) -> int:
    """Check a bundle; return the exit status."""
    parser = argparse.ArgumentParser(prog="verifier.py", description="Checks a case, offline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--log-key", required=True, help="the log's public key, or a file that holds it")
    parser.add_argument("--witness-key", required=True, help="the witness's public key, or a file that holds it")
    parser.add_argument("--json", action="store_true", help="print the account as JSON")
    given = parser.parse_args(words)
    try:
        content = given.bundle.read_bytes()
        keys = [key if "+" in key else Path(key).read_text() for key in (given.log_key, given.witness_key)]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    account, problems = examine(content, *keys)
    for problem in problems:
        sys.stdout.write(f"WRONG: {printable(problem)}\n")
    if not problems:
        sys.stdout.write(json.dumps(account, indent=2) + "\n" if given.json else describe(account))
        sys.stdout.write("" if given.json else "Everything above holds.\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
