"""Service calls: the section ``[services]`` of ``fluvial.toml``, and the only place where its defaults stand."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fluvial.services.disclosure import Audience
from fluvial.services.values import RESULT_BYTES_MAX


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[services]``: limits of service calls, and who may ask about services."""

    disclosed_to: Annotated[
        Audience,
        Meta(
            description="who besides this peer itself may ask about its neighbours and services (peer.get_contact, peer.is_connected, stat): "
            "nobody, those whom the authorization trusts, or everybody"
        ),
    ] = "nobody"

    timeout_s: Annotated[
        float,
        Meta(gt=0, le=86_400, description="seconds for a call where neither function nor effector set their own limit"),
    ] = 20.0
    execution_timeout_s: Annotated[
        float, Meta(gt=0, le=86_400, description="seconds for a call to the execution seat")
    ] = 120.0
    calls_max: Annotated[int, Meta(ge=1, le=1_000_000, description="calls in progress, all services together")] = 1_024
    service_calls_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="calls in progress for one service that does not set its own limit")
    ] = 128
    waiting_max: Annotated[
        int, Meta(ge=0, le=1_000_000, description="calls that wait for a place, for each service")
    ] = 256
    waiting_s_max: Annotated[float, Meta(gt=0, le=86_400, description="seconds that a call waits for its place")] = 20.0
    threads_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="threads for functions that are no coroutines; calls that one peer brought have about three fifths of them at most",
        ),
    ] = 96
    result_bytes_max: Annotated[int, Meta(ge=1, le=2**30, description="largest result of a call")] = RESULT_BYTES_MAX
