"""Extra ``dice``: an effector by which guests roll dice; its grant says how many sides there may be."""

from typing import Annotated

import msgspec
from fluvial import hookimpl
from fluvial.effectors import EffectorError, NoConfig
from fluvial.host_interfaces import Guest, HostInterface, HostSession
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Contributions, Part


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``settings`` of a grant."""

    sides_max: Annotated[int, msgspec.Meta(ge=2, description="sides of a die")] = 20


class Dice(HostInterface):
    """What guests import."""

    effector = "dice"
    options = Settings
    wit = """
        package example:dice@0.1.0;
        interface rolls { roll: func(sides: u32) -> result<u32, string>; }
    """

    def __init__(self, context: Context) -> None:
        self._rng = context.rng

    def session(self, guest: Guest, options: Settings) -> HostSession:
        """The functions for one call of a service."""

        async def roll(sides: int) -> int:
            if not 2 <= sides <= options.sides_max:
                raise EffectorError(400, f"a die has 2 to {options.sides_max} sides")
            return self._rng.randint(1, sides)

        return HostSession({"roll": roll})


class DicePart(Part):
    """Gives the interface to the execution."""

    def __init__(self, context: Context, options: NoConfig) -> None:
        self._dice = Dice(context)

    def contributions(self) -> Contributions:
        """The interface."""
        return Contributions(extensions=(self._dice,))


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the extra."""
    registry.extra("dice", DicePart, options=NoConfig)
