"""The id of a blob: a content identifier (CID) that whoever has the content can compute and check.

Source: CID specification (multiformats/cid), version 1: multibase ``b`` (base32, lower case, no padding) over
``01 ‖ codec ‖ 12 20 ‖ SHA-256``. Two codecs are used: ``55`` (raw) names the bytes themselves, ``70`` (dag-pb) a node over parts. The ids
are those of the reference implementation and of ``ipfs add --cid-version 1``; ``fluvial.blobs.tree`` computes them.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

DIGEST_BYTES: Final = 32
ID_CHARACTERS: Final = 59
_MULTIBASE: Final = "b"
_LEAF: Final = bytes.fromhex("01551220")
_NODE: Final = bytes.fromhex("01701220")


class BlobId(str):
    """The text ``bafk…`` or ``bafy…`` that names a content; made only by :meth:`parse`, :meth:`of_leaf` and :meth:`of_node`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> BlobId:
        """``text`` as a blob's id.

        Raises:
            ValueError: it is no CID, or one of another version, base, codec or hash than those of this module.
        """
        if len(text) != ID_CHARACTERS or not text.startswith(_MULTIBASE):
            raise ValueError(
                f"{text[:80]!r} is no blob's id: it should have {ID_CHARACTERS} characters and begin with bafk or bafy"
            )
        try:
            data = base64.b32decode(text[1:].upper() + "======")
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"{text!r} is no blob's id: it is not in base32") from error
        if data[:4] not in (_LEAF, _NODE) or _text(data) != text:
            raise ValueError(f"{text!r} is no blob's id: it should be a CID of version 1, raw or dag-pb, over SHA-256")
        return cls(text)

    @classmethod
    def of_leaf(cls, digest: bytes) -> BlobId:
        """The id of the content with this SHA-256 digest, which has at most one chunk."""
        return cls(_text(_LEAF + digest))

    @classmethod
    def of_node(cls, digest: bytes) -> BlobId:
        """The id of the content whose root node has this SHA-256 digest."""
        return cls(_text(_NODE + digest))

    @property
    def is_leaf(self) -> bool:
        """Whether the content has at most one chunk, so that the id is the hash of the content itself."""
        return self.startswith("bafk")

    @property
    def digest(self) -> bytes:
        """The SHA-256 digest, 32 bytes, that the id spells."""
        return base64.b32decode(self[1:].upper() + "======")[4:]


def _text(data: bytes) -> str:
    return _MULTIBASE + base64.b32encode(data).decode().rstrip("=").lower()
