"""The book of built-in services says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fluvial.services import describe
from fluvial.services.builtin import BUILTINS
from fluvial.services.reference import page

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_that_of_the_code() -> None:
    written = (ROOT / "docs" / "services.md").read_text()
    assert written == page(), "run: python -m fluvial.services.reference > docs/services.md"


@pytest.mark.parametrize("service", BUILTINS, ids=lambda service: service.service_id)
def test_every_function_is_documented(service: type) -> None:
    interface = describe(service)
    assert interface.doc
    assert all(function.doc for function in interface.functions.values())


def test_every_deviation_of_the_code_is_listed() -> None:
    marks = sum(path.read_text().count("# Deviation:") for path in (ROOT / "core/fluvial/services").rglob("*.py"))
    section = re.search(
        r"^## Built-in services\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "deviations.md").read_text(), re.M | re.S
    )
    assert section is not None
    listed = section.group(1).count("\n- ")
    assert listed == marks
