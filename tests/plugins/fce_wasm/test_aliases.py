"""Which alias names which service, and what the aliases of a service are, agree."""

from __future__ import annotations

from fluvial_fce_wasm.aliases import AliasBook
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from("abcde")


@given(st.lists(st.tuples(st.sampled_from(["set", "remove", "forget"]), NAMES, NAMES), max_size=40))
def test_both_ends_agree(steps: list[tuple[str, str, str]]) -> None:
    book, plain = AliasBook({"a": "x"}), {"a": "x"}
    for what, alias, service in steps:
        if what == "set":
            book.set(alias, service)
            plain[alias] = service
        elif what == "remove":
            book.remove(alias)
            plain.pop(alias, None)
        else:
            book.forget(service)
            plain = {one: of for one, of in plain.items() if of != service}
        assert len(book) == len(plain)
        for name in "abcdex":
            assert book.service(name) == plain.get(name)
            assert book.of(name) == sorted(one for one, of in plain.items() if of == name)
            assert book.count(name) == len(book.of(name))
