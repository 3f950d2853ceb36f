"""Which addresses of brokers an answer of Kafka's names, and the same answer with others in their place.

The layouts are those of `common/message/*.json` in the kafka-clients jar (4.4). Only what stands before the last
address of an answer is read; the rest goes through as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from tests.rig.proxy_frames import FLEXIBLE_SINCE, Api, FrameError, Reader, label_of

Address: TypeAlias = tuple[str, int]
Translate: TypeAlias = Callable[[str, int], Address]


@dataclass(frozen=True, slots=True)
class _Field:
    """Something in an answer, in versions `since` to `until`; a whole number of bytes, or one of the kinds below."""

    kind: int | str | tuple[_Field, ...]
    since: int = 0
    until: int = 99


_TEXT, _BYTES, _ADDRESS, _ENDPOINTS = "text", "bytes", "address", "endpoints"
"""`_ADDRESS` is a host and a port; `_ENDPOINTS` are the last tags of an answer, of which tag 0 lists brokers."""


def _array(*fields: _Field, since: int = 0) -> _Field:
    return _Field(fields, since)


_F = _Field
_ENDPOINT: Final = (_F(4), _F(_ADDRESS), _F(_TEXT))
_ANSWERS: Final[dict[int, tuple[int, int, tuple[_Field, ...]]]] = {
    Api.METADATA: (0, 13, (_F(4, since=3), _array(_F(4), _F(_ADDRESS), _F(_TEXT, since=1)))),
    Api.FIND_COORDINATOR: (
        0,
        6,
        (
            _F(4, since=1),
            _F(2, until=3),
            _F(_TEXT, since=1, until=3),
            _F(4, until=3),
            _F(_ADDRESS, until=3),
            _array(_F(_TEXT), _F(4), _F(_ADDRESS), _F(2), _F(_TEXT), since=4),
        ),
    ),
    Api.DESCRIBE_CLUSTER: (
        0,
        2,
        (_F(4), _F(2), _F(_TEXT), _F(1, since=1), _F(_TEXT), _F(4), _array(*_ENDPOINT, _F(1, since=2))),
    ),
    Api.PRODUCE: (
        10,
        13,
        (
            _array(
                _F(_TEXT, until=12),
                _F(16, since=13),
                _array(_F(4), _F(2), _F(8), _F(8), _F(8), _array(_F(4), _F(_TEXT)), _F(_TEXT)),
            ),
            _F(4),
            _F(_ENDPOINTS),
        ),
    ),
    Api.FETCH: (
        16,
        18,
        (
            _F(4),
            _F(2),
            _F(4),
            _array(_F(16), _array(_F(4), _F(2), _F(8), _F(8), _F(8), _array(_F(8), _F(8)), _F(4), _F(_BYTES))),
            _F(_ENDPOINTS),
        ),
    ),
}
"""Since and until which version an answer names addresses, and what stands in it up to the last of them."""

NAMES_ADDRESSES: Final = frozenset(_ANSWERS)


def rewritten(api: int, version: int, answer: bytes, translate: Translate) -> bytes:
    """Return an answer with each broker's address translated; raises FrameError, also for a version not known here."""
    since, until, fields = _ANSWERS.get(api, (99, 99, ()))
    if version < since:
        return answer
    if version > until:
        raise FrameError(f"{label_of(api)} version {version} is newer than {until}: its addresses are not known")
    walk = _Walk(answer, 4, is_flexible=version >= FLEXIBLE_SINCE[Api(api)])
    walk.version, walk.translate = version, translate
    try:
        if walk.is_flexible:
            walk.tags()
        walk.fields(fields)
    except (IndexError, UnicodeDecodeError) as error:
        raise FrameError(f"an answer to {label_of(api)} version {version} that ends too soon") from error
    return walk.edited()


class _Walk(Reader):
    """Goes through an answer and notes what to put in the place of what."""

    version: int
    translate: Translate

    def __init__(self, data: bytes, position: int, *, is_flexible: bool) -> None:
        super().__init__(data, position, is_flexible=is_flexible)
        self._edits: list[tuple[int, int, bytes]] = []

    def fields(self, fields: tuple[_Field, ...]) -> None:
        for field in fields:
            if field.since <= self.version <= field.until:
                self._field(field.kind)

    def edited(self) -> bytes:
        pieces, position = [], 0
        for start, end, content in self._edits:
            pieces += [self.data[position:start], content]
            position = end
        return b"".join((*pieces, self.data[position:])) if pieces else self.data

    def _field(self, kind: int | str | tuple[_Field, ...]) -> None:
        if isinstance(kind, int):
            self.skip(kind)
        elif isinstance(kind, tuple):
            self._array(kind)
        elif kind == _TEXT:
            self.skip(max(0, self.length(2)))
        elif kind == _BYTES:
            self.skip(max(0, self.length()))
        elif kind == _ADDRESS:
            self._address()
        else:
            self._endpoints()

    def _array(self, fields: tuple[_Field, ...]) -> None:
        for _ in range(self.length()):
            self.fields(fields)
            if self.is_flexible:
                self.tags()

    def _address(self) -> None:
        start = self.position
        host, port = self.text(), self.number(4)
        if not host or port < 0:
            return  # nobody is there: a coordinator that is not available
        host, port = self.translate(host, port)
        content = host.encode()
        head = _varint(len(content) + 1) if self.is_flexible else len(content).to_bytes(2, "big")
        self._edits.append((start, self.position, head + content + port.to_bytes(4, "big")))

    def _endpoints(self) -> None:
        """Rewrite the brokers in tag 0; the length of the tag changes with them."""
        for _ in range(self.varint()):
            tag, start = self.varint(), self.position
            size = self.varint()
            begin, end = self.position, self.position + size
            if tag == 0:
                before = len(self._edits)
                self._edits.append((start, begin, b""))
                self._array(_ENDPOINT)
                grown = sum(len(new) - (stop - first) for first, stop, new in self._edits[before + 1 :])
                self._edits[before] = (start, begin, _varint(size + grown))
            self.position = begin
            self.skip(end - begin)


def _varint(value: int) -> bytes:
    content = bytearray()
    while value >= 0x80:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)
