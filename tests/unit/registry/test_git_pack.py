from __future__ import annotations

import io
import random

import pytest

from interlock.errors import Refusal
from interlock_registry import errors, git_pack
from interlock_registry.git_pack import Bounds, measure
from tests.unit.registry.packs import BLOB, REF_DELTA, Objects, entry, pack, varint

BOUNDS = Bounds(objects=100, object_bytes=10_000, inflated_bytes=50_000)


def test_an_honest_pack_is_measured_to_its_last_byte() -> None:
    """The number of objects comes back; large and small ones, compressible or not."""
    objects = Objects()
    for size in (0, 1, 15, 16, 5000, 9999):
        objects.add(BLOB, random.Random(size).randbytes(size))
    objects.add(BLOB, bytes(8000))
    assert measure(io.BytesIO(objects.pack()), BOUNDS) == 7


@pytest.mark.parametrize("seed", range(200))
def test_any_broken_pack_is_a_refusal(seed: int) -> None:
    """Cut off, or with bytes changed, a pack never raises anything but a Refusal."""
    luck = random.Random(seed)
    objects = Objects()
    for _ in range(4):
        objects.add(BLOB, luck.randbytes(luck.randrange(300)))
    data = bytearray(objects.pack())
    for _ in range(luck.randrange(1, 6)):
        data[luck.randrange(len(data))] = luck.randrange(256)
    cut = data[: luck.randrange(len(data))] if seed % 2 else data
    try:
        measure(io.BytesIO(bytes(cut)), BOUNDS)
    except Refusal as refused:
        assert refused.code in (errors.PUSH_MALFORMED, errors.PUSH_TOO_LARGE)  # noqa: PT017 - most, not all, are refused


def test_an_object_that_inflates_to_more_than_it_says_is_refused() -> None:
    """A kilobyte that becomes a gigabyte is stopped at the size it promised."""
    bomb = pack([entry(BLOB, bytes(100_000), size=10)])
    with pytest.raises(Refusal, match="longer than it says"):
        measure(io.BytesIO(bomb), BOUNDS)


def test_a_delta_that_would_grow_is_refused_by_the_size_it_names() -> None:
    """The result of a delta counts, not its own few bytes."""
    delta = varint(5) + varint(10_001) + b"\x90\x05"
    with pytest.raises(Refusal, match="10001 bytes") as refused:
        measure(io.BytesIO(pack([entry(REF_DELTA, delta, base=b"1" * 40)])), BOUNDS)
    assert refused.value.code is errors.PUSH_TOO_LARGE


def test_too_many_objects_and_too_many_bytes_in_all_are_refused() -> None:
    """The count is judged before the first object is read, the sum as it grows."""
    with pytest.raises(Refusal, match="100 are accepted"):
        measure(io.BytesIO(pack([], count=101)), BOUNDS)
    objects = Objects()
    for number in range(6):
        objects.add(BLOB, bytes([number]) * 9_000)
    with pytest.raises(Refusal, match="uncompressed"):
        measure(io.BytesIO(objects.pack()), BOUNDS)


def test_a_delta_in_a_pack_that_comes_byte_by_byte_keeps_its_sizes() -> None:
    """The two sizes at a delta's head are found however the data is cut into reads."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    delta = varint(5) + varint(9_000) + b"\x90\x05" * 20
    assert git_pack.measure(Slow(pack([entry(REF_DELTA, delta, base=b"1" * 40)])), BOUNDS) == 1
