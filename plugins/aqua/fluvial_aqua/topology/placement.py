"""Puts the instruction tree on peers.

Placing goes through the tree once, in the order in which it is run, and knows at each point where the flow is: at which station, and at which
peer if that is sure. Nothing goes back by itself; the next instruction that needs a peer finds its way from where the one before ended. Where
ways join again (branches of ``par``, of ``if`` and of ``try``, iterations) each comes back to the station around them, as far as something
follows there: over all relays, the last step being left to what follows. Data of parallel branches are carried all the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from fluvial_aqua.air import NEVER, NULL, AirNode, at_once, in_order
from fluvial_aqua.model.operands import Operand, is_plain
from fluvial_aqua.model.tree import (
    Alternative,
    Assign,
    Attempt,
    Decide,
    Freeze,
    Instruction,
    Nothing,
    Parallel,
    PutPair,
    Scoped,
    ServiceCall,
    Shortcut,
    Station,
    StationVisit,
    StreamGate,
    Walk,
    Wherever,
)
from fluvial_aqua.model.tree import (
    Sequence as Steps,
)
from fluvial_aqua.topology import instructions
from fluvial_aqua.topology.instructions import node
from fluvial_aqua.topology.paths import Hop, path
from fluvial_aqua.topology.usage import Usage


class Whereabouts(Struct, frozen=True):
    """Where the flow is.

    Attributes:
        station: where it is in terms of the program.
        at: the peer, if it is sure; may be the last relay on the way to the station.
        gathers: parallel branches come together at ``at``, so that what waits for their data best waits there.
    """

    station: Station
    at: Operand | None = None
    gathers: bool = False


class TopologyPlacer:
    """Places one function.

    Args:
        root: its instruction tree.
        home: where it begins.
    """

    def __init__(self, root: Instruction, home: Station) -> None:
        self._usage = Usage(root)
        self._hops = 0
        self._station = home
        self._op = root

    def place(self, op: Instruction, here: Whereabouts, *, follows: bool) -> tuple[AirNode, Whereabouts]:
        """AIR for an instruction.

        Args:
            op: the instruction.
            here: where the flow is before it.
            follows: whether anything after it needs a peer.

        Returns:
            The AIR, and where the flow is behind it.
        """
        if op.place is not None:
            self._op = op
        match op:
            case ServiceCall():
                return self._at_station(here, instructions.call(op, self._station.peer))
            case Freeze():
                return self._at_station(here, instructions.freeze(op, self._station.peer))
            case StreamGate():
                return self._wait(op, here)
            case Steps():
                return self._steps(op.steps, here, follows=follows)
            case StationVisit():
                return self._visit(op, here, follows=follows)
            case Parallel():
                return self._parallel(op, here, follows=follows, waits=False)
            case Walk():
                return self._walk(op, here, follows=follows, waits=False)
            case Attempt():
                return self._attempt(op, here, follows=follows)
            case Alternative():
                return self._choice(op, here, follows=follows)
            case Shortcut():
                return self._shortcut(op, here, follows=follows)
            case Scoped():
                body, there = self.place(op.body, here, follows=follows)
                for name in reversed(op.names):
                    body = node(op, f"new {name}", body)
                return body, there
            case _:
                return self._anywhere(op, here)

    # --- single instructions ----------------------------------------------------------------------------------------

    def _at_station(self, here: Whereabouts, air: AirNode) -> tuple[AirNode, Whereabouts]:
        """An instruction that is done at the present station."""
        hops = self._way(here, self._station)
        return in_order([*hops, air]), Whereabouts(self._station, self._station.peer)

    def _wait(self, op: StreamGate, here: Whereabouts) -> tuple[AirNode, Whereabouts]:
        if here.gathers and here.at is not None:
            return instructions.wait(op, here.at), here
        return self._at_station(here, instructions.wait(op, self._station.peer))

    def _anywhere(self, op: Instruction, here: Whereabouts) -> tuple[AirNode, Whereabouts]:
        """An instruction that is done wherever the flow is; what may fail is done where an error finds its way."""
        match op:
            case Assign():
                if is_plain(op.value):
                    return instructions.assign(op), here
                hops, here = self._back(here)
                return in_order([*hops, instructions.assign(op)]), here
            case PutPair():
                if is_plain(op.value) and is_plain(op.key):
                    return instructions.put_pair(op), here
                hops, here = self._back(here)
                return in_order([*hops, instructions.put_pair(op)]), here
            case Decide():
                return instructions.decide(op), here
            case Wherever():
                return self._wherever(op, here)
            case Nothing():
                return NULL, here
        raise AssertionError(f"no such instruction: {op}")

    def _wherever(self, op: Wherever, here: Whereabouts) -> tuple[AirNode, Whereabouts]:
        hops, here = self._back(here)
        last = NULL
        moved = False
        for one in reversed(op.choices):
            choice, there = self.place(one, here, follows=True)
            back, _ = self._back(there)
            moved |= there != here
            last = AirNode("xor", (in_order([choice, *back]), last))
        return in_order([*hops, last]), Whereabouts(self._station) if moved else here

    # --- ways -------------------------------------------------------------------------------------------------------

    def _way(self, here: Whereabouts, to: Station) -> list[AirNode]:
        """Hops from where the flow is to a station, without the station itself."""
        return self._hop_nodes(self._rest(here, to), f"on the way from {_named(here.station)} to {_named(to)}")

    def _rest(self, here: Whereabouts, to: Station) -> list[Hop]:
        hops = path(here.station, to)
        passed = [index for index, hop in enumerate(hops) if not hop.many and hop.peer == here.at]
        return hops[passed[0] + 1 :] if passed else hops

    def _back(self, here: Whereabouts) -> tuple[list[AirNode], Whereabouts]:
        """The way back to the present station, the last step being left to what follows."""
        if here.station is self._station:
            return [], here
        hops = self._rest(here, self._station)
        at = hops[-1].peer if hops and not hops[-1].many else (None if hops else here.at)
        why = f"comes back from {_named(here.station)}, since what follows goes on at {_named(self._station)}"
        return self._hop_nodes(hops, why), Whereabouts(self._station, at)

    def _home(self, here: Whereabouts) -> list[AirNode]:
        """The way back to the peer of the present station, and a visit there, to bring data."""
        if here.station is self._station and here.at == self._station.peer:
            return []
        hops = self._rest(here, self._station) if here.station is not self._station else []
        why = f"brings what this branch has set from {_named(here.station)} to {_named(self._station)}, where it is needed"
        return self._hop_nodes([*hops, Hop(self._station.peer)], why)

    def _hop_nodes(self, hops: Sequence[Hop], why: str) -> list[AirNode]:
        nodes = []
        for one in hops:
            self._hops += 1
            nodes.append(instructions.hop(one, self._hops, why, self._op))
        return nodes

    # --- order ------------------------------------------------------------------------------------------------------

    def _steps(self, steps: Sequence[Instruction], here: Whereabouts, *, follows: bool) -> tuple[AirNode, Whereabouts]:
        after = [follows] * len(steps)
        for index in range(len(steps) - 2, -1, -1):
            after[index] = after[index + 1] or self._usage.needs_peer(steps[index + 1])
        nodes = []
        for index, step in enumerate(steps):
            waits = index + 1 < len(steps) and _begins_with_wait(steps[index + 1])
            if isinstance(step, Parallel):
                air, here = self._parallel(step, here, follows=after[index], waits=waits)
            elif isinstance(step, Walk):
                air, here = self._walk(step, here, follows=after[index], waits=waits)
            else:
                air, here = self.place(step, here, follows=after[index])
            nodes.append(air)
        return in_order(nodes), here

    def _visit(self, op: StationVisit, here: Whereabouts, *, follows: bool) -> tuple[AirNode, Whereabouts]:
        """A body at its station; an error in it is carried back to where the body was entered, and raised there."""
        if not self._usage.needs_peer(op):
            return self.place(op.body, here, follows=follows)
        around, self._station = self._station, op.station
        body, there = self.place(op.body, here, follows=follows)
        self._station = around
        hops = path(op.station, around)
        if not hops:
            return body, there
        self._op = op
        why = f"carries an error from {_named(op.station)} back to {_named(around)}"
        raised = in_order([*self._hop_nodes(hops, why), AirNode("fail :error:")])
        return node(op, "xor", body, raised), there

    # --- ways that part ---------------------------------------------------------------------------------------------

    def _joined(
        self, ends: Sequence[tuple[AirNode, Whereabouts]], *, follows: bool
    ) -> tuple[list[AirNode], Whereabouts]:
        """Of ways of which one is gone: their ends brought together, if something follows."""
        first = ends[0][1]
        if all(there.station is first.station and there.at == first.at for _, there in ends):
            return [air for air, _ in ends], first
        if not follows:
            return [air for air, _ in ends], Whereabouts(self._station)
        nodes, at = [], set()
        for air, there in ends:
            hops, back = self._back(there)
            nodes.append(in_order([air, *hops]))
            at.add(back.at)
        return nodes, Whereabouts(self._station, at.pop() if len(at) == 1 else None)

    def _attempt(self, op: Attempt, here: Whereabouts, *, follows: bool) -> tuple[AirNode, Whereabouts]:
        hops: list[AirNode] = []
        if self._usage.needs_peer(op):
            hops, here = self._back(here)
        body = self.place(op.body, here, follows=follows)
        fresh = Whereabouts(self._station) if self._usage.needs_peer(op.body) else here
        handler = self.place(op.handler, fresh, follows=follows)
        (one, other), there = self._joined([body, handler], follows=follows)
        return in_order([*hops, node(op, "xor", one, other)]), there

    def _choice(self, op: Alternative, here: Whereabouts, *, follows: bool) -> tuple[AirNode, Whereabouts]:
        """Each way stands behind the test that it is not taken, so that its errors go up as they are."""
        ends = [self.place(op.then, here, follows=follows)]
        if op.otherwise is None:
            ends.append((NULL, here))
        else:
            ends.append(self.place(op.otherwise, here, follows=follows))
        (then, otherwise), there = self._joined(ends, follows=follows)
        operands = f"{op.left.text} {op.right.text}"
        taken, passed = ("mismatch", "match") if op.equal else ("match", "mismatch")
        guard = node(op, "xor", AirNode(f"{taken} {operands}", (NULL,), op.place, op.function), then)
        if otherwise is NULL:
            return guard, there
        if op.otherwise is None:
            return node(op, "xor", AirNode(f"{taken} {operands}", (otherwise,), op.place, op.function), then), there
        other = node(op, "xor", AirNode(f"{passed} {operands}", (NULL,), op.place, op.function), otherwise)
        return in_order([guard, other]), there

    def _shortcut(self, op: Shortcut, here: Whereabouts, *, follows: bool) -> tuple[AirNode, Whereabouts]:
        kept = AirNode(f"ap {op.left.text} {op.target}")
        ends = [(kept, here), self.place(op.body, here, follows=follows)]
        (left, right), there = self._joined(ends, follows=follows)
        return node(op, "xor", AirNode(f"match {op.left.text} {op.stop.text}", (left,)), right), there

    # --- ways at the same time --------------------------------------------------------------------------------------

    def _branch(
        self, op: Instruction, here: Whereabouts, *, follows: bool, waits: bool
    ) -> tuple[AirNode, Operand | None]:
        """A parallel branch, which comes back if it has to; with the relay that it comes back through."""
        carries = self._usage.is_read_outside(op)
        air, there = self.place(op, here, follows=carries or follows)
        if carries and waits:
            hops, back = self._back(there)
            gathering = self._gathering_peer(op, back) if hops or there.station is self._station else None
            if gathering is not None:
                return in_order([air, *hops]), gathering
        if carries:
            return in_order([air, *self._home(there)]), None
        if follows:
            hops, _ = self._back(there)
            return in_order([air, *hops]), None
        return air, None

    def _gathering_peer(self, op: Instruction, back: Whereabouts) -> Operand | None:
        """The relay at which branches come together that come back from elsewhere; None if they do at the station itself."""
        if back.at is not None and back.at != self._station.peer and not self._usage.is_made_inside(op, back.at):
            return back.at
        relays = self._station.relays
        leaves = back.at is None and self._usage.needs_peer(op)
        return relays[0].peer if leaves and relays and not relays[0].many else None

    def _parallel(self, op: Parallel, here: Whereabouts, *, follows: bool, waits: bool) -> tuple[AirNode, Whereabouts]:
        hops: list[AirNode] = []
        if self._usage.needs_peer(op):
            hops, here = self._back(here)
        branches, relays = [], set()
        for one in op.branches:
            air, relay = self._branch(one, here, follows=follows and not op.detached, waits=waits)
            branches.append(air)
            relays.add(relay)
        if op.detached:
            branches.append(NULL)
        air = at_once(branches)
        relay = relays.pop() if len(relays) == 1 else None
        if relay is not None:
            there = Whereabouts(self._station, relay, gathers=True)
        elif self._usage.needs_peer(op) and not op.detached:
            there = Whereabouts(self._station)
        else:
            there = here
        air.place, air.function = air.place or op.place, air.function or op.function
        return in_order([*hops, air]), there

    def _walk(self, op: Walk, here: Whereabouts, *, follows: bool, waits: bool) -> tuple[AirNode, Whereabouts]:
        hops: list[AirNode] = []
        moves = self._usage.needs_peer(op.body)
        if moves:
            hops, here = self._back(here)
        start = Whereabouts(self._station) if moves else here
        following = AirNode(f"next {op.iterator}", (), op.place, op.function)
        head = f"fold {op.iterable.text} {op.iterator}"
        there = start
        if op.mode in ("par", "rec"):
            body, relay = self._branch(op.body, start, follows=False, waits=waits)
            air = node(op, "par", node(op, head, AirNode("par", (body, following)), NEVER), NULL)
            there = here if relay is None else Whereabouts(self._station, relay, gathers=True)
        elif op.mode == "parseq":
            body, there = self._parseq(op, start, follows=follows, waits=waits)
            air = node(op, head, AirNode("par", (body, following)), NEVER)
        else:
            body, end = self.place(op.body, start, follows=True if op.mode == "" else follows)
            back, there = self._back(end) if moves and (follows or op.mode == "") else ([], start)
            body = in_order([body, *back])
            joined = in_order([body, following]) if op.mode == "" else AirNode("xor", (body, following))
            air = node(op, head, joined, NULL)
            if moves:
                there = Whereabouts(self._station)
        return in_order([*hops, air]), there

    def _parseq(self, op: Walk, start: Whereabouts, *, follows: bool, waits: bool) -> tuple[AirNode, Whereabouts]:
        """A branch of ``parseq`` goes back as far as the last relay of its ``on``, where what follows goes on."""
        carries = self._usage.is_read_outside(op.body)
        body, end = self.place(op.body, start, follows=carries or follows)
        station = end.station
        shared = [one for one in station.relays if not self._usage.is_made_inside(op, one.peer)]
        if station.parent is self._station and station.relays and shared == list(station.relays):
            last = station.relays[-1]
            if not last.many:
                hops = (
                    []
                    if end.at == last.peer
                    else self._hop_nodes(
                        [Hop(last.peer)],
                        f"a branch of `parseq` goes back from {_named(station)} as far as its last relay",
                    )
                )
                around = Station(last.peer, station.relays[:-1], self._station, op.place)
                return in_order([body, *hops]), Whereabouts(around, last.peer, gathers=waits)
        if not (carries or follows):
            return body, Whereabouts(self._station)
        if carries and not waits:
            return in_order([body, *self._home(end)]), Whereabouts(self._station)
        hops, back = self._back(end)
        gathers = waits and bool(hops) and back.at is not None and not self._usage.is_made_inside(op, back.at)
        return in_order([body, *hops]), Whereabouts(self._station, back.at if gathers else None, gathers=gathers)


def _named(station: Station) -> str:
    """A station for people."""
    if station.parent is None:
        return "the peer that begins"
    line = f" (line {station.place.line})" if station.place is not None else ""
    return f"{station.peer.text}{line}"


def _begins_with_wait(op: Instruction) -> bool:
    while isinstance(op, Steps) and op.steps:
        op = op.steps[0]
    return isinstance(op, StreamGate)


def place(root: Instruction, home: Station) -> AirNode:
    """AIR for a whole function."""
    air, _ = TopologyPlacer(root, home).place(root, Whereabouts(home, home.peer), follows=False)
    return air
