"""Names of run-time instances: the same everywhere, and never the same for two."""

from __future__ import annotations

from fluvial.air.data.facts import (
    FRAME_BYTES,
    ROOT_FRAME,
    Closed,
    Instance,
    Sent,
    index_element,
    instances_of,
    iteration_frame,
    written_element,
)
from hypothesis import given
from hypothesis import strategies as st

FRAMES = st.just(ROOT_FRAME) | st.binary(min_size=FRAME_BYTES, max_size=FRAME_BYTES)
NODES = st.integers(0, 2**32 - 1)
ELEMENTS = NODES.map(index_element) | st.builds(Instance, FRAMES, NODES).map(written_element)


@given(st.lists(st.tuples(FRAMES, NODES, ELEMENTS), unique=True, min_size=2, max_size=20))
def test_iterations_of_other_folds_frames_or_elements_have_other_frames(places: list[tuple[bytes, int, bytes]]) -> None:
    frames = {iteration_frame(*place) for place in places}
    assert len(frames) == len(places)
    assert all(len(frame) == FRAME_BYTES for frame in frames)


def test_frames_are_part_of_the_data_format() -> None:
    assert iteration_frame(ROOT_FRAME, 3, index_element(0)).hex() == "2fef98519982a7fdc27a4a9cecfa6496"
    assert (
        iteration_frame(b"F" * 16, 3, written_element(Instance(b"W" * 16, 7))).hex()
        == "834c840f9c36a3d050d84aaf7f03495e"
    )


def test_fact_names_its_instance() -> None:
    assert instances_of(Sent(b"F" * 16, 7, True)) == (Instance(b"F" * 16, 7),)
    assert instances_of(Closed(b"F" * 16, (3, 7), bytes(32))) == (Instance(b"F" * 16, 3), Instance(b"F" * 16, 7))
