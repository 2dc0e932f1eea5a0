"""Plugins of other packages: used only when a preset names them, and every way they can fail names the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import invalidate_caches
from importlib.metadata import version

import pytest
import torch

from ockham.carried import carry_plugin_state
from ockham.check import devices
from ockham.context import OccamContext
from ockham.errors import CheckpointError, ConfigError, PresetError
from ockham.plugins import PLUGINS, EQPlugin, PluginHost
from ockham.plugins.entry import distribution_of, entry_names
from ockham.presets import build_plugins, load_preset_file


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def package(site, distribution, entry, code="", version="1.0"):
    """An installed package, as pip would leave it: a module and its dist-info."""
    module = entry.partition("=")[2].partition(":")[0].strip()
    (site / f"{module}.py").write_text(code)
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[ockham.plugins]\n{entry}\n")
    invalidate_caches()


def preset(tmp_path, kind, params="{}"):
    path = tmp_path / "mine.yaml"
    path.write_text(f"plugins:\n  - type: {kind}\n    params: {params}\n")
    return path


HALF = """
from ockham.plugins import OccamPlugin, Param
class Half(OccamPlugin):
    PARAMS = (Param("share", 0.5, "learning-rate factor", low=0),)
    def on_batch_start(self, ctx):
        ctx.learning_rate *= self.share
        return ctx
"""


def test_a_package_is_imported_only_when_a_preset_names_its_type(site, tmp_path):
    package(site, "ockham-half", "HalfPlugin = half_of:Half", HALF)
    assert "HalfPlugin" in entry_names()
    load_preset_file(preset(tmp_path, "EQPlugin"))
    assert "half_of" not in sys.modules
    loaded = load_preset_file(preset(tmp_path, "HalfPlugin", "{share: 0.25}"))
    assert "half_of" in sys.modules
    assert loaded.specs[0] == {"type": "HalfPlugin", "name": "half", "enabled": True, "params": {"share": 0.25}}
    (again,) = build_plugins(loaded.specs)
    assert again.on_batch_start(OccamContext(0, 1.0, learning_rate=1.0)).learning_rate == 0.25
    assert distribution_of("HalfPlugin") == "ockham-half 1.0"


def test_its_parameters_are_checked_with_file_and_line(site, tmp_path):
    package(site, "ockham-half", "HalfPlugin = half_of2:Half", HALF)
    with pytest.raises(PresetError, match=r"half.share must be >= 0, got -1 \(.*mine.yaml:3\)"):
        load_preset_file(preset(tmp_path, "HalfPlugin", "{share: -1}"))


def test_our_own_table_comes_first(site, tmp_path):
    package(site, "ockham-thief", "EQPlugin = thief:Half", HALF)
    assert type(load_preset_file(preset(tmp_path, "EQPlugin")).plugins[0]) is EQPlugin
    assert "thief" not in sys.modules


@pytest.mark.parametrize(
    ("code", "params", "message"),
    [
        (
            "import no_such_module",
            "{}",
            "of ockham-bad 1.0 .* cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("1 / 0", "{}", "cannot be loaded: ZeroDivisionError"),
        ("", "{}", "cannot be loaded: AttributeError"),
        ("class Half: pass", "{}", "of ockham-bad 1.0 .* must be a class derived from OccamPlugin"),
        ("Half = 3", "{}", "must be a class derived from OccamPlugin, got 3"),
        (HALF.replace("    PARAMS", "    P"), "{share: 1}", "states no PARAMS, so a preset can give it none, got share"),
        (HALF + "    def check(self):\n        raise RuntimeError('no')\n", "{}", "cannot be made: RuntimeError: no"),
        (HALF.replace("def on_batch_start", "def other"), "{}", "cannot be made: TypeError: .*abstract"),
    ],
)
def test_a_package_that_fails_is_named_with_the_line(site, tmp_path, code, params, message, request):
    module = f"bad_{abs(hash((code, params)))}"
    package(site, "ockham-bad", f"BadPlugin = {module}:Half", code)
    with pytest.raises(PresetError, match=message) as caught:
        load_preset_file(preset(tmp_path, "BadPlugin", params))
    assert "mine.yaml:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_packages_that_offer_one_name_are_both_named(site, tmp_path):
    package(site, "ockham-one", "TwinPlugin = one_of:Half", HALF)
    package(site, "ockham-two", "TwinPlugin = two_of:Half", HALF)
    with pytest.raises(PresetError, match=r"'TwinPlugin' is offered by ockham-one 1.0 and ockham-two 1.0; uninstall one"):
        load_preset_file(preset(tmp_path, "TwinPlugin"))


def test_an_unknown_type_names_the_nearest_of_other_packages_too(site, tmp_path):
    package(site, "ockham-half", "HalfPlugin = half_of3:Half", HALF)
    with pytest.raises(PresetError, match=r"'HalvPlugin' \(did you mean HalfPlugin\?\); allowed: .*HalfPlugin"):
        load_preset_file(preset(tmp_path, "HalvPlugin"))
    assert "half_of3" not in sys.modules


# state that another run left ------------------------------------------------------------------------------------------
COUNTS = (
    HALF
    + """
    STATE = ("seen",)
    def reset(self):
        self.seen = 0
"""
)


def finished_run(folder, specs, states):
    """A run's last.pt, with nothing in it but its rack and the states of its plugins."""
    folder.mkdir()
    learner = {"plugins": {"plugins": states}}
    others = {key: {} for key in ("model", "model_args", "loop", "rng")}
    torch.save({**others, "format": 1, "learner": learner, "config": {"rack": specs}}, folder / "last.pt")
    return folder


def test_a_plugin_of_a_package_carries_its_state_whatever_its_class_is_called(site, tmp_path):
    package(site, "ockham-counts", "CountingPlugin = counts_of:Half", COUNTS)
    loaded = load_preset_file(preset(tmp_path, "CountingPlugin"))
    run = finished_run(tmp_path / "a", loaded.specs, {"half": {"seen": 7}})
    host = loaded.host()
    assert carry_plugin_state(host, f"from:{run}") == [f"plugin states from {run}: half"]
    assert host["half"].seen == 7


@pytest.mark.parametrize("kind", ["EQPlugin", "GonePlugin"])
def test_a_plugin_of_the_same_name_and_another_type_begins_anew(site, tmp_path, kind):
    package(site, "ockham-counts", "CountingPlugin = counts_of2:Half", COUNTS)
    run = finished_run(tmp_path / "a", [{"type": kind, "name": "half"}], {"half": {"seen": 7}})
    host = load_preset_file(preset(tmp_path, "CountingPlugin")).host()
    assert carry_plugin_state(host, f"from:{run}")[0].endswith(": none")
    assert host["half"].seen == 0


def test_a_run_that_has_no_states_is_told_in_words_of_its_own(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"no plugin states to begin with: there is no folder .*gone; give plugin_state=from:"
    ):
        carry_plugin_state(PluginHost(), f"from:{tmp_path / 'gone'}")
    (tmp_path / "torn").mkdir()
    with pytest.raises(CheckpointError, match=r"last\.pt is missing") as caught:
        carry_plugin_state(PluginHost(), f"from:{tmp_path / 'torn'}")
    assert "resume" not in str(caught.value)


# a class's state at construction ---------------------------------------------------------------------------------------
def test_a_plugin_without_parameters_begins_with_its_reset(site, tmp_path):
    bare = COUNTS.replace("    PARAMS", "    P").replace("self.share", "0.5")
    package(site, "ockham-bare", "BarePlugin = bare_of:Half", bare)
    (plugin,) = load_preset_file(preset(tmp_path, "BarePlugin")).plugins
    assert plugin.state_dict() == {"seen": 0}


def test_state_that_is_never_set_is_named_with_where_to_set_it():
    class Own(EQPlugin):
        PARAMS = ()
        STATE = ("seen",)

        def __init__(self, name=None):
            super().__init__(name)

        def reset(self):
            self.seen = 0

    said = r"plugin 'own' \(Own\) has no attribute 'seen', which its STATE names; set it in reset\(\), and where"
    with pytest.raises(ConfigError, match=said):
        Own().state_dict()
    with pytest.raises(ConfigError, match=said):
        Own().load_state_dict({"seen": 3})


def test_the_template_package_installs_and_acts(site, tmp_path, root):
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("needs setuptools >= 77, to build without the network")
    source = tmp_path / "template"  # the build writes into its folder
    shutil.copytree(root / "examples" / "plugin-template", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    invalidate_caches()
    loaded = load_preset_file(preset(tmp_path, "LossBrakePlugin", "{tolerance: 1.2, brake: 0.25}"))
    host = loaded.host()
    rates = [host.process_batch_start(OccamContext(i, loss, learning_rate=1.0)).learning_rate for i, loss in enumerate((2, 2, 3))]
    assert rates == [1.0, 1.0, 0.25]
    assert devices(loaded)[0].writes == {"learning_rate": "scales"}
    assert "LossBrakePlugin" not in PLUGINS
