"""The contracts of all hooks that a plugin may implement.

Hooks are synchronous and rare: they build or observe. Work per message goes through the objects of ``seats.py``. All hooks run on
the node's event-loop thread and must not block. Write an implementation as a module-level function marked with ``fluvial.hookimpl``: it observes
every node of the process, and ``node`` says which one; or as a method of an object that a part contributes as a watcher
(``Contributions.watchers``): it observes its own node only. Take only the arguments you need. Coroutine functions and hook wrappers are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from fluvial.addresses import Contact
    from fluvial.effectors import Call
    from fluvial.identity import PeerId
    from fluvial.offers import Registry
    from fluvial.particle import Particle

GROUP: Final = "fluvial"
"""The entry-point group in which plugins announce themselves."""

hookspec: Final = pluggy.HookspecMarker("fluvial")
hookimpl: Final = pluggy.HookimplMarker("fluvial")


@hookspec
def fluvial_register(registry: Registry) -> None:
    """Offer candidates for seats, extras, effectors and checks.

    When: once per process, after all enabled plugins are imported and before any seat is filled.
    May / must not: call the registry; no I/O, no threads, nothing that costs time: other commands than ``run`` call it too.
    Results: none; offers are collected in the registry.
    Order: by entry-point name; it has no influence on who takes a seat, the config decides that.
    Errors: an exception marks this plugin as failed and withdraws its offers; other plugins are not affected. A name that another
    plugin offers too is no error yet: both stay loaded, and a config that names it is refused.
    Since: 0.1.
    """


@hookspec
def fluvial_peer_connected(node: PeerId, peer: PeerId, contact: Contact) -> None:
    """A mutually authenticated connection with a peer stands; ``contact`` has the addresses that it announced, perhaps none.

    When: after the handshake, for the first connection with that peer. May / must not: observe; no blocking.
    Results: ignored. Order: undefined. Errors: logged with the plugin's name, counted, else ignored. Since: 0.1.
    """


@hookspec
def fluvial_peer_disconnected(node: PeerId, peer: PeerId) -> None:
    """The last connection with a peer is gone.

    When: after the fact, whoever closed it. May / must not: observe; no blocking.
    Results: ignored. Order: undefined. Errors: logged with the plugin's name, counted, else ignored. Since: 0.1.
    """


@hookspec
def fluvial_particle_received(node: PeerId, particle: Particle, sender: PeerId) -> None:
    """A particle was accepted: checked, authorized and stored.

    When: after the transaction that makes it durable; its flow has been advanced with it. Again for every further copy that brings new data.
    May / must not: observe; no blocking. Results: ignored. Order: undefined.
    Errors: logged with the plugin's name, counted, else ignored. Since: 0.1.
    """


@hookspec
def fluvial_particle_refused(node: PeerId, sender: PeerId, particle_id: str, reason: str) -> None:
    """A particle was refused; ``reason`` is the word that the metric ``fluvial_particles_total`` carries as outcome.

    ``particle_id`` is the sender's claim, not verified; it is empty if it could not be read.
    When: after the refusal. May / must not: observe; no blocking. Results: ignored. Order: undefined.
    Errors: logged with the plugin's name, counted, else ignored. Since: 0.1.
    """


@hookspec
def fluvial_failure_noticed(node: PeerId, particle: Particle, peer: PeerId, code: int, message: str) -> None:
    """A peer cannot go on with a particle that this peer began; ``code`` is the error's number as scripts see it, or 0.

    Other branches of the flow may go on. The notice is signed by ``peer``; nothing else proves what it says.
    When: after the notice is stored; once for each error of a peer. May / must not: observe; no blocking.
    Results: ignored. Order: undefined. Errors: logged with the plugin's name, counted, else ignored. Since: 0.1.
    """


@hookspec
def fluvial_call_done(node: PeerId, call: Call, status: int, seconds: float) -> None:
    """A service call ended; ``status`` is 0 for success, else the error's number.

    When: after the outcome is known, perhaps before it is durable. May / must not: observe; no blocking.
    Results: ignored. Order: undefined. Errors: logged with the plugin's name, counted, else ignored. Since: 0.1.
    """


@hookspec
def fluvial_capabilities_changed(node: PeerId) -> None:
    """The capabilities of a node have changed; the port ``directory`` has the new ones.

    When: after a service was added or withdrawn, or a part was set aside. Parts whose own capabilities change need not wait for it.
    May / must not: wake a loop; no blocking. It never carries the only copy of a fact: read the state at each start, too.
    Results: ignored. Order: undefined. Errors: logged with the plugin's name, counted, else ignored. Since: 0.1.
    """
