"""A case that the fuzzer reports comes again, and alone, by the options that it reports."""

from __future__ import annotations

import shlex
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from tests.fuzz.air import cases_of, options_parser
from tests.fuzz.sources import Case


def cases(options: str, most: int) -> list[Case]:
    found = options_parser().parse_args(shlex.split(options))
    return list(islice(cases_of(found, found.seeds or (0,)), most))


@pytest.mark.parametrize("options", ["--seeds 7", "--seeds 3-4 --count 3", "--seeds 7 --first 5 --count 2"])
def test_a_case_of_a_row_comes_again_by_its_options(options: str) -> None:
    found = cases(options, 6)
    assert len({msgspec.json.encode(case.scenario) for case in found}) == len(found) > 1
    for case in found:
        (again,) = cases(case.repeat, 2)
        assert again == case


def test_a_case_of_a_file_comes_again_by_its_options(tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / f"{seed}.json").write_bytes(msgspec.json.encode(cases(f"--seeds {seed}", 1)[0].scenario))
    found = cases(f"--scenarios {tmp_path}", 3)
    assert [cases(case.repeat, 2) for case in found] == [[found[0]], [found[1]]]
