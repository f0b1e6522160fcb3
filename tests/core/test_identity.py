"""Keys, peer ids and signatures."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from fluvial.errors import ConfigError
from fluvial.identity import KEY_FILE_BYTES_MAX, KeyPair, PeerId, base58_decode, base58_encode, verify
from hypothesis import given, settings
from hypothesis import strategies as st

SECRET = bytes(range(32))
PUBLIC = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
"""Of :data:`SECRET`: the key that RFC 8032 leads to."""


@pytest.mark.parametrize(
    ("data", "text"),
    [  # draft-msporny-base58-03, section 5
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (
            b"The quick brown fox jumps over the lazy dog.",
            "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
        ),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
        (b"", ""),
        (b"\0", "1"),
    ],
)
def test_base58_agrees_with_the_published_examples(data: bytes, text: str) -> None:
    assert base58_encode(data) == text
    assert base58_decode(text) == data


@given(st.binary(max_size=60))
def test_base58_comes_back(data: bytes) -> None:
    assert base58_decode(base58_encode(data)) == data


@given(st.integers(min_value=0, max_value=60), st.integers(min_value=-3, max_value=3))
def test_base58_is_the_number_in_base_58(exponent: int, more: int) -> None:
    number = max(58**exponent + more, 1)
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    alphabet, text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", base58_encode(data)
    assert sum(alphabet.index(one) * 58**place for place, one in enumerate(reversed(text))) == number
    assert text[0] != "1"
    assert base58_decode(text) == data


@pytest.mark.parametrize("text", ["0", "O", "I", "l", "abc!", "ä", " "])
def test_characters_outside_of_base58_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no base58 character"):
        base58_decode(text)


@pytest.mark.parametrize(
    ("public", "peer"),
    [  # libp2p peer-ids specification: the key of its test vectors, and its sample id
        (
            "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e",
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
        ),
        (
            "2ffa35a99d3a3cfbb17bb7c1dc5561b18a8dcca4df38dc613ea859c37eb1336b",
            "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
        ),
    ],
)
def test_peer_id_is_the_libp2p_one(public: str, peer: str) -> None:
    assert PeerId.from_public_key(bytes.fromhex(public)) == peer
    assert PeerId.parse(peer).public_key.hex() == public


@given(st.binary(min_size=32, max_size=32))
def test_peer_id_names_its_key(public: bytes) -> None:
    peer = PeerId.from_public_key(public)
    assert peer.startswith("12D3KooW")
    assert PeerId.parse(str(peer)) == peer
    assert peer.public_key == public
    assert isinstance(peer, str)


@given(st.text(max_size=60))
def test_no_other_text_is_a_peer_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"peer|base58"):
        PeerId.parse(text)


def test_altered_peer_id_never_names_the_same_key() -> None:
    peer = KeyPair.from_secret(SECRET).peer_id
    for index in range(len(peer)):
        for character in "1zA":
            text = peer[:index] + character + peer[index + 1 :]
            if text == peer:
                continue
            try:
                assert PeerId.parse(text).public_key != peer.public_key
            except ValueError:
                continue


@pytest.mark.parametrize("size", [0, 31, 33])
def test_public_keys_have_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"32 bytes, not {size}"):
        PeerId.from_public_key(bytes(size))


def test_signature_is_the_one_of_rfc_8032() -> None:
    # RFC 8032, section 7.1, test 2
    keys = KeyPair.from_secret(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    signature = keys.sign(b"\x72")
    assert keys.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verify(keys.public_key, signature, b"\x72")


@settings(max_examples=50)
@given(st.binary(max_size=40), st.integers(0, 511))
def test_one_altered_bit_ends_a_signature(message: bytes, bit: int) -> None:
    keys = KeyPair.from_secret(SECRET)
    signature = bytearray(keys.sign(message))
    assert verify(keys.public_key, bytes(signature), message)
    assert not verify(keys.public_key, bytes(signature), message + b"\0")
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(keys.public_key, bytes(signature), message)


@pytest.mark.parametrize(
    ("public", "signature"), [(b"", bytes(64)), (bytes(31), bytes(64)), (PUBLIC, b""), (PUBLIC, bytes(63))]
)
def test_keys_and_signatures_of_other_sizes_verify_nothing(public: bytes, signature: bytes) -> None:
    assert not verify(public, signature, b"message")


def test_key_file_holds_the_identity_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "some" / "folder" / "peer.pem"
    keys = KeyPair.from_secret(SECRET)
    keys.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = KeyPair.load(path)
    assert loaded.public_key == keys.public_key == PUBLIC
    assert loaded.sign(b"x") == keys.sign(b"x")


def test_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "peer.pem"
    KeyPair.generate().save(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="a key is there already"):
        KeyPair.generate().save(path)
    assert path.read_bytes() == before


def test_unusable_key_files_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigError, match="No such file") as caught:
        KeyPair.load(missing)
    assert str(missing) in str(caught.value)
    assert "fluvial init" in caught.value.hint

    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"no key")
    garbage.chmod(0o600)
    with pytest.raises(ConfigError, match="no unencrypted PEM private key"):
        KeyPair.load(garbage)

    def pem(encryption: serialization.KeySerializationEncryption) -> bytes:
        formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        return generate_private_key(SECP256R1()).private_bytes(*formats, encryption)

    other = tmp_path / "other.pem"
    other.write_bytes(pem(serialization.NoEncryption()))
    other.chmod(0o600)
    with pytest.raises(ConfigError, match="not Ed25519"):
        KeyPair.load(other)
    other.write_bytes(pem(serialization.BestAvailableEncryption(b"password")))
    with pytest.raises(ConfigError, match="no unencrypted PEM private key"):
        KeyPair.load(other)
    with pytest.raises(ConfigError, match="cannot be written"):
        KeyPair.generate().save(garbage / "peer.pem")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o666])
def test_a_key_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "peer.pem"
    keys = KeyPair.generate()
    keys.save(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"others than its owner may .* \(mode {mode:04o}\)") as caught:
        KeyPair.load(path)
    assert f"chmod 600 {path}" in caught.value.hint
    path.chmod(0o400)
    assert KeyPair.load(path).peer_id == keys.peer_id


def test_a_key_is_read_through_a_symbolic_link(tmp_path: Path) -> None:
    """As managers of secrets mount them."""
    keys = KeyPair.generate()
    keys.save(tmp_path / "real.pem")
    (tmp_path / "link.pem").symlink_to(tmp_path / "real.pem")
    assert KeyPair.load(tmp_path / "link.pem").peer_id == keys.peer_id


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "endless"])
def test_what_is_no_regular_file_of_a_key_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """A FIFO would wait for a writer, a device may give bytes for ever."""
    path = tmp_path / "peer.pem"
    match kind:
        case "fifo":
            os.mkfifo(path, 0o600)
        case "device":
            path = Path("/dev/zero")
        case "folder":
            path.mkdir()
        case _:
            path.write_bytes(b"x" * (KEY_FILE_BYTES_MAX + 1))
            path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"must be a regular file|is no key|Is a directory"):
        KeyPair.load(path)


def test_text_of_a_key_pair_hides_the_private_half() -> None:
    keys = KeyPair.from_secret(SECRET)
    assert repr(keys) == f"KeyPair({keys.peer_id})"
