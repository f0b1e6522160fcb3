"""The few calls of etcd that the log needs, over etcd's JSON gateway (``/v3/…``); keys and values are bytes here.

Source: etcd 3.4, `rpc.proto <https://github.com/etcd-io/etcd/blob/release-3.4/etcdserver/etcdserverpb/rpc.proto>`_.
"""

from __future__ import annotations

import ssl
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec
from fluvial.errors import RemoteProtocolError, Unreachable

TIMEOUT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 64 << 20
"""Of one answer: 32 entries of 1 MiB, in base64."""


@dataclass(frozen=True, slots=True)
class EtcdItem:
    """A key with its value."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class EtcdRange:
    """Items in the order of their keys, and the revision of the store at which they were read."""

    items: Sequence[EtcdItem]
    revision: int


class EtcdGateway:
    """A client of one cluster; asks the next endpoint if one does not answer.

    Args:
        endpoints: such as ``http://127.0.0.1:2379``.
        tls: what to present and whom to believe; None for plain HTTP.
    """

    def __init__(self, endpoints: Sequence[str], tls: ssl.SSLContext | None = None) -> None:
        self.endpoints = tuple(endpoints)
        self._turn = 0
        verify: ssl.SSLContext | bool = True if tls is None else tls
        self._http = httpx.AsyncClient(verify=verify, timeout=TIMEOUT_S, trust_env=False)

    async def close(self) -> None:
        """Give connections back."""
        await self._http.aclose()

    async def range(self, start: bytes, end: bytes, *, limit: int, newest: bool = False) -> EtcdRange:
        """Items whose keys are at least ``start`` and below ``end``.

        Args:
            start: the first key.
            end: behind the last key.
            limit: how many.
            newest: the greatest keys, in descending order.
        """
        asked: dict[str, Any] = {"key": _text(start), "range_end": _text(end), "limit": str(limit)}
        if newest:
            asked |= {"sort_order": "DESCEND", "sort_target": "KEY"}
        return _range(await self._call("kv/range", asked))

    async def create(self, key: bytes, value: bytes, *, prefix_end: bytes, prefix: bytes) -> EtcdItem | None:
        """Set a key that does not exist; None if that was done, else the item with the greatest key between prefix and prefix_end."""
        last: dict[str, Any] = {"key": _text(prefix), "range_end": _text(prefix_end), "limit": "1"}
        last |= {"sort_order": "DESCEND", "sort_target": "KEY", "keys_only": True}
        answer = await self._call(
            "kv/txn",
            {
                "compare": [{"key": _text(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
                "success": [{"request_put": {"key": _text(key), "value": _text(value)}}],
                "failure": [{"request_range": last}],
            },
        )
        if answer.get("succeeded"):
            return None
        try:
            return _range(answer["responses"][0]["response_range"]).items[0]
        except (LookupError, TypeError) as error:
            raise RemoteProtocolError("etcd refused a key and did not say which keys there are") from error

    async def delete(self, start: bytes, end: bytes) -> None:
        """Delete all keys from ``start`` up to ``end``."""
        await self._call("kv/deleterange", {"key": _text(start), "range_end": _text(end)})

    async def watch(self, start: bytes, end: bytes, *, revision: int) -> AsyncIterator[EtcdItem]:
        """Items that are set from a revision of the store on, in order, for ever.

        Raises:
            Unreachable: the connection ended, or the revision was compacted away.
        """
        asked = {"create_request": {"key": _text(start), "range_end": _text(end), "start_revision": str(revision)}}
        async with self._streamed("watch", asked) as lines:
            async for line in lines:
                result = _decoded(line.encode()).get("result", {})
                if result.get("canceled") or result.get("compact_revision"):
                    raise Unreachable(f"etcd ended the watch: {str(result.get('cancel_reason', 'compacted'))[:200]}")
                for event in result.get("events", ()):
                    if event.get("type", "PUT") == "PUT":
                        yield _item(event["kv"])
        raise Unreachable("etcd ended the watch")

    async def _call(self, path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        failure = ""
        for _ in self.endpoints:
            endpoint = self._endpoint()
            try:
                answer = await self._http.post(f"{endpoint}/v3/{path}", content=msgspec.json.encode(asked))
                if answer.status_code == httpx.codes.OK and len(answer.content) <= ANSWER_BYTES_MAX:
                    return _decoded(answer.content)
                failure = f"{endpoint} answers {answer.status_code}: {answer.text[:200]}"
            except httpx.HTTPError as error:
                failure = f"{endpoint}: {type(error).__name__} {error}"
            self._turn += 1
        raise Unreachable(f"etcd does not answer: {failure}", hint="is the cluster running, and `endpoints` right?")

    @asynccontextmanager
    async def _streamed(self, path: str, asked: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[str]]:
        timeout = httpx.Timeout(TIMEOUT_S, read=None)
        endpoint = self._endpoint()
        try:
            content = msgspec.json.encode(asked)
            async with self._http.stream("POST", f"{endpoint}/v3/{path}", content=content, timeout=timeout) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise Unreachable(f"{endpoint} answers {answer.status_code}")
                yield answer.aiter_lines()
        except httpx.HTTPError as error:
            self._turn += 1
            raise Unreachable(f"{endpoint}: {type(error).__name__} {error}") from error

    def _endpoint(self) -> str:
        return self.endpoints[self._turn % len(self.endpoints)].rstrip("/")


def _range(answer: Mapping[str, Any]) -> EtcdRange:
    try:
        return EtcdRange([_item(one) for one in answer.get("kvs", ())], int(answer["header"]["revision"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteProtocolError(f"etcd's answer has no items: {error}") from error


def _item(values: Mapping[str, Any]) -> EtcdItem:
    return EtcdItem(b64decode(values["key"]), b64decode(values.get("value", "")))


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise RemoteProtocolError(f"etcd's answer is no JSON: {error}") from error


def _text(data: bytes) -> str:
    return b64encode(data).decode()
