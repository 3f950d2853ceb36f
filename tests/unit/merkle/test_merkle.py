"""The tree against RFC 6962: known answers, an independent reading of the text, and pymerkle."""

from __future__ import annotations

import random
from hashlib import sha256

import pymerkle  # type: ignore[import-untyped]  # it ships no annotations
import pytest

from interlock import merkle

# The vectors of the Certificate Transparency project (merkletree_test), also used by its other implementations.
INPUTS = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
PATHS = {
    (0, 1): (),
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
}
ENTRIES = [str(number).encode() for number in range(700)]
LEAVES = [merkle.leaf_hash(each) for each in ENTRIES]


def mth(entries: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word by word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1, word by word."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: list[bytes], *, whole: bool) -> list[bytes]:
    """RFC 6962, 2.1.2, word by word."""
    if m == len(entries):
        return [] if whole else [mth(entries)]
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m <= k:
        return [*subproof(m, entries[:k], whole=whole), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], whole=False), mth(entries[:k])]


def test_the_vectors_of_certificate_transparency_hold() -> None:
    """Roots of the first to the eighth size, and the paths that are published with them."""
    leaves = [merkle.leaf_hash(bytes.fromhex(each)) for each in INPUTS]
    for size, expected in enumerate(ROOTS, start=1):
        assert merkle.root(leaves[:size]).hex() == expected
    for (index, size), expected_path in PATHS.items():
        assert tuple(each.hex() for each in merkle.inclusion_path(leaves[:size], index)) == expected_path
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_six_hundred_roots_agree_with_pymerkle() -> None:
    """Another implementation of the same tree, size by size, as both grow."""
    theirs, ours = pymerkle.InmemoryTree(algorithm="sha256"), merkle.Tree()
    for size, entry in enumerate(ENTRIES[:600], start=1):
        theirs.append_entry(entry)
        ours.append(merkle.leaf_hash(entry))
        assert ours.root() == theirs.get_root() == merkle.root(LEAVES[:size])


def test_inclusion_agrees_with_the_rfc_at_every_size_and_place() -> None:
    """Each path is the one that the RFC's recursion gives, whatever the tree has grown to since; each verifies."""
    tree = merkle.Tree(LEAVES)
    for size in (*range(1, 70), 127, 128, 129, 255, 256, 257, 511, 512, 600, 700):
        root = tree.root(size)
        assert root == mth(ENTRIES[:size])
        for index in range(0, size, 1 if size < 70 else 13):
            found = tree.inclusion_path(index, size)
            assert found == path(index, ENTRIES[:size]) == merkle.inclusion_path(LEAVES[:size], index)
            assert merkle.verify_inclusion(LEAVES[index], index, size, found, root)


def test_consistency_agrees_with_the_rfc_for_all_pairs() -> None:
    """Each pair of sizes up to 80, and some beyond: the RFC's proof, and it verifies."""
    tree = merkle.Tree(LEAVES)
    pairs = [(old, new) for new in range(1, 81) for old in range(1, new + 1)]
    pairs += [(random.Random(new).randrange(1, new), new) for new in range(100, 700, 17)]
    for old, new in pairs:
        found = tree.consistency_path(old, new)
        assert found == subproof(old, ENTRIES[:new], whole=True)
        assert merkle.verify_consistency(old, tree.root(old), new, tree.root(new), found)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 33, 64, 100])
def test_no_altered_proof_verifies(size: int) -> None:
    """Another leaf, index, size, root, or path, shorter or longer, flipped or in another order: all are refused."""
    tree, root = merkle.Tree(LEAVES[:size]), merkle.root(LEAVES[:size])
    for index in range(size):
        good = tree.inclusion_path(index)
        wrong = [
            good[:-1],
            [*good, root],
            [root, *good],
            *([*good[:at], root, *good[at + 1 :]] for at in range(len(good))),
        ]
        wrong += [good[::-1]] if good != good[::-1] else []
        for each in wrong:
            if each != good:
                assert not merkle.verify_inclusion(LEAVES[index], index, size, each, root)
        assert not merkle.verify_inclusion(LEAVES[index + 1], index, size, good, root)
        assert not merkle.verify_inclusion(LEAVES[index], size, size, good, root)
        assert not merkle.verify_inclusion(LEAVES[index], index, size, good, LEAVES[0] if size > 1 else bytes(32))
    for old in range(1, size):
        good, first = tree.consistency_path(old), tree.root(old)
        assert not merkle.verify_consistency(old, first, size, root, [*good, root])
        assert not merkle.verify_consistency(old, first, size, root, good[:-1])
        assert not merkle.verify_consistency(old, root, size, root, good)
        assert not merkle.verify_consistency(old, first, size, first, good)
        assert not merkle.verify_consistency(size, root, old, first, good)


def test_a_tree_grows_alike_by_one_or_by_many() -> None:
    """Leaves one by one, all at once, in odd portions, or cut off and grown again: the same tree."""
    chance = random.Random(1)
    for _ in range(40):
        tree, size = merkle.Tree(), 0
        while size < 300:
            more = min(300 - size, chance.randrange(1, 70))
            if more == 1:
                tree.append(LEAVES[size])
            else:
                tree.extend_with(b"".join(LEAVES[size : size + more]))
            size += more
            assert tree.root() == merkle.root(LEAVES[:size])
            if chance.random() < 0.2:
                size = chance.randrange(size)
                tree.truncate(size)
                assert tree.root() == merkle.root(LEAVES[:size])
        assert tree.leaves(10, 20) == b"".join(LEAVES[10:20])
    with pytest.raises(ValueError, match="32 bytes"):
        tree.append(b"short")
    with pytest.raises(IndexError):
        tree.root(301)


def test_a_subtree_whose_nodes_are_known_is_taken_as_it_is() -> None:
    """Grafted in between leaves that came otherwise: the same tree; what is no subtree, or does not fit, is refused."""
    grown, grafted = merkle.Tree(LEAVES[:300]), merkle.Tree()
    for first, behind in ((0, 64), (64, 128), (128, 256)):
        hashes = b"".join(LEAVES[first:behind])
        part = merkle.Tree(LEAVES[first:behind])
        grafted.graft(hashes, b"".join(part.levels()[1:]))
        assert grafted.root() == merkle.root(LEAVES[:behind])
    grafted.extend(LEAVES[256:300])
    assert grafted.levels() == grown.levels()
    for first, behind in ((0, 64), (300, 303)):
        with pytest.raises(ValueError, match="no subtree"):
            grafted.graft(b"".join(LEAVES[first:behind]), bytes(32 * (behind - first - 1)))
