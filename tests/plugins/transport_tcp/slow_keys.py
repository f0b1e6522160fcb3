"""A certificate whose key OpenSSL 3.0 decodes in a third of a second: 380 bytes, issued by nobody.

The key is a point on an elliptic curve with parameters of our own, of which only x is given: for y a square root is taken modulo a prime p, and where p - 1
can be halved hundreds of times that takes Tonelli and Shanks's algorithm as many rounds of as many multiplications.
"""

from __future__ import annotations

from typing import Final

PRIME: Final = 97 * 2**652 + 1
EC_KEY: Final = bytes.fromhex("06072a8648ce3d0201")
PRIME_FIELD: Final = bytes.fromhex("06072a8648ce3d0101")
ED25519: Final = bytes.fromhex("300506032b6570")
NOW: Final = b"\x17\x0d700101000000Z"
"""Both ends of its validity; it is decoded before anybody looks at them."""


def slow_certificate() -> bytes:
    """The certificate, as DER."""
    point = b"\2" + _with_root().to_bytes(83, "big")
    curve = _sequence(_tagged(4, b"\0"), _tagged(4, b"\1"))  # y^2 = x^3 + 1
    parameters = _sequence(
        _integer(1), _sequence(PRIME_FIELD, _integer(PRIME)), curve, _tagged(4, point), _integer(PRIME)
    )
    key = _sequence(_sequence(EC_KEY, parameters), _tagged(3, b"\0" + point))
    signed = _sequence(_integer(1), ED25519, _sequence(), _sequence(NOW, NOW), _sequence(), key)
    return _sequence(signed, ED25519, _tagged(3, bytes(65)))


def _with_root() -> int:
    """An x for which x^3 + 1 is a square, and its root takes the most rounds."""
    odd = (PRIME - 1) >> 652
    for x in range(2, 100):
        value = (x**3 + 1) % PRIME
        if pow(value, odd << 651, PRIME) == 1 and pow(value, odd << 650, PRIME) != 1:
            return x
    raise AssertionError("there is none")


def _integer(number: int) -> bytes:
    return _tagged(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 | len(length)]) + length + content
