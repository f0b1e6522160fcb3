"""``fluvial.toml``, environment and ``--set`` into typed settings, with all mistakes at once and the origin of every value."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fluvial.config import Configuration, InvalidSettings, entries, from_values, installed_plugins, load, read
from fluvial.config.document import key_lines, parse_value
from fluvial.config.schema import json_schema
from fluvial.config.settings import CoreSections, resolve_sqlite
from fluvial.config.template import render
from fluvial.errors import ConfigError, PluginError
from fluvial.identity import KeyPair
from fluvial.plugins import Plugins, load_plugins
from hypothesis import given
from hypothesis import strategies as st

PEER = KeyPair.from_secret(b"\x01" * 32).peer_id
ADDRESS = f"/ip4/127.0.0.1/tcp/7771/p2p/{PEER}"
PLUGIN = """
import msgspec
from fluvial import hookimpl
from fluvial.effectors import Effector, NoConfig

class Wire(msgspec.Struct, frozen=True):
    listen: tuple[str, ...] = ()
    frame_bytes_max: int = 1000

    def __post_init__(self):
        if self.frame_bytes_max == 13:
            raise ValueError("13 brings bad luck")

class Config(msgspec.Struct, frozen=True):
    station_file: str

class Weather(Effector[Config]):
    service_id = "weather"

@hookimpl
def fluvial_register(registry):
    registry.transport("wire", object, options=Wire)
    registry.effector("weather", Weather)
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    folder = tmp_path / "plugins.d"
    folder.mkdir()
    (folder / "wire.py").write_text(PLUGIN)
    return load_plugins(folder=folder)


class Maker:
    """Loads texts as a ``fluvial.toml`` with a transport ``wire``."""

    def __init__(self, folder: Path, plugins: Plugins) -> None:
        self.file = folder / "fluvial.toml"
        self.plugins = plugins

    def load(self, text: str, *sets: str, **environment: str) -> Configuration:
        self.file.write_text(text)
        return load(read(self.file, assignments=sets, environment=environment), plugins=self.plugins)

    def problems(self, text: str, *sets: str, **environment: str) -> list[str]:
        with pytest.raises(InvalidSettings) as caught:
            self.load(text, *sets, **environment)
        return [str(problem).replace(f"{self.file.parent}/", "") for problem in caught.value.problems]


@pytest.fixture
def make(tmp_path: Path, plugins: Plugins) -> Maker:
    return Maker(tmp_path, plugins)


WIRE = 'transport = "wire"\n'


def test_an_empty_file_is_all_defaults(make: Maker) -> None:
    settings = make.load(WIRE).settings
    assert settings.network == "fluvial"
    assert settings.particles.ttl_ms_max == 120_000
    assert {seat: choice.kind for seat, choice in settings.seats.items()} == {
        "transport": "wire",
        "routing": "static",
        "authorization": "signatures",
        "execution": "native",
        "consensus": "none",
    }
    assert settings.effectors == {}


def test_sections_of_plugins_become_their_structs(make: Maker) -> None:
    settings = make.load(
        f'relays = ["{ADDRESS}"]\n[transport]\nkind = "wire"\nlisten = ["here"]\n[routing]\npeers = ["{ADDRESS}"]\n'
        '[effectors.weather]\nstation_file = "station.json"\n'
    ).settings
    assert settings.seats["transport"].options.listen == ("here",)  # type: ignore[attr-defined]
    assert settings.seats["routing"].options.peers == (ADDRESS,)  # type: ignore[attr-defined]
    assert settings.effectors["weather"].build(None).config.station_file == "station.json"
    assert [relay.peer for relay in settings.relays] == [PEER]


def test_settings_are_frozen(make: Maker) -> None:
    settings = make.load(WIRE).settings
    with pytest.raises(AttributeError):
        settings.network = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        settings.particles.hops_max = 1  # type: ignore[misc]


def test_relative_paths_start_at_the_files_folder(make: Maker, tmp_path: Path) -> None:
    settings = make.load(WIRE).settings
    assert settings.key_file == tmp_path / "secrets/peer.key"
    assert settings.storage_url == f"sqlite:///{tmp_path}/state/fluvial.db"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:////var/x.db", "postgresql+psycopg://h/db"])
def test_other_database_urls_stay_as_they_are(url: str, tmp_path: Path) -> None:
    assert resolve_sqlite(url, tmp_path) == url


def test_all_mistakes_are_told_at_once_with_their_lines(make: Maker) -> None:
    assert make.problems(
        "\n".join(
            [
                'netwrok = "x"',
                f'relays = ["{ADDRESS}", "nowhere"]',
                "[transport]",
                'kind = "wire"',
                "frame_byte_max = 5",
                "listen = [",
                '  "ok",',
                "  3,",
                "]",
                "[routing]",
                'kind = "statc"',
                "[particles]",
                "hops_max = 0",
                'ttl_ms_max = "long"',
                "[effectors.weather]",
                "[effectors.wether]",
            ]
        )
    ) == [
        (
            "fluvial.toml:1: unknown key `netwrok`\n    did you mean `network`?   keys offered: authorization, blobs, consensus, effectors, event_loop, "
            "execution, extras, identity, ledger, network, particles, plugins, relays, routing, services, storage, telemetry, transport"
        ),
        "fluvial.toml:13: `particles.hops_max`: expected `int` >= 1",
        "fluvial.toml:14: `particles.ttl_ms_max`: expected `int`, got `str`",
        "fluvial.toml:2: `relays`: 'nowhere' is no address like /ip4/127.0.0.1/tcp/7771[/p2p/12D3KooW…]",
        "fluvial.toml:5: unknown key `frame_byte_max` in [transport]\n    did you mean `frame_bytes_max`?   "
        f"keys offered by {make.plugins.select('transport', 'wire').distribution}: frame_bytes_max, listen".replace(
            f"{make.file.parent}/", ""
        ),
        "fluvial.toml:6: `transport.listen[1]`: expected `str`, got `int`",
        (
            "fluvial.toml:11: no loaded plugin offers routing 'statc'\n    did you mean `static`?\n    "
            f"installed for routing: kademlia ({make.plugins.select('routing', 'kademlia').distribution}), "
            f"static ({make.plugins.select('routing', 'static').distribution})"
        ),
        "fluvial.toml:15: `effectors.weather.station_file` is missing",
        "fluvial.toml:16: no loaded plugin offers effector 'wether'\n    did you mean `weather`?\n    "
        f"installed for effector: weather ({make.file.parent}/plugins.d/wire.py)".replace(f"{make.file.parent}/", ""),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("routing = 3", "fluvial.toml:2: `routing` must be a table or, for a seat, a name"),
        ("[routing]\nkind = 3", "fluvial.toml:3: `routing.kind` must be a text, not 3"),
        ("effectors = 3", "fluvial.toml:2: `effectors` must hold tables: [effectors.NAME]"),
        ("storage = 3", "fluvial.toml:2: `storage` must be a table, not 3"),
        ("[plugins]\non_failure = 'shrug'", "fluvial.toml:3: `plugins.on_failure`: invalid enum value 'shrug'"),
        ("[routing]\npeers = ['x']", "fluvial.toml:2: [routing] 'x' is no address"),
        ("transport.frame_bytes_max = 13", "fluvial.toml:1: [transport] 13 brings bad luck"),
        ("relays = 3", "fluvial.toml:2: `relays`: expected `array`"),
        ('network = ""', "fluvial.toml:2: `network`: '' does not have 1 to 64 printable ASCII characters"),
        (f'network = "{"x" * 65}"', "fluvial.toml:2: `network`: 'xxxxx"),
        ('network = "a\\n"', "fluvial.toml:2: `network`: 'a\\n' does not have"),
        (
            "[telemetry]\nmetrics_listen = '/dns4/x.example/tcp/1'",
            "fluvial.toml:3: `metrics_listen`: '/dns4/x.example/tcp/1' is a name",
        ),
        ("[telemetry]\nmetrics_listen = ':9464'", "fluvial.toml:3: `metrics_listen`: ':9464' is no address like"),
        ('network = "größe"', "fluvial.toml:2: `network`: 'größe' does not have"),
    ],
)
def test_a_mistake_is_told_where_it_is(make: Maker, text: str, problem: str) -> None:
    head = 'transport.kind = "wire"\n'
    (found,) = make.problems(head + text)
    assert found.startswith(problem)


def test_unusable_plugin_settings_import_nothing(tmp_path: Path) -> None:
    (tmp_path / "plugins.d").mkdir()
    (tmp_path / "plugins.d" / "wire.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'x')")
    document = from_values({"plugins": {"path": "plugins.d", "disabld": ["wire"]}}, base_dir=tmp_path)
    with pytest.raises(InvalidSettings, match="unknown key `disabld`"):
        load(document)
    assert not (tmp_path / "trace").exists()


def test_the_folder_of_plugins_starts_at_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "wire.py").write_text(PLUGIN)
    values = {"plugins": {"path": "my"}, "transport": "wire"}
    assert load(from_values(values, base_dir=tmp_path)).settings.seats["transport"].kind == "wire"
    with pytest.raises(InvalidSettings, match="no such folder"):
        installed_plugins(from_values({"plugins": {"path": "away"}}, base_dir=tmp_path))


def test_a_broken_plugin_is_left_out_or_refused_as_the_operator_says(tmp_path: Path) -> None:
    (tmp_path / "wire.py").write_text(PLUGIN)
    (tmp_path / "sick.py").write_text("1/0")
    plugins = load_plugins(folder=tmp_path)
    configuration = load(from_values({"transport": "wire"}, base_dir=tmp_path), plugins=plugins)
    assert [record.name for record in configuration.plugins.failed] == ["sick"]
    strict = from_values({"transport": "wire", "plugins": {"on_failure": "refuse"}}, base_dir=tmp_path)
    with pytest.raises(PluginError, match=r"sick .* failed: ZeroDivisionError"):
        load(strict, plugins=plugins)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        read(tmp_path / "fluvial.toml")
    assert "fluvial init" in caught.value.hint


def test_what_is_no_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "fluvial.toml").write_text("[identity]\nkey_file = \n")
    with pytest.raises(ConfigError, match=r"fluvial.toml:2:12: this is no TOML"):
        read(tmp_path / "fluvial.toml")
    (tmp_path / "fluvial.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "fluvial.toml")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(make: Maker) -> None:
    text = WIRE + 'network = "file"\n[particles]\nhops_max = 1\nlive_max = 1\nttl_ms_max = 1\n'
    configuration = make.load(
        text,
        "particles.hops_max=3",
        FLUVIAL_PARTICLES__HOPS_MAX="2",
        FLUVIAL_PARTICLES__LIVE_MAX="2",
        FLUVIAL_CONFIG="somewhere",
        HOME="/",
    )
    particles = configuration.settings.particles
    assert (particles.hops_max, particles.live_max, particles.ttl_ms_max) == (3, 2, 1)
    origins = {entry.key: entry.origin for entry in entries(configuration)}
    assert origins["particles.hops_max"] == "--set particles.hops_max"
    assert origins["particles.live_max"] == "env FLUVIAL_PARTICLES__LIVE_MAX"
    assert origins["particles.ttl_ms_max"] == f"{make.file}:6"
    assert origins["particles.data_bytes_max"] == "default"
    assert origins["transport.kind"] == f"{make.file}:1"
    assert origins["transport.frame_bytes_max"].startswith("default of ")


@pytest.mark.parametrize(
    ("assignment", "network", "listen"),
    [
        ("network=plain", "plain", ()),
        ('network="quoted"', "quoted", ()),
        ("network=7", "7", ()),
        ("network=a=b", "a=b", ()),
        ('transport.listen=["x", "y"]', "fluvial", ("x", "y")),
        ('transport={kind="wire", listen=["z"]}', "fluvial", ("z",)),
        ("transport=wire", "fluvial", ()),
        ('"transport"."listen" = ["q"]', "fluvial", ("q",)),
    ],
)
def test_set_takes_toml_values_and_plain_texts(
    make: Maker, assignment: str, network: str, listen: tuple[str, ...]
) -> None:
    settings = make.load(WIRE, assignment).settings
    assert settings.network == network
    assert settings.seats["transport"].options.listen == listen  # type: ignore[attr-defined]


def test_a_seat_set_as_a_whole_forgets_the_files_options(make: Maker) -> None:
    text = '[transport]\nkind = "tcp"\nkeepalive = 3\n'
    assert make.load(text, "transport=wire").settings.seats["transport"].kind == "wire"
    assert make.load(text, FLUVIAL_TRANSPORT="wire").settings.seats["transport"].kind == "wire"


def test_options_can_be_set_under_a_seat_named_in_short(make: Maker) -> None:
    settings = make.load(WIRE, FLUVIAL_TRANSPORT__LISTEN='["x"]').settings
    assert settings.seats["transport"].options.listen == ("x",)  # type: ignore[attr-defined]


@pytest.mark.parametrize("assignment", ["network", "=3", "a b=3", "", "network.=1", "a=1\nb=2"])
def test_what_is_no_assignment_is_refused(make: Maker, assignment: str) -> None:
    if "\n" in assignment:
        assert "unknown key `a`" in make.problems(WIRE, assignment)[0]
    else:
        with pytest.raises(ConfigError, match="no assignment"):
            make.load(WIRE, assignment)


def test_overrides_are_checked_like_the_file(make: Maker) -> None:
    problems = make.problems(WIRE, "particles.hops=3", FLUVIAL_NETWROK="x", FLUVIAL_SERVICES__TIMEOUT_S="soon")
    assert [problem.splitlines()[0] for problem in problems] == [
        "env FLUVIAL_NETWROK: unknown key `netwrok`",
        "env FLUVIAL_SERVICES__TIMEOUT_S: `services.timeout_s`: expected `float`, got `str`",
        "--set particles.hops: unknown key `hops` in [particles]",
    ]
    assert make.problems(WIRE, FLUVIAL_FOO__BAR="1")[0].startswith("env FLUVIAL_FOO__BAR: unknown key `foo`")
    with pytest.raises(ConfigError, match="`network` is no table"):
        make.load(WIRE + 'network = "x"', "network.name=y")


def test_lines_are_found_in_every_form_of_toml() -> None:
    text = (
        'a = 1 # [no]\n\n"b c".d = """\nx = 1\n[y]\n"""\n[t]\nlist = [\n  1, # ]\n  "]",\n]\n'
        "e = { f = 1, g = { h = 2 } }\n[[arr]]\nk = 1\n[arr.in]\nm = 1\n[[arr]]\nk = 2\n[x.y.z]\n[x]\nw = ''' [q]\n'''\n"
    )
    assert (
        dict(key_lines(text))
        == {
            ("a",): 1,
            ("b c",): 3,
            ("b c", "d"): 3,
            ("t",): 7,
            ("t", "list"): 8,
            ("t", "e"): 12,
            ("t", "e", "f"): 12,
            ("t", "e", "g"): 12,
            ("t", "e", "g", "h"): 12,
            ("arr", 0): 13,
            ("arr", 0, "k"): 14,
            ("arr", 0, "in"): 15,
            ("arr", 0, "in", "m"): 16,
            ("arr", 1): 17,
            ("arr", 1, "k"): 18,
            ("x", "y", "z"): 19,
            ("x",): 20,
            ("x", "w"): 21,
        }
        | {}
    )


@given(st.text())
def test_any_text_is_a_value_on_the_command_line(text: str) -> None:
    value = parse_value(text)
    assert value == text or tomllib.loads(f"value = {text}") == {"value": value}


def test_the_template_is_the_defaults(plugins: Plugins, tmp_path: Path) -> None:
    text = render(load_plugins(), {"transport": {"listen": ["/ip4/127.0.0.1/tcp/1"]}})
    assert load(read(_written(tmp_path, text))).settings.seats["transport"].kind == "tcp"
    uncommented = "\n".join(
        line[1:] if line[:1] == "#" and line[1:2] not in (" ", "") else line for line in text.split("\n")
    )
    values = tomllib.loads(uncommented)
    core = msgspec.convert({key: values[key] for key in CoreSections.__struct_fields__}, CoreSections)
    assert core == CoreSections()
    assert values["transport"]["listen"] == ["/ip4/127.0.0.1/tcp/1"]
    assert load(read(_written(tmp_path, uncommented))).settings.particles == CoreSections().particles


def test_the_template_keeps_choices_for_a_plugin_that_is_away() -> None:
    text = render(load_plugins(entry_points=[]), {"transport": {"listen": ["x"]}})
    assert tomllib.loads(text)["transport"] == {"kind": "tcp", "listen": ["x"]}


def test_the_schema_describes_core_and_plugins(plugins: Plugins) -> None:
    schema = json_schema(plugins)
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {*CoreSections.__struct_fields__, "effectors", "extras", *(_seats())}
    wire = next(form for form in schema["properties"]["transport"]["anyOf"] if form.get("title") == "transport wire")
    assert wire["properties"]["kind"] == {"const": "wire"}
    assert wire["required"] == ["kind"]
    assert schema["properties"]["effectors"]["properties"]["weather"]["required"] == ["station_file"]
    for reference in _references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def _written(folder: Path, text: str) -> Path:
    (folder / "written.toml").write_text(text)
    return folder / "written.toml"


def _seats() -> list[str]:
    return ["transport", "routing", "authorization", "execution", "consensus"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for inner in value.values() for found in _references(inner)]
    return [found for inner in value for found in _references(inner)] if isinstance(value, list) else []


# --- numbers


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("particles.ttl_ms_max=100000000000000000000000", "expected `int` <= 86400000"),
        ("particles.live_max=9223372036854775808", "expected `int` <= 10000000"),
        ("particles.resend_after_ms=1e30", "got `float`"),
        ("services.timeout_s=inf", "expected `float` <= 86400.0"),
        ("services.timeout_s=nan", "expected `float` > 0.0"),
        ("storage.keep_ms=9223372036854775807", "expected `int` <= 315360000000"),
        (f"particles.hops_max={'9' * 5000}", "expected `int`, got `str`"),
    ],
)
def test_numbers_that_are_too_large_are_refused(make: Maker, setting: str, problem: str) -> None:
    (found,) = make.problems(WIRE, setting)
    assert found.startswith(f"--set {setting.partition('=')[0]}: ")
    assert problem in found


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000 + "]" * 5000])
def test_a_file_with_more_than_can_be_read_is_told(tmp_path: Path, value: str) -> None:
    (tmp_path / "fluvial.toml").write_text(f"[particles]\nttl_ms_max = {value}\n")
    with pytest.raises(ConfigError, match=r"fluvial.toml"):
        read(tmp_path / "fluvial.toml")


def test_every_number_of_core_has_a_largest_value() -> None:
    """Else it is refused by whatever it reaches first, long after the settings were checked."""
    schemas = msgspec.json.schema(CoreSections)["$defs"]
    boundless = [
        f"{section}.{name}"
        for section, schema in schemas.items()
        for name, one in schema.get("properties", {}).items()
        if one.get("type") in ("integer", "number") and "maximum" not in one
    ]
    assert len(schemas) > 5
    assert boundless == []
