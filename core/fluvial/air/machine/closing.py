"""Which of a peer's own answers need not be told: it says of those calls that they are answered, and not what (``facts.Closed``).

An answer is told so that others can use it, or compare it with what was passed on. Of neighbouring calls of one ``seq`` whose values
are read by nobody, or only as arguments of calls among them, nobody else needs more than that the flow goes on behind them. Others
believe their peer no more than before: it could have signed any answers.

Values are told if anything else reads them: an argument of a call that is told is compared with the value it comes from. So what
can be closed together depends on what else can: a call that is told is told with all those before it on which it builds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from fluvial.air.data.evidence import close
from fluvial.air.data.facts import Closed, Item, Result
from fluvial.air.machine.analyses import once_per_script
from fluvial.air.machine.plan import plan_of
from fluvial.air.machine.reads import names_in, reads_of
from fluvial.air.syntax import tree


class ClosableCall(NamedTuple):
    """A call that can be closed together with its neighbours.

    Attributes:
        number: the call's; neighbours have numbers one behind the other.
        last: number of the last call that has its value as an argument; its own if there is none.
        run: number of the first call in the row of neighbours.
    """

    number: int
    last: int
    run: int


@once_per_script
def members_of(script: tree.Script) -> Mapping[int, ClosableCall]:
    """The calls of a script that can be closed, by number; scripts are told apart by identity."""
    runs = [run for node in plan_of(script).nodes if type(node) is tree.Seq for run in _runs(node)]
    found: dict[int, ClosableCall] = {}
    for run in runs:
        lasts = [(call.number, _last_reader(script, call)) for call in run]
        members = [ClosableCall(number, last, run[0].number) for number, last in lasts if last is not None]
        found.update((member.number, member) for stretch in _stretches(members) for member in stretch)
    return found


def with_closed(script: tree.Script, items: Sequence[Item], counts: Callable[[Result], bool]) -> Sequence[Item]:
    """The items of a batch to be, with one fact in place of all answers of a stretch, in the step of the last of them.

    Args:
        script: what runs.
        items: steps and facts of one peer.
        counts: whether an answer is the one that this peer goes by.
    """
    members = members_of(script)
    if not members:
        return items
    answers: dict[tuple[bytes, int], dict[ClosableCall, tuple[int, Result]]] = {}
    for place, item in enumerate(items):
        if type(item) is Result and (member := members.get(item.node)) is not None and counts(item):
            answers.setdefault((item.frame, member.run), {})[member] = (place, item)
    written: dict[int, Closed | None] = {}
    for answered in answers.values():
        for stretch in _stretches(sorted(answered)):
            places, results = zip(*[answered[member] for member in stretch], strict=True)
            written.update(dict.fromkeys(places))
            written[max(places)] = close(results)
    if not written:
        return items
    told = (written.get(place, item) for place, item in enumerate(items))
    return [item for item in told if item is not None]


def _runs(seq: tree.Seq) -> Iterator[Sequence[tree.CallInstruction]]:
    """Rows of neighbours that are calls."""
    run: list[tree.CallInstruction] = []
    for child in seq.children:
        if type(child) is tree.CallInstruction:
            run.append(child)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _last_reader(script: tree.Script, call: tree.CallInstruction) -> int | None:
    """Which call is the last one that has a call's value as an argument; None if the value must be told, whoever reads it."""
    if any(isinstance(argument, tree.Error | tree.LastError) for argument in call.arguments):
        # These differ between peers: one may find that the call fails, and must see that it did not.
        return None
    if call.output is None:
        return call.number
    plan, name = plan_of(script), call.output.name
    if not isinstance(call.output, tree.Scalar) or name in plan.contested:
        return None
    readers = [read.number for read in reads_of(script).readers.get(name, ())]
    if not all(_reads_as_argument(plan.nodes[number], name) for number in readers):
        return None
    # Nothing reads a name in front of what sets it: the static checks see to that.
    return max(readers, default=call.number)


def _reads_as_argument(reader: tree.Instruction, name: str) -> bool:
    """Whether an instruction needs a name for nothing but the arguments of a call: others must know whose the call is, and what is called."""
    if type(reader) is not tree.CallInstruction:
        return False
    triplet = (reader.peer, reader.service, reader.function)
    return all(name != read for operand in triplet for read, _ in names_in(operand))


def _stretches(members: Sequence[ClosableCall]) -> Iterator[Sequence[ClosableCall]]:
    """The longest rows of two neighbours and more whose values nobody outside of the row reads.

    Args:
        members: of one run, in order; those that are not there are told.
    """
    stretch: list[ClosableCall] = []
    for member in reversed(members):
        if stretch and stretch[-1].number != member.number + 1:
            yield from _finished(stretch)
            stretch = []
        if member.last <= (stretch[0] if stretch else member).number:
            stretch.append(member)
        else:
            yield from _finished(stretch)
            stretch = []
    yield from _finished(stretch)


def _finished(stretch: Sequence[ClosableCall]) -> Iterator[Sequence[ClosableCall]]:
    if len(stretch) > 1:
        yield stretch[::-1]
