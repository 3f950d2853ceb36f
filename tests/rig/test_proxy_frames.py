"""Frames however they are cut, and every version's addresses, by layouts taken from the broker's own jar."""

from __future__ import annotations

import contextlib
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig.proxy_addresses import rewritten
from tests.rig.proxy_frames import Api, FrameError, Request, Splitter, framed, label_of, request_of

MESSAGES = "common/message/"
PRIMITIVES = {"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8, "float64": 8, "uuid": 16}
BROKERS = {"Host": "broker-of-some-length.example", "Port": 9092}
OURS = ("127.0.0.1", 45_678)


def ours(host: str, port: int) -> tuple[str, int]:
    """Translate the brokers of the test, and only those."""
    assert (host, port) == (BROKERS["Host"], BROKERS["Port"])
    return OURS


class Layout:
    """Writes a message by the definition that ships with Kafka, independently of how the proxy reads it."""

    def __init__(self, definition: dict[str, Any], version: int) -> None:
        self._version = version
        self._is_flexible = _covers(definition["flexibleVersions"], version)
        self._structs = {each["name"]: each["fields"] for each in definition.get("commonStructs", ())}
        self._fields = definition["fields"]

    def write(self, choose: Callable[[str, str], Any]) -> bytes:
        """Write the whole message, its header's tags included; `choose(name, type)` gives what stands in a field."""
        return (b"\0" if self._is_flexible else b"") + self._struct(self._fields, choose)

    def _struct(self, fields: list[dict[str, Any]], choose: Callable[[str, str], Any]) -> bytes:
        content, tags = b"", []
        for field in fields:
            if not _covers(field["versions"], self._version):
                continue
            value = self._value(field, choose)
            if "tag" in field and _covers(field.get("taggedVersions", "none"), self._version):
                tags.append((field["tag"], value))
            else:
                content += value
        if not self._is_flexible:
            return content
        tagged = b"".join(_varint(tag) + _varint(len(value)) + value for tag, value in sorted(tags))
        return content + _varint(len(tags)) + tagged

    def _value(self, field: dict[str, Any], choose: Callable[[str, str], Any]) -> bytes:
        kind: str = field["type"]
        if kind.startswith("[]"):
            items = [{**field, "type": kind[2:]} for _ in range(choose(field["name"], kind))]
            return self._count(len(items), 4) + b"".join(self._value(each, choose) for each in items)
        if kind in PRIMITIVES:
            value: int = choose(field["name"], kind)
            return value.to_bytes(PRIMITIVES[kind], "big", signed=True)
        if kind in ("string", "bytes", "records"):
            content = str(choose(field["name"], kind)).encode()
            return self._count(len(content), 2 if kind == "string" else 4) + content
        return self._struct(field.get("fields") or self._structs[kind], choose)

    def _count(self, count: int, classic_size: int) -> bytes:
        return _varint(count + 1) if self._is_flexible else count.to_bytes(classic_size, "big")


def _covers(versions: str, version: int) -> bool:
    if versions == "none":
        return False
    first, _, last = versions.rstrip("+").partition("-")
    return int(first) <= version and (versions.endswith("+") or version <= int(last or first))


def _varint(value: int) -> bytes:
    content = b""
    while value >= 0x80:
        content += bytes([value & 0x7F | 0x80])
        value >>= 7
    return content + bytes([value])


def definition(jar: Path, name: str) -> dict[str, Any]:
    """Read a message's definition out of the jar."""
    lines = zipfile.ZipFile(jar).read(f"{MESSAGES}{name}.json").decode().splitlines()
    read: dict[str, Any] = json.loads("\n".join(line for line in lines if not line.strip().startswith("//")))
    return read


def chosen(seed: int, address: tuple[str, int]) -> Callable[[str, str], Any]:
    """Fill every field deterministically, arrays with 0 to 3 items, and every broker with the address."""
    state = seed

    def choose(name: str, kind: str) -> Any:
        nonlocal state
        if name == "Host":
            return address[0]
        if name == "Port":
            return address[1]
        state = (state * 1_103_515_245 + 12_345) % 2**31
        if kind.startswith("[]"):
            return (state >> 8) % 4
        if kind == "string":
            return "s" * ((state >> 8) % 200)
        if kind in ("bytes", "records"):
            return "r" * ((state >> 8) % 5000)
        return (state >> 8) % 100

    return choose


@pytest.fixture(scope="module")
def jar(servers: dict[str, str]) -> Path:
    """The clients' jar of the Kafka that the tests run on."""
    libraries = Path(servers["INTERLOCK_KAFKA_HOME"]) / "libs"
    return next(libraries.glob("kafka-clients-*.jar"))


@pytest.mark.parametrize("name", ["Metadata", "FindCoordinator", "DescribeCluster", "Produce", "Fetch"])
def test_every_version_of_an_answer_comes_out_with_our_address_and_nothing_else_changed(jar: Path, name: str) -> None:
    """What is rewritten equals the same message written with our address in the first place."""
    layout = definition(jar, f"{name}Response")
    first, last = (int(each) for each in layout["validVersions"].split("-"))
    for version in range(first, last + 1):
        for seed in range(40):
            theirs = b"\0\0\0\7" + Layout(layout, version).write(chosen(seed, (BROKERS["Host"], BROKERS["Port"])))  # type: ignore[arg-type]  # one of each
            expected = b"\0\0\0\7" + Layout(layout, version).write(chosen(seed, OURS))
            assert rewritten(Api.named(name), version, theirs, ours) == expected, (version, seed)


def test_the_transactional_id_is_read_from_every_version_that_names_one(jar: Path) -> None:
    """The heads of all transactional requests, as Kafka's own definitions lay them down."""
    for name in (
        "Produce",
        "InitProducerId",
        "AddPartitionsToTxn",
        "AddOffsetsToTxn",
        "EndTxn",
        "TxnOffsetCommit",
    ):
        layout = definition(jar, f"{name}Request")
        first, last = (int(each) for each in layout["validVersions"].split("-"))
        for version in range(first, last + 1):

            def choose(field: str, kind: str) -> Any:
                if kind.startswith("[]"):
                    return 1
                if kind in ("string", "bytes", "records"):
                    return "my-id" if field in ("TransactionalId", "V3AndBelowTransactionalId") else "x"
                return 1

            head = struct.pack(">hhih", Api.named(name), version, 77, 2) + b"me"
            found = request_of(head + Layout(layout, version).write(choose))
            acks = 1 if name == "Produce" else None
            assert found == Request(Api.named(name), version, 77, "me", "my-id", acks), (name, version)


def test_answer_of_a_version_that_nobody_knows_yet_is_an_error_and_not_a_leak() -> None:
    """A client that speaks a newer Metadata would be sent past the proxy."""
    with pytest.raises(FrameError, match="newer"):
        rewritten(Api.METADATA, 99, b"\0\0\0\1", ours)


def test_names_of_requests_are_kafkas() -> None:
    """`EndTxn`, `InitProducerId`; and a key without a name has its number."""
    assert Api.named("EndTxn") is Api.named("end_txn") is Api.named(26) is Api.END_TXN
    assert Api.INIT_PRODUCER_ID.label == "InitProducerId"
    assert label_of(999) == "Api999"
    with pytest.raises(ValueError, match="Nonsense"):
        Api.named("Nonsense")


def test_frames_split_at_every_byte_boundary_come_out_whole() -> None:
    """Three frames, one of them empty, cut into two anywhere, and byte by byte."""
    frames = [b"first", b"", b"x" * 300]
    stream = b"".join(framed(each) for each in frames)
    for cut in range(len(stream) + 1):
        splitter = Splitter()
        assert [*splitter.feed(stream[:cut]), *splitter.feed(stream[cut:])] == frames
        assert splitter.pending_bytes == 0
    splitter = Splitter()
    assert [frame for byte in stream for frame in splitter.feed(bytes([byte]))] == frames


@given(st.lists(st.binary(max_size=600), max_size=12), st.lists(st.integers(1, 700), max_size=200))
def test_frames_cut_anyhow_come_out_whole_and_in_order(frames: list[bytes], sizes: list[int]) -> None:
    """Whatever pieces the network makes of the stream, and nothing is kept once it has ended."""
    stream = b"".join(framed(each) for each in frames)
    splitter, found, position = Splitter(), [], 0
    for size in [*sizes, len(stream)]:
        found += list(splitter.feed(stream[position : position + size]))
        position += size
    assert found == frames
    assert splitter.pending_bytes == 0


@given(st.binary(max_size=200))
def test_rubbish_is_a_frame_error_or_a_request(frame: bytes) -> None:
    """No bytes make the reader fail in another way."""
    with contextlib.suppress(FrameError):
        assert request_of(frame).correlation_id == int.from_bytes(frame[4:8], "big", signed=True)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
def test_length_that_cannot_be_is_an_error(length: bytes) -> None:
    """Negative, or longer than anything Kafka sends: TLS for instance."""
    with pytest.raises(FrameError):
        list(Splitter().feed(length + b"abc"))
