"""Weather for AIR scripts, read from a station's JSON file such as ``{"Oslo": -3}``."""

import json

import anyio
import msgspec
from fluvial import hookimpl
from fluvial.effectors import Call, Effector, EffectorError, function
from fluvial.offers import Registry


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[effectors.weather]``."""

    station_file: str


class Weather(Effector[Config]):
    """What the station measures."""

    service_id = "weather"

    @function
    async def temperature(self, call: Call, city: str) -> float:
        """Degrees Celsius; status 404 if the station does not know the city."""
        text = await anyio.Path(self.config.station_file).read_text()
        if (celsius := json.loads(text).get(city)) is None:
            raise EffectorError(404, f"no reading for {city!r}")
        return float(celsius)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the effector."""
    registry.effector("weather", Weather)
