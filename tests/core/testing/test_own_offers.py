"""Core's own offers do what every part in their seats must."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fluvial.defaults.no_consensus import NoConsensus
from fluvial.defaults.signatures import SignatureAuthorization
from fluvial.defaults.static_routing import ANNOUNCED_PEERS_MAX, StaticOptions, StaticRouting
from fluvial.effectors import NoConfig
from fluvial.ports import Context
from fluvial.services.native import NativeExecution, NativeOptions
from fluvial.testing.authorization import AuthorizationConformance
from fluvial.testing.consensus import ConsensusConformance
from fluvial.testing.execution import ExecutionConformance
from fluvial.testing.routing import RoutingConformance


class TestStatic(RoutingConformance):
    contacts_max = ANNOUNCED_PEERS_MAX

    @pytest.fixture
    def build(self) -> Callable[[Context], StaticRouting]:
        return lambda context: StaticRouting(context, StaticOptions())


class TestSignatures(AuthorizationConformance):
    @pytest.fixture
    def build(self) -> Callable[[Context], SignatureAuthorization]:
        return lambda context: SignatureAuthorization(context, NoConfig())


class TestNative(ExecutionConformance):
    @pytest.fixture
    def build(self) -> Callable[[Context], NativeExecution]:
        return lambda context: NativeExecution(
            context, NativeOptions(services=("fluvial.services.builtin.numbers:Cmp",))
        )


class TestNone(ConsensusConformance):
    @pytest.fixture
    def build(self) -> Callable[[Context], NoConsensus]:
        return lambda context: NoConsensus(context, NoConfig())
