"""What this distribution offers: the transport ``tcp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluvial.hooks import hookimpl

from fluvial_transport_tcp.options import Options

if TYPE_CHECKING:
    from fluvial.offers import Registry
    from fluvial.ports import Context
    from fluvial.seats import Transport


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer ``tcp``; the transport itself is imported when it takes the seat."""
    registry.transport("tcp", _build, options=Options)


def _build(context: Context, options: Options) -> Transport:
    from fluvial_transport_tcp.transport import TcpTransport

    return TcpTransport(context, options)
