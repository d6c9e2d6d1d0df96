"""The tree against RFC 6962's own definition and the known answers of Certificate Transparency."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.core.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash

# The leaves and roots of certificate-transparency's reference tests.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOT_OF_EIGHT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(defined_root(leaves[:k]), defined_root(leaves[k:]))


def grown(leaves: list[bytes]) -> Frontier:
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    return tree


def test_the_known_tree() -> None:
    assert grown([bytes.fromhex(leaf) for leaf in LEAVES]).root().hex() == ROOT_OF_EIGHT
    assert Frontier().root() == EMPTY_ROOT


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_tree_is_the_defined_one(leaves: list[bytes]) -> None:
    tree = grown(leaves)
    assert tree.root() == defined_root(leaves)
    assert Frontier.from_bytes(tree.count, tree.to_bytes()).root() == tree.root()


def test_a_frontier_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="2 complete subtrees"):
        Frontier(5, [bytes(32)])
