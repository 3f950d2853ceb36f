"""Verification against forgeries: every one is seen, and exactly the rows that were touched are named."""

from __future__ import annotations

import pytest

from interlock_auditor.checkpoint import Checkpoint
from interlock_auditor.entry import Entry, encode, leaves
from interlock_auditor.tiles import Tile
from interlock_auditor.verify import CHANGED, FORKED, WITNESS_DAMAGED, heads
from tests.unit.auditor.forgeries import Forger, made_entry, made_tiles, named

ENTRIES = 20_000
FORGERIES = 500


@pytest.fixture(scope="module")
def forger() -> Forger:
    """A log of 20,000 entries, all witnessed, and who forges it."""
    return Forger(made_tiles(ENTRIES), seed=20)


def test_a_log_that_nobody_touched_has_no_findings(forger: Forger) -> None:
    """What was written is what is found."""
    assert forger.findings(forger.tiles) == []
    assert heads(forger.head, forger.head, forger.tree) == []


def test_five_hundred_forgeries_are_all_seen_and_located(forger: Forger) -> None:
    """Flips, deletions, swaps, insertions, truncations, rewritten suffixes: each row is named, and no other."""
    for number in range(FORGERIES):
        kind = forger.kinds[number % len(forger.kinds)]
        tiles, expected = kind()
        found = named(forger.findings(tiles))
        assert found == expected, (kind.__name__, number, sorted(found ^ expected)[:10])


def test_old_heads_and_other_histories_are_seen(forger: Forger) -> None:
    """A head that was true once is told with the entries that it hides; one of another history as such."""
    for _ in range(50):
        found, expected = forger.old_head()
        assert expected <= named(found)
    other = Checkpoint("log", ENTRIES, bytes(32), "")
    assert [each.what for each in heads(other, forger.head, forger.tree)] == [FORKED]
    damaged = Checkpoint("log", ENTRIES, bytes(32), "")
    assert WITNESS_DAMAGED in {each.what for each in heads(forger.head, damaged, forger.tree)}


def test_a_finding_says_which_record_the_row_claims_to_be(forger: Forger) -> None:
    """The coordinates stand in the finding, as the row has them now."""
    tiles = list(forger.tiles)
    columns = [list(each) for each in tiles[3].columns]
    columns[7][5] = b"mallory"
    tiles[3] = Tile(tiles[3].first, columns)
    [found] = forger.findings(tiles)
    entry = made_entry(3 * 256 + 5)
    assert (found.what, found.first, found.last, found.place) == (CHANGED, entry.seq, entry.seq, entry.place)


def test_rows_behind_the_witness_are_left_to_later(forger: Forger) -> None:
    """Entries that the witness has not signed yet are no finding."""
    fewer = Forger(made_tiles(1000))
    assert fewer.findings(made_tiles(1300)) == []


def test_tiles_hash_the_same_bytes_as_entries() -> None:
    """The fast way and the plain way agree, on numbers of every length and texts beyond any bound."""
    entries = [
        Entry(seq, "t" * letters, 3, offset, "é" * letters, "A", "", "x" * 70, "", time, "sha256:" + "0" * 64, b"p" * 9)
        for seq, letters, offset, time in zip(
            (0, 63, 64, 8191, 8192, 2**20, 2**31, 2**40),
            (0, 31, 32, 63, 64, 2000, 4096, 9000),
            (0, 1, 2**14, 2**21, 2**28, 2**35, 2**62, 5),
            (-1, -(2**40), 2**13, 2**13 - 1, 1_790_000_000_000, 0, 2**62, 7),
            strict=True,
        )
    ]
    assert Tile.of(0, entries).hashes == leaves(entries)
    assert len({*encode(entries)}) == len(entries)
