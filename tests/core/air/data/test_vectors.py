"""Test vectors of the data model (docs/data.md): made by the code, checked with a second, plain implementation.

``python -m tests.core.air.data.test_vectors`` at the root of the checkout writes ``vectors.json`` anew. In it bytes are objects with the one
key ``hex`` where a record is spelled, and plain hexadecimal text elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import ContentId, content_id, merkle_root
from fluvial.air.data.evidence import close
from fluvial.air.data.facts import (
    Argument,
    CallFailure,
    CanonFact,
    Element,
    Instance,
    Item,
    Result,
    Sent,
    Step,
    Taken,
    index_element,
    iteration_frame,
    written_element,
)
from fluvial.air.data.partial import Content, Level, Mask, Partial, cut
from fluvial.air.data.proofs import write_proof
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.writers import impossible
from fluvial.air.syntax import parse
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial.particle import Particle

FILE = Path(__file__).with_name("vectors.json")
ADA, BOB = (KeyPair.from_secret(bytes([number]) * 32) for number in (1, 2))

SMALL: list[Any] = [
    None, True, False, 0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63, 2**64 - 1,
    -1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**63),
    0.0, -0.0, 1.0, 1.5, 1e300, "", "text", "é", "x" * 31, "x" * 32, "x" * 255,
    [], [1, [2, []]], [0] * 15, [0] * 16, {}, {"b": 1, "a": {"c": None}},
    {"z": 0, "aa": 1, "a": 2, "é": 3, "\uffff": 4, "\U00010000": 5, "": 6},
    {f"{number:02}": number for number in range(16)},
]  # fmt: skip
"""Values that are leaves: each form of the encoding, and the greatest and smallest of it."""

RESULTS = [
    Result(
        iteration_frame(b"", 3, index_element(0)), number, "s", "row", (Argument(content_id(1)),), content_id(number)
    )
    for number in (10, 11, 300)
]
"""Answers that are closed."""

LARGE: list[Any] = [
    "x" * 253,
    "x" * 254,
    "x" * 256,
    "x" * 300,
    [0] * 253,
    [0] * 254,
    ["x" * 100, "x" * 100, "x" * 100],
    [["x" * 300], {"k": "x" * 300}, 1],
    {"k": "x" * 300},
    {f"é{number}": [number, "x" * 60] for number in range(5)},
    {"k" * 300: 1},
]
"""Values around and above the limit of leaves."""


# --- made by the code -------------------------------------------------------------------------------------------------


def make() -> dict[str, Any]:
    """All vectors."""
    leaves = [bytes([number]) * number for number in range(8)]
    particle = Particle.create(
        ADA,
        "(null)",
        particle_id="vector",
        timestamp_ms=1_700_000_000_000,
        ttl_ms=120_000,
        max_hops=16,
        network="fluvial",
        reply_to=("/ip4/203.0.113.7/tcp/7771",),
    )
    values = [{"value": value, "encoded": encode(value).hex(), "id": content_id(value).hex()} for value in SMALL]
    return {
        "values": values,
        "large values": [{"value": value, "id": content_id(value).hex()} for value in LARGE],
        "trees": [
            {"leaves": [leaf.hex() for leaf in leaves[:count]], "root": merkle_root(leaves[:count]).hex()}
            for count in range(len(leaves) + 1)
        ],
        "particle": {
            "secret": (bytes([1]) * 32).hex(),
            "script": particle.script,
            "header": plain(particle.header),
            "encoded": encode(particle.header).hex(),
            "signature": particle.signature.hex(),
            "key": particle.key.hex(),
        },
        "frames": make_frames(),
        "closed calls": {"results": [plain(one) for one in RESULTS], "closed": plain(close(RESULTS))},
        "partial values": make_parts(),
        "origins": make_origins(),
        **make_batches(particle.key),
    }


def make_frames() -> list[dict[str, Any]]:
    outer = iteration_frame(b"", 3, index_element(0))
    found = []
    for base, fold, element in [
        (b"", 3, index_element(0)),
        (b"", 3, index_element(70_000)),
        (outer, 5, index_element(1)),
        (b"", 7, written_element(Instance(b"", 2))),
        (outer, 7, written_element(Instance(outer, 4))),
    ]:
        frame = iteration_frame(base, fold, element)
        found.append({"base": base.hex(), "fold": fold, "element": element.hex(), "frame": frame.hex()})
    return found


SCRIPT = (
    '(seq (call "p" ("s" "f") [] x) (seq (par (call "p" ("s" "g") [] $s) (ap x $s)) (seq (canon "c" $s #s) '
    '(fold #s i (seq (seq (ap i $t) (canon "c" $t #t)) (seq (ap "late" $t) (next i)))))))'
)
"""A script with canons, in which instructions 3, 4, 8 and 10 write to streams."""


def make_origins() -> dict[str, Any]:
    """Canons of one script, and whether they are possible."""
    script, frame, value = parse(SCRIPT), iteration_frame(b"", 6, index_element(0)), content_id("v")
    call, ap = Element(value, b"", 3), Element(value, b"", 4)
    canons = [
        CanonFact(b"", 5, ()),
        CanonFact(b"", 5, (ap, call)),
        CanonFact(b"", 5, (Element(content_id("unsigned"), b"", 3),)),
        CanonFact(b"", 5, (Element(value, frame, 4),)),
        CanonFact(b"", 5, (Element(value, b"", 1),)),
        CanonFact(b"", 5, (Element(value, frame, 8),)),
        CanonFact(b"", 5, (Element(value, b"", 99),)),
        CanonFact(frame, 9, (Element(value, frame, 8),)),
        CanonFact(frame, 9, (Element(value, frame, 10),)),
        CanonFact(frame, 9, (Element(value, b"", 10),)),
        CanonFact(frame, 9, (ap,)),
    ]
    came = {(b"", 3): {value}}
    return {
        "script": SCRIPT,
        "results": [{"frame": "", "node": 3, "value": value.hex()}],
        "canons": [
            {"canon": plain(canon), "possible": not impossible(script, canon, came, Knowledge())} for canon in canons
        ],
    }


def make_batches(key: bytes) -> dict[str, Any]:
    """A first batch with a fact of every kind, a second one of another peer that builds on it, and both as they travel."""
    frame = iteration_frame(b"", 3, index_element(0))
    answer, sent_before = {"k": "value"}, content_id("known to the receiver")
    arguments = (Argument(content_id("literal")), Argument(sent_before, ("a", 0)))
    items: tuple[Item, ...] = (
        Step(),
        Result(b"", 1, "s", "f", arguments, content_id(answer)),
        CallFailure(frame, 2, "s", "bad", (), -1, '"no"'),
        Step((hashlib.sha256(b"a batch that the receiver has").digest(),)),
        CanonFact(b"", 4, (Element(content_id(answer), frame, 300),)),
        CanonFact(b"", 5, ()),
        Sent(b"", 70_000, True),
        Taken(frame, 6),
        close(RESULTS),
    )
    first = Batch.seal(key, ADA.peer_id, items, ADA.sign)
    more = (
        Step((first.id,)),
        Result(b"", 7, "s", "g", (), content_id([1, 2])),
        Result(b"", 9, "s", "h", (), content_id(LARGE[-2])),
        Sent(b"", 8, False),
    )
    second = Batch.seal(key, BOB.peer_id, more, BOB.sign)
    part = make_part(LARGE[-2], ("é3", 0))
    contents: dict[ContentId, Content] = {content_id(value): value for value in (answer, [1, 2])}
    contents[content_id(LARGE[-2])] = part
    written = []
    for batch in (first, second):
        encoded = [encode(item) for item in batch.signed.items]
        written.append(
            {
                "particle": key.hex(),
                "signer": batch.signed.signer.hex(),
                "items": [plain(item) for item in batch.signed.items],
                "encoded": [item.hex() for item in encoded],
                "root": merkle_root(encoded).hex(),
                "id": batch.id.hex(),
                "signature": batch.signed.signature.hex(),
            }
        )
    data = encode_data((first, second), contents)
    assert decode_data(key, data).batches == (first, second)
    wire = {"contents": [answer, [1, 2]], "parts": [plain(write_proof(part))], "encoded": data.hex()}
    return {"batches": written, "wire": wire}


def make_parts() -> list[dict[str, Any]]:
    found = []
    for value, paths in [
        (LARGE[-2], [("é3", 0)]),
        (LARGE[-2], [("é0",), ("é4", 1)]),
        ([["x" * 300, 1], "y" * 300, *range(9)], [(0, 1), (10,)]),
        ([0] * 300, [(299,)]),
        ([0] * 300, []),
    ]:
        part = make_part(value, *paths)
        found.append({"value": value, "shown": paths, "proof": plain(write_proof(part)), "id": content_id(value).hex()})
    return found


def make_part(value: Any, *paths: tuple[str | int, ...]) -> Partial:
    mask = Mask(Level.SIZE)
    for path in paths:
        mask.add(path, Level.WHOLE)
    part = cut(value, mask)
    assert isinstance(part, Partial)
    return part


def plain(record: Any) -> Any:
    """A record as JSON: arrays, with ``{"hex": …}`` for bytes."""
    built = msgspec.msgpack.decode(encode(record))
    return _hexed(built)


def _hexed(built: Any) -> Any:
    if isinstance(built, bytes):
        return {"hex": built.hex()}
    return [_hexed(part) for part in built] if isinstance(built, list) else built


def rewrite() -> None:
    """Write the file anew."""
    groups = []
    for name, vectors in make().items():
        if isinstance(vectors, list):
            lines = ",\n  ".join(json.dumps(vector) for vector in vectors)
            groups.append(f"{json.dumps(name)}: [\n  {lines}\n ]")
        else:
            groups.append(f"{json.dumps(name)}: {json.dumps(vectors)}")
    FILE.write_text("{\n " + ",\n ".join(groups) + "\n}\n", encoding="ascii")


# --- the plain implementation -----------------------------------------------------------------------------------------


def pack(value: Any) -> bytes:
    """Canonical MessagePack, written from docs/data.md; ``{"hex": …}`` is a byte string."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return pack_integer(value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            data = value.encode()
            return head(len(data), b"\xa0", 32, b"\xd9\xda\xdb") + data
        case bytes():
            return head(len(value), b"", 0, b"\xc4\xc5\xc6") + value
        case list():
            return head(len(value), b"\x90", 16, b"\0\xdc\xdd") + b"".join(map(pack, value))
        case _:
            keys = sorted(value, key=str.encode)
            return head(len(value), b"\x80", 16, b"\0\xde\xdf") + b"".join(pack(key) + pack(value[key]) for key in keys)


def pack_integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    forms = [(b"\xcc", ">B"), (b"\xcd", ">H"), (b"\xce", ">I"), (b"\xcf", ">Q")]
    if value < 0:
        forms = [(b"\xd0", ">b"), (b"\xd1", ">h"), (b"\xd2", ">i"), (b"\xd3", ">q")]
    for mark, form in forms:
        try:
            return mark + struct.pack(form, value)
        except struct.error:
            continue
    raise OverflowError(value)


def head(size: int, short: bytes, short_end: int, marks: bytes) -> bytes:
    if size < short_end:
        return bytes([short[0] + size])
    if marks[0] and size < 2**8:
        return marks[:1] + struct.pack(">B", size)
    return marks[1:2] + struct.pack(">H", size) if size < 2**16 else marks[2:] + struct.pack(">I", size)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, as it is defined there."""
    if len(leaves) < 2:
        return sha(b"\0" + leaves[0]) if leaves else sha(b"")
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha(b"\1" + tree(leaves[:half]) + tree(leaves[half:]))


def id_of(value: Any) -> bytes:
    packed = pack(value)
    if len(packed) <= 256 or not isinstance(value, list | dict):
        return sha(b"\0" + packed)
    if isinstance(value, list):
        return node(b"\1", len(value), tree(list(map(id_of, value))))
    return node(b"\2", len(value), tree([id_of(key) + id_of(value[key]) for key in sorted(value, key=str.encode)]))


def node(kind: bytes, size: int, root: bytes) -> bytes:
    return sha(kind + struct.pack(">I", size) + root)


def proven(form: list[Any]) -> bytes:
    """The id of which a proof shows parts."""
    match form:
        case [0, value]:
            return id_of(value)
        case [1, key]:
            return bytes(key)
        case [kind, size, nodes]:
            rest = list(nodes)
            root = proven_tree(rest, size)
            assert not rest
            return node(bytes([kind - 1]), size, root)
        case _:
            raise AssertionError(form)


def proven_tree(nodes: list[Any], size: int) -> bytes:
    """The root of a subtree over so many leaves, whose nodes come first."""
    first = nodes.pop(0)
    if isinstance(first, bytes):
        return first
    if first is not None:
        assert size == 1
        return sha(b"\0" + (id_of(first[1]) + proven(first[2]) if first[0] == 4 else proven(first)))
    half = 1
    while half * 2 < size:
        half *= 2
    return sha(b"\1" + proven_tree(nodes, half) + proven_tree(nodes, size - half))


def record(spelled: Any) -> Any:
    """A record of the file, with bytes for ``{"hex": …}``."""
    if isinstance(spelled, dict):
        return bytes.fromhex(spelled["hex"])
    return [record(part) for part in spelled] if isinstance(spelled, list) else spelled


def ids_in(item: list[Any]) -> list[bytes]:
    """The ids that an item speaks of, in its order."""
    match item[0]:
        case "step":
            return list(item[1])
        case "result":
            return [argument[0] for argument in item[5]] + [item[6]]
        case "failure":
            return [argument[0] for argument in item[5]]
        case "canon":
            return [element[0] for element in item[3]]
        case _:
            return []


def wire(batches: list[dict[str, Any]], contents: list[Any], proofs: list[Any]) -> bytes:
    """Batches and contents as they travel."""
    by_id = {id_of(value): value for value in contents}
    parts_by_id = {proven(proof): proof for proof in proofs}
    values = [by_id[key] for key in sorted(by_id)]
    parts = [parts_by_id[key] for key in sorted(parts_by_id)]
    order = sorted(by_id) + sorted(parts_by_id)
    own = [bytes.fromhex(batch["id"]) for batch in batches]
    items = [record(batch["items"]) for batch in batches]
    plain_ids: list[bytes] = []
    for key in (key for several in items for item in several for key in ids_in(item)):
        if key not in order and key not in own and key not in plain_ids:
            plain_ids.append(key)
    order += plain_ids + own
    signers = list(dict.fromkeys(bytes.fromhex(batch["signer"]) for batch in batches))
    written = [
        [
            signers.index(bytes.fromhex(batch["signer"])),
            [shortened(item, order) for item in several],
            bytes.fromhex(batch["signature"]),
        ]
        for batch, several in zip(batches, items, strict=True)
    ]
    return pack([values, parts, plain_ids, signers, written])


def shortened(item: list[Any], order: list[bytes]) -> list[Any]:
    tag = ["result", "failure", "canon", "sent", "taken", "step", "closed"].index(item[0])
    rest = item[1:]
    match item[0]:
        case "step":
            rest = [[order.index(key) for key in item[1]]]
        case "result" | "failure":
            rest[4] = [[order.index(root), path] for root, path in item[5]]
            if item[0] == "result":
                rest[5] = order.index(item[6])
        case "canon":
            rest[2] = [[order.index(one[0]), *one[1:]] for one in item[3]]
    return [tag, *rest]


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors() -> Any:
    return json.loads(FILE.read_text(encoding="ascii"))


def test_the_file_is_what_the_code_makes(vectors: Any) -> None:
    assert json.loads(json.dumps(make())) == vectors, "run: python -m tests.core.air.data.test_vectors"


def test_values_and_their_ids(vectors: Any) -> None:
    for vector in vectors["values"]:
        assert (pack(vector["value"]).hex(), id_of(vector["value"]).hex()) == (vector["encoded"], vector["id"])
    for vector in vectors["large values"]:
        assert id_of(vector["value"]).hex() == vector["id"]
    sizes = [len(pack(vector["value"])) for vector in vectors["large values"]]
    assert {255, 256, 257} <= set(sizes)


def test_trees_are_those_of_the_rfc(vectors: Any) -> None:
    for vector in vectors["trees"]:
        assert tree([bytes.fromhex(leaf) for leaf in vector["leaves"]]).hex() == vector["root"]


def test_particle(vectors: Any) -> None:
    vector = vectors["particle"]
    header = record(vector["header"])
    assert pack(header).hex() == vector["encoded"]
    assert header[6] == sha(vector["script"].encode())
    signed = b"fluvial/particle/1\0" + pack(header)
    assert sha(signed).hex() == vector["key"]
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["secret"]))
    assert key.public_key().public_bytes_raw() == header[2]
    assert key.sign(signed).hex() == vector["signature"]


def test_frames(vectors: Any) -> None:
    for vector in vectors["frames"]:
        named = bytes.fromhex(vector["base"]) + struct.pack(">I", vector["fold"]) + bytes.fromhex(vector["element"])
        assert sha(named)[:16].hex() == vector["frame"]


def test_facts_and_batches(vectors: Any) -> None:
    tags = {item[0] for batch in vectors["batches"] for item in batch["items"]}
    assert tags == {"step", "result", "failure", "closed", "canon", "sent", "taken"}
    for batch in vectors["batches"]:
        encoded = [pack(record(item)) for item in batch["items"]]
        assert [item.hex() for item in encoded] == batch["encoded"]
        assert tree(encoded).hex() == batch["root"]
        signer, root = bytes.fromhex(batch["signer"]), bytes.fromhex(batch["root"])
        message = b"fluvial/batch/1\0" + bytes.fromhex(batch["particle"]) + signer + root
        assert sha(message).hex() == batch["id"]
        Ed25519PublicKey.from_public_bytes(signer).verify(bytes.fromhex(batch["signature"]), message)


WRITERS = {3: ("$s", None), 4: ("$s", None), 8: ("$t", 6), 10: ("$t", 6)}
"""By hand: what writes to streams in the script of the vectors, and in which fold."""

CANONS = {5: ("$s", None), 9: ("$t", 6)}


def possible(canon: list[Any], results: set[tuple[bytes, int, bytes]]) -> bool:
    stream, around = CANONS[canon[2]]
    for value, frame, node in canon[3]:
        written, fold = WRITERS.get(node, (None, None))
        if written != stream or (fold is None) != (frame == b""):
            return False
        if node > canon[2] and (fold is None or fold != around):
            return False
        if node == 3 and (frame, node, value) not in results:
            return False
    return True


def test_origins(vectors: Any) -> None:
    given = vectors["origins"]
    results = {(bytes.fromhex(one["frame"]), one["node"], bytes.fromhex(one["value"])) for one in given["results"]}
    for vector in given["canons"]:
        assert possible(record(vector["canon"]), results) is vector["possible"], vector
    assert {vector["possible"] for vector in given["canons"]} == {True, False}


def test_closed_calls(vectors: Any) -> None:
    results = [record(one) for one in vectors["closed calls"]["results"]]
    (frame,) = {one[1] for one in results}
    closed = ["closed", frame, [one[2] for one in results], tree(list(map(pack, results)))]
    assert record(vectors["closed calls"]["closed"]) == closed


def test_wire(vectors: Any) -> None:
    sent = vectors["wire"]
    assert wire(vectors["batches"], sent["contents"], record(sent["parts"])).hex() == sent["encoded"]


def test_partial_values_have_the_ids_of_the_whole(vectors: Any) -> None:
    for vector in vectors["partial values"]:
        assert proven(record(vector["proof"])).hex() == id_of(vector["value"]).hex() == vector["id"]


if __name__ == "__main__":
    rewrite()
