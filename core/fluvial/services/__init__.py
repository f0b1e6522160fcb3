"""Services: the dispatcher, effectors made callable, native services and the built-in ones (``builtin``)."""

from fluvial.services.accounts import Accounts
from fluvial.services.dispatcher import Handler, Inline, Services
from fluvial.services.interface import FunctionInterface, Interface, Parameter
from fluvial.services.limits import ServiceLimits
from fluvial.services.service import Service, describe
from fluvial.services.status import Status

__all__ = [
    "Accounts",
    "FunctionInterface",
    "Handler",
    "Inline",
    "Interface",
    "Parameter",
    "Service",
    "ServiceLimits",
    "Services",
    "Status",
    "describe",
]
