"""A fetched batch whose bytes were changed is seen, whichever byte it is."""

from __future__ import annotations

from interlock.kafka.checksums import sound
from interlock.kafka.prepared import prepared

AT = 1_700_000_000_123


def fetched() -> bytes:
    """Return three batches, and the beginning of a fourth."""
    batches = []
    for number in range(4):
        [batch] = prepared([(b"key", bytes(range(50)), [])] * (number + 1), AT, 2**20)
        batch._set_producer_state(1, 2, 3)
        batches.append(bytes(batch._build()))
    return b"".join(batches[:3]) + batches[3][:40]


def test_what_came_as_it_was_sent_is_sound() -> None:
    """Whole batches, and one that the broker has cut off; nothing at all, too."""
    assert sound(fetched())
    assert sound(b"") and sound(fetched()[:7])


def test_a_changed_byte_is_seen() -> None:
    """In the checksum, in what it covers, or in the format: each byte of the first batch, but for what may change.

    The broker writes the offset and the epoch of the leader, which the checksum leaves out; a changed length makes
    other bytes of the batch.
    """
    good = fetched()
    first = 12 + int.from_bytes(good[8:12])
    for place in [*range(16, first)]:
        changed = bytearray(good)
        changed[place] ^= 0x10
        assert not sound(bytes(changed)), place
