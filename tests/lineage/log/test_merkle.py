"""The Merkle tree of RFC 9162: published roots, proofs that must hold and proofs that must not."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.log.merkle import EMPTY_ROOT, ProofError, Tree, check_consistency, check_inclusion, leaf_hash, node_hash

#: Inputs and roots of the test vectors of Certificate Transparency's reference implementation.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_of(size: int, salt: int = 0) -> Tree:
    return Tree(leaf_hash(b"%d %d" % (salt, number)) for number in range(size))


def plain_root(leaves: list[bytes]) -> bytes:
    """2.1.1 word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(plain_root(leaves[:split]), plain_root(leaves[split:]))


def test_roots_are_those_of_certificate_transparency() -> None:
    tree = Tree()
    for leaf, root in zip(CT_LEAVES, CT_ROOTS, strict=True):
        tree.append(leaf_hash(bytes.fromhex(leaf)))
        assert tree.root().hex() == root
    assert [tree.root(size).hex() for size in range(1, 9)] == CT_ROOTS
    assert tree.root(0) == EMPTY_ROOT


@settings(max_examples=60)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.data())
def test_any_growth_gives_the_same_roots_and_proofs(groups: list[int], data: st.DataObject) -> None:
    leaves, tree = [], Tree()
    for group in groups:
        more = [leaf_hash(b"%d" % number) for number in range(len(leaves), len(leaves) + group)]
        leaves += more
        tree.extend(more)
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    root = plain_root(leaves[:size])
    assert tree.root(size) == root
    proof = tree.prove_inclusion(index, size)
    assert len(proof) <= 1 + size.bit_length()
    check_inclusion(leaves[index], index, size, proof, root)
    check_consistency(old, size, plain_root(leaves[:old]), root, tree.prove_consistency(old, size))
    tree.truncate(old)
    assert (len(tree), tree.root()) == (old, plain_root(leaves[:old]))


def test_an_inclusion_proof_holds_for_its_leaf_at_its_place_only() -> None:
    tree = tree_of(23)
    for size in range(1, 24):
        root = tree.root(size)
        for index in range(size):
            proof = tree.prove_inclusion(index, size)
            for other in range(24):
                if other != index:
                    with pytest.raises(ProofError):
                        check_inclusion(tree.leaf(index), other, size, proof, root)
            wrong = [proof[:-1], [*proof, bytes(32)], [bytes(32), *proof], [bytes(32), *proof[1:]]]
            for bad in wrong if proof else wrong[1:3]:
                with pytest.raises(ProofError):
                    check_inclusion(tree.leaf(index), index, size, bad, root)
            with pytest.raises(ProofError):
                check_inclusion(leaf_hash(b"another"), index, size, proof, root)


def test_a_consistency_proof_holds_for_its_two_trees_only() -> None:
    tree, other = tree_of(20), tree_of(20, salt=1)
    for new in range(21):
        for old in range(new + 1):
            proof = tree.prove_consistency(old, new)
            check_consistency(old, new, tree.root(old), tree.root(new), proof)
            with pytest.raises(ProofError):
                check_consistency(old, new, tree.root(old), tree.root(new), [*proof, bytes(32)])
            for position in range(len(proof)):
                bad = [*proof[:position], bytes(32), *proof[position + 1 :]]
                with pytest.raises(ProofError):
                    check_consistency(old, new, tree.root(old), tree.root(new), bad)
            if old:
                with pytest.raises(ProofError):
                    check_consistency(old, new, other.root(old), tree.root(new), proof)
                with pytest.raises(ProofError):
                    check_consistency(
                        old, new, other.root(old), other.root(new), tree.prove_consistency(old, new)[:-1] or [b""]
                    )


@pytest.mark.parametrize(("old", "new"), [(3, 2), (-1, 2), (0, 21), (21, 21)])
def test_a_prefix_that_is_none_cannot_be_proved(old: int, new: int) -> None:
    with pytest.raises(IndexError):
        tree_of(20).prove_consistency(old, new)
    with pytest.raises(ProofError):
        check_consistency(max(old, new) + 1, new, bytes(32), bytes(32), [])


@pytest.mark.parametrize(("index", "size"), [(20, 20), (-1, 20), (3, 3), (0, 21), (0, 0)])
def test_a_leaf_that_is_not_there_cannot_be_proved(index: int, size: int) -> None:
    with pytest.raises(IndexError):
        tree_of(20).prove_inclusion(index, size)


def test_a_million_leaves_take_at_most_twenty_hashes() -> None:
    tree = Tree(number.to_bytes(32, "big") for number in range(1_000_000))
    root = tree.root()
    for index in (0, 1, 524_287, 524_288, 999_999):
        proof = tree.prove_inclusion(index)
        assert len(proof) <= 20
        check_inclusion(index.to_bytes(32, "big"), index, 1_000_000, proof, root)
