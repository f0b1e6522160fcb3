"""The tree of a blob: the ids are those of other implementations, and a tree accepts nothing but its own blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from fluvial.blob_id import BlobId
from fluvial.blobs.layout import CHUNK_BYTES, LINKS_MAX, NODE_BYTES_MAX, SIZE_MAX, Layout
from fluvial.blobs.tree import BlobTree, ChunkHasher, digest_of, root_layout
from fluvial.errors import RemoteProtocolError, ResourceLimit
from hypothesis import given
from hypothesis import strategies as st

from tests.core.blobs.contents import pattern, tree_of

VECTORS: Final = json.loads((Path(__file__).parent / "vectors.json").read_text())
SIZES: Final = st.one_of(
    st.integers(0, 4 * CHUNK_BYTES),
    st.integers(0, 3 * LINKS_MAX**2).map(lambda chunks: chunks * CHUNK_BYTES),
    st.integers(0, 20 * LINKS_MAX**2 * CHUNK_BYTES),
)


# --- ids


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda one: f"{one['content']}-{one['size']}")
def test_ids_are_those_of_other_implementations(vector: dict[str, Any]) -> None:
    size = vector["size"]
    content = bytes(size) if vector["content"] == "zeros" else pattern(size)
    assert tree_of(content).blob == vector["id"]


@pytest.mark.parametrize(
    ("text", "blob"),
    [
        (b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (b"hello\n", "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"),  # kubo, test/sharness/t0114
        (b"hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
    ],
)
def test_published_ids_of_short_texts(text: bytes, blob: str) -> None:
    assert tree_of(text).blob == blob


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bafy",
        "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o",  # version 0
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5f",  # bits behind the end
        "BAFKREIFZJUT3TE7NHYEKKLSS27NH3K72YSCO7Y32KOAO5EEI66WOF36N5E",
        "bafyreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",  # dag-cbor
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5\n",
        "b" + "1" * 58,
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no blob's id"):
        BlobId.parse(text)


@given(st.binary(min_size=32, max_size=32))
def test_ids_spell_their_digests(digest: bytes) -> None:
    leaf, node = BlobId.of_leaf(digest), BlobId.of_node(digest)
    assert (leaf.digest, node.digest) == (digest, digest)
    assert (leaf.is_leaf, node.is_leaf) == (True, False)
    assert BlobId.parse(str(leaf)) == leaf
    assert BlobId.parse(str(node)) == node


@given(st.lists(st.integers(1, CHUNK_BYTES), max_size=6))
def test_the_id_does_not_depend_on_how_the_content_comes(pieces: list[int]) -> None:
    content = pattern(sum(pieces))
    hasher = ChunkHasher()
    at = 0
    for length in pieces:
        hasher.update(content[at : at + length])
        at += length
    assert hasher.tree().blob == tree_of(content).blob


# --- shapes


@given(SIZES)
def test_a_layout_numbers_every_block_once(size: int) -> None:
    layout = Layout(size)
    assert sum(layout.width(depth) for depth in range(layout.depth + 1)) == layout.nodes + layout.chunks
    assert layout.width(layout.depth) == 1
    sample = {0, layout.nodes // 2, layout.nodes, layout.nodes + layout.chunks // 2, layout.nodes + layout.chunks - 1}
    for number in sample:
        depth, place = layout.place(number)
        assert layout.first(depth) + place == number
        children = layout.children(number)
        assert len(children) <= LINKS_MAX
        assert sum(layout.below(child) for child in children) == (layout.below(number) if depth else 0)
        assert layout.block_bytes(number) <= (NODE_BYTES_MAX if depth else CHUNK_BYTES)
    assert layout.below(0) == size
    with pytest.raises(ValueError, match="has no block"):
        layout.place(layout.nodes + layout.chunks)


@given(st.integers(CHUNK_BYTES + 1, 400 * CHUNK_BYTES))
def test_nodes_lie_where_the_layout_says(size: int) -> None:
    tree = BlobTree.of_chunks(size, [bytes([number % 256]) * 32 for number in range(Layout(size).chunks)])
    layout = tree.layout
    assert layout is not None
    assert len(tree.nodes) == layout.tree_bytes
    assert BlobTree.parse(tree.blob, tree.nodes).nodes == tree.nodes
    assert root_layout(tree.blob, tree.nodes[:NODE_BYTES_MAX]) == layout


# --- what a tree accepts


@given(st.integers(CHUNK_BYTES + 1, 200 * CHUNK_BYTES), st.data())
def test_one_changed_byte_of_the_nodes_is_refused(size: int, data: st.DataObject) -> None:
    tree = BlobTree.of_chunks(size, [bytes([number % 256]) * 32 for number in range(Layout(size).chunks)])
    nodes = bytearray(tree.nodes)
    nodes[data.draw(st.integers(0, len(nodes) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteProtocolError):
        BlobTree.parse(tree.blob, bytes(nodes))


@given(st.integers(1, 3 * CHUNK_BYTES), st.data())
def test_chunks_in_another_order_cut_or_changed_are_not_the_blocks(size: int, data: st.DataObject) -> None:
    content = pattern(size)
    tree = tree_of(content)
    layout = tree.layout
    assert layout is not None
    number = data.draw(st.integers(layout.nodes, layout.nodes + layout.chunks - 1))
    begin = layout.offset(number)
    chunk = content[begin : begin + layout.below(number)]
    assert tree.is_block(number, chunk)
    assert not tree.is_block(number, chunk[:-1])
    assert not tree.is_block(number, chunk + b"\0")
    assert not tree.is_block(number, bytes([chunk[0] ^ 1]) + chunk[1:])
    others = [other for other in range(layout.nodes, layout.nodes + layout.chunks) if other != number]
    assert not any(tree.is_block(other, chunk) for other in others)


def forged(block: bytes) -> BlobTree:
    """A tree whose root is this block: what an author can do who makes up an id."""
    return BlobTree(BlobId.of_node(digest_of(block)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x12\x00\x18\x80\x80\x10", b"\x12\x00\x18\x81\x80\x10"),  # cumulative size of a link
        (b"\x12\x00\x18\x80\x80\x10", b"\x12\x01a\x18\x80\x80\x10"),  # a name
        (b"\x0a\x24\x01\x55", b"\x0a\x24\x01\x70"),  # a node in place of a leaf
        (b"\x08\x02\x18", b"\x08\x01\x18"),  # a directory
        (b"\x20\x80\x80\x10", b"\x20\x81\x80\x10"),  # size of a child
        (b"\x0a\x24", b"\x0a\x25"),
    ],
)
def test_a_root_that_is_laid_out_otherwise_is_refused_though_its_hash_is_right(old: bytes, new: bytes) -> None:
    root = tree_of(pattern(3 * CHUNK_BYTES)).nodes
    assert old in root
    block = root.replace(old, new, 1)
    tree = forged(block)
    assert tree.is_block(0, block)
    with pytest.raises(RemoteProtocolError):
        tree.take_node(0, block)


@given(st.binary(max_size=300))
def test_any_bytes_as_a_root_are_a_tree_or_are_refused(block: bytes) -> None:
    tree = forged(block)
    assert tree.is_block(0, block)
    with pytest.raises(RemoteProtocolError):
        tree.take_node(0, block)


def test_a_claimed_size_is_limited_before_anything_is_allocated() -> None:
    root = tree_of(pattern(3 * CHUNK_BYTES)).nodes
    tree = BlobTree(BlobId.of_node(digest_of(root)), size_max=3 * CHUNK_BYTES - 1)
    with pytest.raises(ResourceLimit, match=r"786,432 bytes; at most 786,431"):
        tree.take_node(0, root)
    huge = b"\x0a\x0c\x08\x02\x18" + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    with pytest.raises(RemoteProtocolError, match="which no tree has"):
        forged(huge).take_node(0, huge)
    assert SIZE_MAX < 2**63


def test_a_chunk_that_is_shorter_than_the_tree_says_is_refused_though_its_hash_is_right() -> None:
    short = b"short"
    digests = [digest_of(short), digest_of(b"x")]
    tree = BlobTree.of_chunks(CHUNK_BYTES + 1, digests)
    with pytest.raises(RemoteProtocolError, match="has 5 bytes, not 262,144"):
        tree.is_block(1, short)
