from __future__ import annotations

import random
from hashlib import sha256

import pytest

from guiju.evidence import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from guiju.evidence.tree import EMPTY_ROOT, Frontier, node_hash

LEAVES = [leaf_hash(f"entry {number}".encode()) for number in range(257)]
ROOTS = [root_of(LEAVES[:size]) for size in range(258)]


def test_roots_are_the_published_ones():
    """The tree of eight inputs that implementations of RFC 6962 share (transparency-dev/merkle, testonly)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    published = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    leaves = [leaf_hash(bytes.fromhex(data)) for data in inputs]
    assert [root_of(leaves[:size]).hex() for size in range(9)] == published


def test_a_published_proof_is_made_and_taken():
    """Inclusion of leaf 5 of 8, and consistency of 6 with 8, from transparency-dev/merkle."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf_hash(bytes.fromhex(data)) for data in inputs]
    assert [step.hex() for step in inclusion_proof(leaves, 5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [step.hex() for step in consistency_proof(leaves, 6)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, to the letter."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = max(2**power for power in range(9) if 2**power < len(leaves))
    return sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


def test_the_growing_tree_has_the_root_of_the_definition_at_every_size(standalone):
    frontier = Frontier()
    for size in range(258):
        assert frontier.root() == by_definition(LEAVES[:size])
        assert len(frontier.subtrees) == bin(size).count("1")
        if size:
            assert standalone.root_of(LEAVES[:size]) == frontier.root()
        if size < 257:
            frontier.push(LEAVES[size])


def test_every_proof_of_every_size_is_taken():
    for size in range(1, 258):
        leaves, root = LEAVES[:size], ROOTS[size]
        for index in {0, size // 3, size // 2, size - 2, size - 1} | ({*range(size)} if size < 40 else set()):
            if index >= 0:
                assert verify_inclusion(leaves[index], index, size, inclusion_proof(leaves, index), root)
        for old in {1, size // 3, size // 2, size - 1, size} | ({*range(1, size)} if size < 40 else set()):
            if old > 0:
                assert verify_consistency(old, size, ROOTS[old], root, consistency_proof(leaves, old))


def changed(proof: list[bytes], draw: random.Random) -> list[bytes]:
    """The same proof with one thing different."""
    other = list(proof)
    match draw.choice(["bit", "drop", "add", "swap", "double"]) if proof else "add":
        case "bit":
            place, bit = draw.randrange(len(proof)), draw.randrange(256)
            other[place] = (int.from_bytes(proof[place], "big") ^ 1 << bit).to_bytes(32, "big")
        case "drop":
            del other[draw.randrange(len(proof))]
        case "add":
            other.insert(draw.randrange(len(proof) + 1), draw.choice([draw.randbytes(32), EMPTY_ROOT, bytes(32)]))
        case "swap":
            draw.shuffle(other)
        case "double":
            other.insert(draw.randrange(len(proof)), draw.choice(proof))
    return other


def check_mutated_proofs(count: int, seed: int) -> None:
    draw = random.Random(seed)
    refused = 0
    while refused < count:
        size = draw.randint(2, 257)
        index, old = draw.randrange(size), draw.randint(1, size)
        included, consistent = inclusion_proof(LEAVES[:size], index), consistency_proof(LEAVES[:size], old)
        for _ in range(20):
            other = changed(included, draw)
            if other != included:
                assert not verify_inclusion(LEAVES[index], index, size, other, ROOTS[size])
                refused += 1
            other = changed(consistent, draw)
            if other != consistent:
                assert not verify_consistency(old, size, ROOTS[old], ROOTS[size], other)
                refused += 1
        for wrong in {draw.randrange(size), index + 1, index - 1, size, -1} - {index}:
            assert not verify_inclusion(LEAVES[index], wrong, size, included, ROOTS[size])
        assert not verify_inclusion(LEAVES[index - 1], index, size, included, ROOTS[size])
        assert not verify_inclusion(LEAVES[index], index, size, included, ROOTS[size - 1])
        for wrong in {old - 1, old + 1} - {old}:
            if 0 < wrong < size:
                assert not verify_consistency(wrong, size, ROOTS[old], ROOTS[size], consistent)
        if old < size:
            assert not verify_consistency(old, size, draw.randbytes(32), ROOTS[size], consistent)
            assert not verify_consistency(old, size, ROOTS[old], draw.randbytes(32), consistent)


def test_proofs_with_anything_changed_are_refused():
    check_mutated_proofs(5_000, seed=0)


@pytest.mark.soak
def test_soak_100_000_changed_proofs_are_refused():
    check_mutated_proofs(100_000, seed=1)


def test_an_inner_node_cannot_pass_for_an_entry():
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)
    # The classic second preimage: the tree of two, presented as one leaf.
    assert not verify_inclusion(leaf_hash(left + right), 0, 1, [], root_of([left, right]))


@pytest.mark.parametrize(
    ("old", "size"), [(0, 5), (-1, 5), (6, 5)]
)  # an empty tree is the beginning of every other, so a proof of that would say nothing
def test_no_proof_is_taken_from_a_tree_that_cannot_be_older(old, size):
    assert not verify_consistency(old, size, EMPTY_ROOT, ROOTS[size], [])


def test_trees_of_one_size_are_consistent_only_if_equal():
    assert verify_consistency(5, 5, ROOTS[5], ROOTS[5], [])
    assert not verify_consistency(5, 5, ROOTS[4], ROOTS[5], [])
    assert not verify_consistency(5, 5, ROOTS[5], ROOTS[5], [ROOTS[5]])


def test_proofs_with_steps_of_another_length_are_refused():
    proof = inclusion_proof(LEAVES[:8], 3)
    assert not verify_inclusion(LEAVES[3], 3, 8, [proof[0][:-1], *proof[1:]], ROOTS[8])
    assert not verify_inclusion(LEAVES[3][:-1], 3, 8, proof, ROOTS[8])
