"""Which headers were found to be signed by their initiators: a particle comes by several times, and to verify a signature is a fifth of what passing it on costs.

Remembered is the particle's key, which is the hash of all that is signed, with the signature that was verified. Another signature over the same header
is verified anew, and what is not right is not remembered: it costs who sends it as much each time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fluvial.particle import Particle, ParticleKey

REMEMBERED_MAX: Final = 8_192
"""Headers, the last ones that came; each takes about a third of a kilobyte."""


class SignedHeaders:
    """See the module's docstring.

    Args:
        most: how many are remembered.
    """

    def __init__(self, most: int = REMEMBERED_MAX) -> None:
        self._most = most
        self._signatures: OrderedDict[ParticleKey, bytes] = OrderedDict()

    def is_signed(self, particle: Particle) -> bool:
        """Whether the header has its initiator's signature."""
        signed_bytes = particle.identify()
        key = particle.key
        if self._signatures.get(key) == particle.signature:
            self._signatures.move_to_end(key)
            return True
        if not particle.signed_by_initiator(signed_bytes):
            return False
        self._signatures[key] = particle.signature
        if len(self._signatures) > self._most:
            self._signatures.popitem(last=False)
        return True
