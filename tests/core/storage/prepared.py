"""``python -m tests.core.storage.prepared`` at the root of the checkout writes the texts of all prepared statements anew; a test compares them."""

from __future__ import annotations

from typing import Final

from fluvial.prepared import texts_of

DEFINITIONS: Final = (
    "fluvial.hosting.definitions",
    "fluvial.licensing.definitions",
    "fluvial.storage.owner_statements",
    "fluvial.storage.particle_statements",
    "fluvial_dht_kademlia.shell.definitions",
    "fluvial_fce_wasm.definitions",
    "fluvial_trust_graph.storage.definitions",
)


def main() -> None:
    """Write all of them."""
    for file, content in map(texts_of, DEFINITIONS):
        file.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
