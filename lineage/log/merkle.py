"""The Merkle tree of RFC 9162 over the log's lines: roots, proofs and their checks. Pure: no I/O, no clock.

`Tree` makes roots and proofs. The `check_…` functions do not need a tree: a proof and a root suffice. Clauses of
RFC 9162 are named beside the code for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()  # 2.1.1: MTH({}) = HASH()
_sha256 = hashlib.sha256


class ProofError(ValueError):
    """A proof does not lead to the expected root."""


def leaf_hash(entry: bytes) -> bytes:
    """2.1.1: MTH({d[0]}) = HASH(0x00 || d[0]). The prefix separates leaves from nodes."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """2.1.1: MTH(D_n) = HASH(0x01 || MTH(D[0:k]) || MTH(D[k:n]))."""
    return _sha256(b"\x01" + left + right).digest()


class Tree:
    """All hashes of complete subtrees of an append-only list, 64 bytes a leaf.

    Level 0 holds leaf hashes, level h the roots of complete subtrees of 2**h leaves, each in one flat bytearray.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self.extend(leaves)

    def __len__(self) -> int:
        """Leaves in the tree."""
        return len(self._levels[0]) // HASH_BYTES

    def leaf(self, index: int) -> bytes:
        """The hash of leaf `index`, counted from 0."""
        return self._at(0, index)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes, and the nodes that they complete on every level."""
        level = self._levels[0]
        level += b"".join(leaves)
        height = 0
        while len(level) >= 2 * HASH_BYTES:
            if height + 1 == len(self._levels):
                self._levels.append(bytearray())
            above = self._levels[height + 1]
            complete = len(level) // (2 * HASH_BYTES) * 2 * HASH_BYTES
            pairs = range(2 * len(above), complete, 2 * HASH_BYTES)
            if not pairs:
                break
            above += b"".join([_sha256(b"\x01" + level[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
            level, height = above, height + 1

    def truncate(self, size: int) -> None:
        """Remove every leaf from `size` on."""
        for height, level in enumerate(self._levels):
            del level[(size >> height) * HASH_BYTES :]

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves (all of them when None)."""
        size = len(self) if size is None else size
        self._within(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def prove_inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """2.1.3.1 PATH(m, D_n): at most 1 + log2(size) hashes by which leaf `index` leads to the root of `size` leaves.

        Raises:
            IndexError: the leaf is not among the first `size`, or there are fewer than `size`.
        """
        size = len(self) if size is None else size
        self._within(size)
        if not 0 <= index < size:
            raise IndexError(f"there is no leaf {index} among {size}")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low = middle
        return path[::-1]

    def prove_consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """2.1.4.1 PROOF(m, D_n): hashes that prove that the tree of `old` leaves is a prefix of that of `new`.

        Empty if the old tree is empty or both are the same.

        Raises:
            IndexError: `old` is larger than `new`, or there are fewer leaves.
        """
        new = len(self) if new is None else new
        self._within(new)
        if not 0 <= old <= new:
            raise IndexError(f"a tree of {old} leaves is no prefix of one of {new}")
        path: list[bytes] = []
        low, high, complete = 0, new, True
        while old not in (low, high):
            middle = low + _split(high - low)
            if old <= middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low, complete = middle, False
        if old == 0 or old == new:
            return []
        return ([] if complete else [self._range(low, high)]) + path[::-1]

    def _at(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def _within(self, size: int) -> None:
        if not 0 <= size <= len(self):
            raise IndexError(f"the tree holds {len(self)} leaves, not {size}")

    def _range(self, low: int, high: int) -> bytes:
        """The root over leaves low to high-1; `low` is a multiple of a power of two that is at least their number."""
        count = high - low
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            return self._at(height, low >> height)
        middle = low + _split(count)
        return node_hash(self._range(low, middle), self._range(middle, high))


def _split(count: int) -> int:
    """2.1.1: the largest power of two smaller than `count`."""
    return 1 << (count - 1).bit_length() - 1


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """2.1.3.2: check that the tree of `size` leaves with this root holds this leaf hash at `index`.

    Raises:
        ProofError: it is not shown.
    """
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} among {size}")
    first, second, here = index, size - 1, leaf
    for sibling in proof:
        if second == 0:
            raise ProofError("the inclusion proof is longer than the tree is high")
        if first & 1 or first == second:
            here = node_hash(sibling, here)
            while not first & 1 and first:
                first, second = first >> 1, second >> 1
        else:
            here = node_hash(here, sibling)
        first, second = first >> 1, second >> 1
    if second != 0 or here != root:
        raise ProofError(f"leaf {index} is not shown to be in the tree of {size}")


def check_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """2.1.4.2: check that the tree of `old` leaves is a prefix of the tree of `new` leaves.

    Raises:
        ProofError: it is not shown.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {old} leaves is no prefix of one of {new}")
    if old == 0 or old == new:
        if proof or (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            raise ProofError(f"the trees of {old} and {new} leaves do not agree")
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise ProofError("the consistency proof is empty")
    first, second = old - 1, new - 1
    while first & 1:
        first, second = first >> 1, second >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if second == 0:
            raise ProofError("the consistency proof is longer than the tree is high")
        if first & 1 or first == second:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not first & 1 and first:
                first, second = first >> 1, second >> 1
        else:
            after = node_hash(after, sibling)
        first, second = first >> 1, second >> 1
    if second != 0 or before != old_root or after != new_root:
        raise ProofError(f"the tree of {old} leaves is not shown to be a prefix of the tree of {new}")
