"""The Merkle tree of RFC 6962: roots, inclusion proofs and consistency proofs over SHA-256.

RFC 9162 section 2.1 restates it with the checking algorithms used here. A leaf is SHA-256(0x00 ‖ entry), a node
SHA-256(0x01 ‖ left ‖ right); a tree of n leaves splits at the largest power of two below n. Hashes are 32 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
_PAIR_BYTES = 2 * HASH_BYTES
_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry as a leaf."""
    return sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two children."""
    return sha256(_NODE + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes in their order; of none, SHA-256 of nothing."""
    return root_of(b"".join(leaf_hashes))


def root_of(hashes: bytes | bytearray | memoryview) -> bytes:
    """Return the root over leaf hashes that lie one behind the other, 32 bytes each."""
    if not hashes:
        return EMPTY_ROOT
    level = bytes(hashes)
    while len(level) > HASH_BYTES:
        odd = level[len(level) // _PAIR_BYTES * _PAIR_BYTES :]
        level = _parents(level) + odd  # a node without a neighbour rises as it is
    return level


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the neighbours from leaf `index` up to the root; raises IndexError for a leaf that is not there."""
    return Tree(leaf_hashes).inclusion_path(index)


def consistency_path(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return what proves that the first `old_size` leaves are the old tree; raises IndexError for a larger old tree."""
    return Tree(leaf_hashes).consistency_path(old_size)


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Say whether `path` proves that the tree of `size` leaves has leaf hash `leaf` at `index` (RFC 9162, 2.1.3)."""
    if not 0 <= index < size:
        return False
    number, last, found = index, size - 1, leaf
    for each in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            found = node_hash(each, found)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, each)
        number, last = number >> 1, last >> 1
    return last == 0 and found == expected_root


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Say whether `path` proves that the new tree begins with the old one (RFC 9162, 2.1.4).

    Every tree begins with the empty one: for `old_size` 0 the path is empty and the old root that of nothing.
    """
    if not 0 <= old_size <= new_size:
        return False
    if old_size in {0, new_size}:
        return not path and old_root == (new_root if old_size else EMPTY_ROOT)
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    number, last = old_size - 1, new_size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = steps[0]
    for each in steps[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            old, new = node_hash(each, old), node_hash(each, new)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, each)
        number, last = number >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


class Tree:
    """A growing tree that keeps the node over every perfect subtree: 64 bytes a leaf, any proof at any size at once."""

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self.extend(leaf_hashes)

    @property
    def size(self) -> int:
        """Return how many leaves there are."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash; raises ValueError where it is not 32 bytes."""
        if len(leaf) != HASH_BYTES:
            raise ValueError(f"a hash has {HASH_BYTES} bytes, not {len(leaf)}")
        self._levels[0] += leaf
        height, count = 0, self.size
        while count & 1 == 0:
            if height + 1 == len(self._levels):
                self._levels.append(bytearray())
            self._levels[height + 1] += _parents(self._levels[height][-_PAIR_BYTES:])
            height, count = height + 1, count >> 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add many leaf hashes; raises ValueError where one is not 32 bytes."""
        added = list(leaf_hashes)
        if any(len(each) != HASH_BYTES for each in added):
            raise ValueError(f"a hash has {HASH_BYTES} bytes")
        self.extend_with(b"".join(added))

    def extend_with(self, hashes: bytes | bytearray | memoryview) -> None:
        """Add leaf hashes that lie one behind the other; raises ValueError where they are no multiple of 32 bytes."""
        if len(hashes) % HASH_BYTES:
            raise ValueError(f"{len(hashes)} bytes are no row of hashes of {HASH_BYTES} bytes")
        self._levels[0] += hashes
        self._rise(0)

    def _rise(self, height: int) -> None:
        """Make the nodes above a level that are not there yet."""
        while len(self._levels[height]) >= _PAIR_BYTES:
            if height + 1 == len(self._levels):
                self._levels.append(bytearray())
            below, above = self._levels[height], self._levels[height + 1]
            above += _parents(bytes(memoryview(below)[2 * len(above) :]))
            height += 1

    def graft(self, hashes: bytes, nodes: bytes) -> None:
        """Add the leaf hashes of a perfect subtree whose nodes are known: from the leaves' parents up to its root.

        Raises ValueError where the subtree does not fit behind the leaves that are there.
        """
        count = len(hashes) // HASH_BYTES
        if not count or count & (count - 1) or self.size % count or len(nodes) != (count - 1) * HASH_BYTES:
            raise ValueError(f"{count} leaves and {len(nodes)} bytes of nodes are no subtree behind {self.size} leaves")
        at, height = 0, 0
        self._levels[0] += hashes
        while (count := count >> 1) > 0:
            height += 1
            if height == len(self._levels):
                self._levels.append(bytearray())
            self._levels[height] += nodes[at : at + count * HASH_BYTES]
            at += count * HASH_BYTES
        self._rise(height)

    def levels(self) -> list[bytes]:
        """Return the nodes over every perfect subtree, level by level from the leaves up."""
        return [bytes(each) for each in self._levels]

    def truncate(self, size: int) -> None:
        """Drop the leaves behind the first `size`; raises IndexError for more than there are."""
        kept = self._size(size)
        for height, level in enumerate(self._levels):
            del level[(kept >> height) * HASH_BYTES :]

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash at `index`; raises IndexError."""
        if not 0 <= index < self.size:
            raise IndexError(f"there is no leaf {index} among {self.size}")
        return self._node(0, index)

    def leaves(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the leaf hashes from `start` up to `stop`, one behind the other."""
        end = None if stop is None else stop * HASH_BYTES
        return bytes(memoryview(self._levels[0])[start * HASH_BYTES : end])

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves (all by default); raises IndexError for more than there are."""
        wanted = self._size(size)
        return self._range(0, wanted) if wanted else EMPTY_ROOT

    def inclusion_path(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the neighbours from leaf `index` to the root over `size` leaves (RFC 6962, 2.1.1); raises IndexError.

        At most as many hashes as `size` has binary digits.
        """
        end = self._size(size)
        if not 0 <= index < end:
            raise IndexError(f"there is no leaf {index} among {end}")
        path, start = [], 0
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        path.reverse()
        return path

    def consistency_path(self, old_size: int, size: int | None = None) -> list[bytes]:
        """Return what proves that the tree of `size` begins with that of `old_size` (RFC 6962, 2.1.2).

        Empty for the empty tree and for the same size. Raises IndexError where `old_size` is the larger.
        """
        end = self._size(size)
        if not 0 <= old_size <= end:
            raise IndexError(f"there is no tree of {old_size} leaves within {end}")
        if old_size in {0, end}:
            return []
        path, start, whole = [], 0, True
        while old_size != end:
            middle = start + _split(end - start)
            if old_size <= middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._range(start, end))
        path.reverse()
        return path

    def _size(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise IndexError(f"there is no tree of {size} leaves within {self.size}")
        return size

    def _node(self, height: int, number: int) -> bytes:
        """Return the node over the perfect subtree `number` of a height."""
        return bytes(self._levels[height][number * HASH_BYTES : (number + 1) * HASH_BYTES])

    def _range(self, start: int, end: int) -> bytes:
        """Return the node over leaves that are a subtree: perfect ones from right to left, each taken under the next.

        `start` is a multiple of the smallest power of two that is not below `end - start`, as in every split.
        """
        count, found = end - start, b""
        while count:
            height = (count & -count).bit_length() - 1
            count &= count - 1
            node = self._node(height, (start + count) >> height)
            found = node_hash(node, found) if found else node
        return found


def _split(count: int) -> int:
    """Return the largest power of two below `count` (which is 2 or more)."""
    return 1 << ((count - 1).bit_length() - 1)


def _parents(hashes: bytes | bytearray) -> bytes:
    """Return the nodes over pairs of hashes that lie one behind the other; an odd one at the end is left out."""
    hashes, hashed = bytes(hashes), sha256
    end = len(hashes) // _PAIR_BYTES * _PAIR_BYTES
    return b"".join([hashed(_NODE + hashes[at : at + _PAIR_BYTES]).digest() for at in range(0, end, _PAIR_BYTES)])
