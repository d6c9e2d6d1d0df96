"""The tree against RFC 6962's own definition and the known answers of Certificate Transparency."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.core.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    proves_consistency,
    proves_inclusion,
)

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


# Known answers of certificate-transparency's reference tests: leaf (from 0), size, audit path.
INCLUSION = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
KNOWN = [bytes.fromhex(leaf) for leaf in LEAVES]


def roots(leaves: list[bytes], ranges: list[tuple[int, int]]) -> list[bytes]:
    return [defined_root(leaves[start:end]) for start, end in ranges]


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_known_audit_paths(index: int, size: int, path: list[str]) -> None:
    assert [node.hex() for node in roots(KNOWN, inclusion_ranges(index, size))] == path
    leaf, root = leaf_hash(KNOWN[index]), defined_root(KNOWN[:size])
    assert proves_inclusion(leaf, index, size, [bytes.fromhex(node) for node in path], root)


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY)
def test_known_consistency_proofs(first: int, second: int, path: list[str]) -> None:
    assert [node.hex() for node in roots(KNOWN, consistency_ranges(first, second))] == path
    before, after = defined_root(KNOWN[:first]), defined_root(KNOWN[:second])
    assert proves_consistency(first, second, before, after, [bytes.fromhex(node) for node in path])


def defined_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return [*defined_path(index, leaves[:k]), defined_root(leaves[k:])]
    return [*defined_path(index - k, leaves[k:]), defined_root(leaves[:k])]


def defined_proof(first: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2, word for word."""
    if first == len(leaves):
        return [] if whole else [defined_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if first <= k:
        return [*defined_proof(first, leaves[:k], whole=whole), defined_root(leaves[k:])]
    return [*defined_proof(first - k, leaves[k:], whole=False), defined_root(leaves[:k])]


TREES = st.lists(st.binary(max_size=4), min_size=1, max_size=40, unique=True)


@given(TREES, st.data())
def test_audit_paths_are_the_defined_ones_and_prove_this_leaf_here_and_nothing_else(
    leaves: list[bytes], data: st.DataObject
) -> None:
    size, index = len(leaves), data.draw(st.integers(0, len(leaves) - 1))
    path, leaf, root = defined_path(index, leaves), leaf_hash(leaves[index]), defined_root(leaves)
    assert roots(leaves, inclusion_ranges(index, size)) == path
    assert proves_inclusion(leaf, index, size, path, root)
    assert not proves_inclusion(leaf_hash(b"another leaf"), index, size, path, root)
    assert not any(proves_inclusion(leaf, other, size, path, root) for other in range(-1, size + 2) if other != index)
    assert not proves_inclusion(leaf, index, size, [*path, bytes(32)], root)
    assert not proves_inclusion(leaf, index, size, path, bytes(32))
    for at in range(len(path)):
        assert not proves_inclusion(leaf, index, size, path[:at] + path[at + 1 :], root)
        assert not proves_inclusion(leaf, index, size, [*path[:at], bytes(32), *path[at + 1 :]], root)


@given(TREES, st.data())
def test_consistency_proofs_are_the_defined_ones_and_prove_this_growth_and_nothing_else(
    leaves: list[bytes], data: st.DataObject
) -> None:
    second, first = len(leaves), data.draw(st.integers(1, len(leaves)))
    path, before, after = defined_proof(first, leaves), defined_root(leaves[:first]), defined_root(leaves)
    assert roots(leaves, consistency_ranges(first, second)) == path
    assert proves_consistency(first, second, before, after, path)
    assert not proves_consistency(first, second, bytes(32), after, path)
    assert not proves_consistency(first, second, before, bytes(32), path)
    assert not proves_consistency(first, second, before, after, [*path, bytes(32)])
    assert not proves_consistency(0, second, before, after, path)
    assert not proves_consistency(second + 1, second, before, after, path)
    # Too short for a tree of that size.
    assert not proves_consistency(first, 4 * second, before, after, path)
    for at in range(len(path)):
        assert not proves_consistency(first, second, before, after, path[:at] + path[at + 1 :])
        assert not proves_consistency(first, second, before, after, [*path[:at], bytes(32), *path[at + 1 :]])
    # A log whose past was changed: no proof that is made over it fits the root that was kept.
    changed = [b"changed", *leaves[1:]]
    forged = defined_proof(first, changed)
    assert not proves_consistency(first, second, before, defined_root(changed), forged)


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0)])
def test_a_leaf_that_is_not_there_has_no_path(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion_ranges(index, size)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (2, 1), (-1, 1)])
def test_a_tree_that_did_not_grow_continues_nothing(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="continues none"):
        consistency_ranges(first, second)
