"""Partial values of one id heal each other: what each shows of the value is put together, until it is whole.

What goes through trees is done in slices: a stranger's value may have hundreds of thousands of parts.
"""

from __future__ import annotations

from collections.abc import Mapping

from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.content_slices import sliced_content_id
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.air.data.partial import Content, Fork, Leaf, Partial, Tree, leaves_in
from fluvial.errors import RemoteProtocolError


def merged(one: Content, other: Content) -> Content:
    """All that two say of the same value.

    Raises:
        RemoteProtocolError: what they say is no value: who signed the id has made up a tree.
    """
    return finished(merging(one, other, SlicePace()))


def merging(one: Content, other: Content, pace: SlicePace) -> Found[Content]:
    """As :func:`merged`, in slices."""
    if not isinstance(one, Partial) or one is other:
        return one
    if not isinstance(other, Partial):
        return other
    if one.tree is None or other.tree is None:
        return other if one.tree is None else one
    tree = yield from _joining(one.tree, other.tree, pace)
    value = yield from _whole(tree, one, pace)
    if value is None:
        return Partial(one.id, tree, one.size, one.is_object)
    if (yield from sliced_content_id(value)) != one.id:
        raise RemoteProtocolError("the parts of a value do not make up the value that was signed")
    return value


def _whole(tree: Tree, like: Partial, pace: SlicePace) -> Found[Json | None]:
    """The value of which a tree shows all, None if it does not. Raises RemoteProtocolError if fields are not in order."""
    fields: dict[str, Content] = {}
    elements: list[Content] = []
    last, whole = None, True
    for _, leaf in leaves_in(tree, like.size):
        check_order(last, leaf)
        last = leaf.key
        whole = whole and not isinstance(leaf.value, Partial)
        if leaf.key is None:
            elements.append(leaf.value)
        else:
            fields[leaf.key] = leaf.value
        if pace.over():
            yield
    if not whole or len(fields) + len(elements) < like.size:
        return None
    return fields if like.is_object else elements


def check_order(last: str | None, leaf: Leaf) -> None:
    """Raise RemoteProtocolError unless a field comes behind the one before it.

    Texts are in the order of their UTF-8 bytes: that of characters.
    """
    if last is not None and leaf.key is not None and leaf.key <= last:
        raise RemoteProtocolError("the fields of a value are not in the order of their names")


def _joining(one: Tree, other: Tree, pace: SlicePace) -> Found[Tree]:
    todo: list[tuple[Tree, Tree] | None] = [(one, other)]
    done: list[Tree] = []
    while todo:
        if pace.over():
            yield
        if (pair := todo.pop()) is None:  # of the last two a fork is made
            right = done.pop()
            done.append(Fork(done.pop(), right))
            continue
        one, other = pair
        if isinstance(one, bytes) or one is other:
            done.append(other)
        elif isinstance(other, bytes):
            done.append(one)
        elif isinstance(one, Fork) and isinstance(other, Fork):
            todo += (None, (one.right, other.right), (one.left, other.left))
        else:
            assert isinstance(one, Leaf), "both have the same id,"
            assert isinstance(other, Leaf), "and so the same shape"
            done.append(Leaf(one.key, (yield from merging(one.value, other.value, pace))))
    return done[0]


def adds(content: Content, known: Content) -> bool:
    """Whether what is said of a value shows anything that is not known of it."""
    return finished(adding(content, known, SlicePace()))


def adding(content: Content, known: Content, pace: SlicePace) -> Found[bool]:
    """As :func:`adds`, in slices."""
    if not isinstance(known, Partial) or content is known:
        return False
    if not isinstance(content, Partial):
        return True
    if content.tree is None or known.tree is None:
        return content.tree is not None
    todo = [(content.tree, known.tree)]
    while todo:
        if pace.over():
            yield
        more, here = todo.pop()
        if isinstance(more, bytes):
            continue
        if isinstance(more, Fork) and isinstance(here, Fork):
            todo += ((more.right, here.right), (more.left, here.left))
        elif isinstance(more, Leaf) and isinstance(here, Leaf):
            if (yield from adding(more.value, here.value, pace)):
                return True
        else:
            return True
    return False


def united(one: Mapping[ContentId, Content], other: Mapping[ContentId, Content]) -> dict[ContentId, Content]:
    """All that is said of values in two places; raises as :func:`merged`."""
    return finished(uniting(one, other))


def uniting(one: Mapping[ContentId, Content], other: Mapping[ContentId, Content]) -> Found[dict[ContentId, Content]]:
    """As :func:`united`, in slices."""
    both, pace = dict(one), SlicePace()
    for key, content in other.items():
        both[key] = (yield from merging(one[key], content, pace)) if key in one else content
        if pace.over():
            yield
    return both
