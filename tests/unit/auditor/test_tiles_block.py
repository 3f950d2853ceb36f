"""Blocks: rows that the database joined, hashed side by side, are the same leaves as entries hashed one by one."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import msgspec

from interlock_auditor.entry import Entry, leaves
from interlock_auditor.tiles import TILE_ENTRIES
from interlock_auditor.tiles_block import BLOCK_ENTRIES, Block
from tests.unit.auditor.forgeries import made_entry


def sent(entries: Sequence[Entry]) -> list[bytes]:
    """Return rows as `store_blocks` has the database join them."""

    def text(name: str) -> bytes:
        return "\x1f".join(getattr(each, name) for each in entries).encode()

    def numbers(name: str, kind: str) -> bytes:
        return b"".join(struct.pack(f">{kind}", getattr(each, name)) for each in entries)

    return [
        numbers("seq", "q"),
        text("topic"),
        numbers("partition", "i"),
        numbers("offset", "q"),
        *(text(name) for name in ("event_id", "action", "source", "actor", "subject")),
        numbers("time", "q"),
        text("schema_digest"),
        b"".join(struct.pack(">i", len(each.payload)) for each in entries),
        b"".join(each.payload for each in entries),
    ]


def test_a_block_hashes_what_entries_hash() -> None:
    """Rows alike and rows of all lengths, numbers of every length and sign, texts empty, long and beyond ASCII."""
    chance = random.Random(3)

    def odd(seq: int) -> Entry:
        number = chance.choice((0, 1, -1, 63, 64, 8191, 8192, 2**20, -(2**40), 2**62))
        letters = chance.choice(("", "a", "é", "x" * 63, "x" * 64, "ü" * 5000))
        return Entry(
            seq,
            letters,
            chance.randrange(-3, 2**31),
            number,
            letters,
            "A",
            "",
            letters[::-1],
            "",
            number,
            "",
            b"p" * seq,
        )

    entries = [odd(seq) if seq % 7 == 0 else made_entry(seq) for seq in range(BLOCK_ENTRIES - 100)]
    block = Block.of(sent(entries))
    assert block is not None
    assert block.leaves == b"".join(leaves(entries))
    tiles = list(block.tiles())
    assert [(tile.first, len(tile), tile.whole) for tile in tiles] == [
        (0, 256, True), (256, 256, True), (512, 256, True), (768, 156, False),
    ]  # fmt: skip
    assert b"".join(tile.leaves for tile in tiles) == block.leaves
    assert tiles[1].columns[8][9] == entries[265].subject.encode()
    assert tiles[1].hashes[9] == entries[265].leaf
    assert tiles[1].renumbered(9, 7) == msgspec.structs.replace(entries[265], seq=7).leaf


def test_rows_with_numbers_twice_or_missing_come_in_the_tiles_of_their_numbers() -> None:
    """A tile has the rows that bear its numbers, whatever lies beside them."""
    entries = [made_entry(seq) for seq in (3, 3, 255, 256, 700, 701)]
    block = Block.of(sent(entries))
    assert block is not None
    assert [(tile.first, list(tile.numbers)) for tile in block.tiles()] == [
        (0, [3, 3, 255]),
        (TILE_ENTRIES, [256]),
        (2 * TILE_ENTRIES, [700, 701]),
    ]


def test_columns_that_do_not_fit_each_other_are_no_block() -> None:
    """A separator inside a text, and a value that was not sent: the rows are to be fetched one by one."""
    entries = [made_entry(seq) for seq in range(20)]
    columns = sent(entries)
    columns[7] += b"\x1fmallory"
    assert Block.of(columns) is None
    columns = sent(entries)
    columns[2] = columns[2][4:]
    assert Block.of(columns) is None
