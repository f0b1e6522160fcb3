"""Discovery of plugins: each alone, nobody wins by order, everything that goes wrong is told."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pluggy
import pytest
import structlog
from fluvial import hooks
from fluvial.addresses import Contact
from fluvial.defaults.static_routing import StaticOptions, StaticRouting
from fluvial.errors import PluginError
from fluvial.identity import KeyPair
from fluvial.observers import Observers
from fluvial.offers import Registry
from fluvial.plugins import PluginRecord, Plugins, load_plugins
from prometheus_client import CollectorRegistry

PEER = KeyPair.from_secret(b"\x01" * 32).peer_id
HEAD = "import msgspec\nfrom fluvial import hookimpl\nfrom fluvial.effectors import Effector, NoConfig\n"
OFFER = HEAD + "@hookimpl\ndef fluvial_register(registry):\n    registry.routing({name!r}, object, options=NoConfig)\n"


class Folder:
    """A folder of one-file plugins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> None:
        (self.path / f"{name}.py").write_text(text)

    def load(self, *disabled: str) -> Plugins:
        return load_plugins(disabled=disabled, folder=self.path, entry_points=[])

    def record(self, name: str = "plugin") -> PluginRecord:
        return {record.name: record for record in self.load().records}[name]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_core_comes_in_through_the_same_door() -> None:
    plugins = load_plugins()
    record = next(record for record in plugins.records if record.name == "core")
    assert (record.distribution, record.state, record.error) == ("fluvial", "loaded", "")
    assert {(offer.kind, offer.name) for offer in record.offers} >= {
        ("routing", "static"),
        ("authorization", "signatures"),
        ("execution", "native"),
        ("consensus", "none"),
    }


def test_a_file_in_the_folder_is_a_plugin(folder: Folder) -> None:
    folder.write("near", OFFER.format(name="near") + "__version__ = '3.1'\n")
    folder.write("_helper", "raise RuntimeError")
    plugins = folder.load()
    assert [(record.name, record.version, record.state) for record in plugins.records] == [("near", "3.1", "loaded")]
    assert plugins.select("routing", "near").plugin == "near"


def test_plugins_can_be_brought_along(folder: Folder) -> None:
    """As objects with hooks, or as files wherever they lie; under the names that they are given."""

    class Own:
        @hooks.hookimpl
        def fluvial_register(self, registry: Registry) -> None:
            registry.routing("own", StaticRouting, options=StaticOptions)

    folder.write("near", OFFER.format(name="near"))
    plugins = load_plugins(entry_points=[], given={"mine": Own(), "yours": folder.path / "near.py"})
    assert [(one.name, one.state) for one in plugins.records] == [("mine", "loaded"), ("yours", "loaded")]
    assert plugins.select("routing", "own").plugin == "mine"
    assert plugins.select("routing", "near").plugin == "yours"
    twice = load_plugins(entry_points=[], folder=folder.path, given={"near": Own()})
    assert [one.state for one in twice.records] == ["failed", "failed"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no such folder"):
        load_plugins(folder=tmp_path / "away", entry_points=[])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library' (plugin.py:1)"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3 (plugin.py:1)"),
        ("1/0", "ZeroDivisionError: division by zero (plugin.py:1)"),
        ("X = 1", "it implements no hook"),
        (
            HEAD + "@hookimpl\ndef fluvial_registre(registry): ...",
            "there is no hook 'fluvial_registre' did you mean `fluvial_register`?",
        ),
        (HEAD + "@hookimpl\ndef fluvial_register(registry, colour): ...", "colour"),
        (HEAD + "@hookimpl\nasync def fluvial_peer_connected(peer): ...", "coroutine function"),
        (HEAD + "@hookimpl(wrapper=True)\ndef fluvial_peer_connected(peer): yield", "wrapper"),
        (OFFER.format(name="near") + "    raise ValueError('no luck')", "ValueError: no luck (plugin.py:7)"),
        (OFFER.format(name="near").replace("NoConfig)", "dict)"), "no msgspec.Struct"),
        (OFFER.format(name="near") + "    registry.effector('mute', Effector)", "has no service_id"),
        (OFFER.format(name="near") + "    registry.routing('near', object, options=NoConfig)", "offered twice"),
    ],
)
def test_whatever_goes_wrong_is_that_plugins_failure_alone(folder: Folder, text: str, error: str) -> None:
    folder.write("plugin", text)
    folder.write("good", OFFER.format(name="far"))
    plugins = folder.load()
    good, bad = plugins.records
    assert (good.state, [offer.name for offer in good.offers]) == ("loaded", ["far"])
    assert (bad.state, bad.offers) == ("failed", ())
    assert error in bad.error
    assert "\n" not in bad.error
    assert [offer.name for offer in plugins.registry.offers()] == ["far"]


def test_a_failed_plugin_leaves_no_hook_behind(folder: Folder) -> None:
    folder.write("plugin", OFFER.format(name="x") + "    1/0\n@hookimpl\ndef fluvial_peer_connected(peer): 1/0\n")
    plugins = folder.load()
    assert plugins.manager.list_name_plugin() == []


def test_a_failed_import_leaves_no_module_behind(folder: Folder) -> None:
    folder.write("plugin", "1/0")
    before = set(sys.modules)
    folder.load()
    assert {name for name in set(sys.modules) - before if "fluvial_file" in name} == set()


def test_a_disabled_plugin_is_not_imported(folder: Folder, tmp_path: Path) -> None:
    folder.write("plugin", f"import pathlib\npathlib.Path({str(tmp_path / 'trace')!r}).touch()\n")
    plugins = folder.load("plugin")
    assert plugins.records[0].state == "disabled"
    assert not (tmp_path / "trace").exists()


def test_two_offers_of_one_name_give_the_seat_to_neither(folder: Folder) -> None:
    for name in ("one", "two"):
        folder.write(name, OFFER.format(name="near") + f"    registry.routing('{name}', object, options=NoConfig)\n")
    plugins = folder.load()
    with pytest.raises(PluginError, match=r"routing 'near' is offered by one \(.*one.py\) and by two \(.*two.py\)"):
        plugins.select("routing", "near")
    assert plugins.select("routing", "one").plugin == "one"
    assert plugins.select("routing", "two").plugin == "two"
    with pytest.raises(PluginError, match="'near' is offered by"):
        plugins.require_all()
    assert folder.load("two").select("routing", "near").plugin == "one"


def test_two_plugins_of_one_name_are_both_refused(folder: Folder) -> None:
    folder.write("core", OFFER.format(name="mine"))
    real = EntryPoint(name="core", value="fluvial.defaults.plugin", group=hooks.GROUP)
    plugins = load_plugins(folder=folder.path, entry_points=[real])
    assert [record.state for record in plugins.records] == ["failed", "failed"]
    assert all("use the same plugin name" in record.error for record in plugins.records)
    assert plugins.registry.offers() == []


def test_one_module_under_two_names_is_loaded_once() -> None:
    points = [EntryPoint(name=name, value="fluvial.defaults.plugin", group=hooks.GROUP) for name in ("a", "b")]
    plugins = load_plugins(entry_points=points)
    assert [record.state for record in plugins.records] == ["loaded", "failed"]
    assert plugins.select("routing", "static").plugin == "a"


def test_a_misspelt_offer_is_answered_with_what_is_installed(folder: Folder) -> None:
    folder.write("near", OFFER.format(name="near"))
    folder.write("sick", "import no_such_library")
    folder.write("off", OFFER.format(name="off"))
    with pytest.raises(PluginError) as caught:
        folder.load("off").select("routing", "naer")
    assert "no loaded plugin offers routing 'naer'" in caught.value.message
    hint = caught.value.hint
    assert "did you mean `near`?" in hint
    assert "installed for routing: near" in hint
    assert "failed: sick" in hint
    assert "no_such_library" in hint
    assert "disabled: off" in hint


def test_require_all_names_every_failure(folder: Folder) -> None:
    folder.write("sick", "1/0")
    folder.write("ill", "1/0")
    with pytest.raises(PluginError, match=r"ill .* failed: .*; sick .* failed: "):
        folder.load().require_all()


def test_loading_twice_shares_nothing(folder: Folder) -> None:
    folder.write("near", OFFER.format(name="near"))
    first, second = folder.load(), folder.load()
    assert first.manager is not second.manager
    assert first.registry is not second.registry


def test_an_observer_that_raises_is_counted_and_the_others_hear_all_the_same(
    folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard = tmp_path / "heard"
    listener = (
        "from pathlib import Path\n@hookimpl\ndef fluvial_peer_connected(peer):\n"
        f"    heard = Path({str(heard)!r})\n    heard.write_text(heard.read_text() + peer)\n"
    )
    heard.touch()
    for name in ("early", "late"):
        folder.write(name, HEAD + listener)
    folder.write("bad", HEAD + "@hookimpl\ndef fluvial_peer_connected(peer):\n    raise OSError('no disk')\n")
    metrics = CollectorRegistry()
    log = structlog.wrap_logger(logging.getLogger("observers"), wrapper_class=structlog.stdlib.BoundLogger)
    observers = Observers(PEER, folder.load(), log=log, metrics=metrics)
    observers.peer_connected(Contact(PEER))
    observers.peer_disconnected(PEER)
    assert heard.read_text() == PEER * 2
    labels = {"plugin": "bad", "hook": "fluvial_peer_connected"}
    assert metrics.get_sample_value("fluvial_observer_failures_total", labels) == 1
    assert "no disk" in caplog.text


def test_every_observer_hook_can_be_told() -> None:
    manager = pluggy.PluginManager("fluvial")
    manager.add_hookspecs(hooks)
    watched = [name.removeprefix("fluvial_") for name in vars(manager.hook) if name.startswith("fluvial_")]
    watched.remove("register")
    assert [name for name in watched if not hasattr(Observers, name)] == []
