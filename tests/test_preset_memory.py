"""How a preset's memory thresholds reach the configuration, and what plugin_state may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from configurator import config_as_yaml, explain, resolve
from ockham.config import MemoryConfig, RunConfig
from ockham.errors import ConfigError, PresetError
from ockham.memory import OckhamMemory
from ockham.presets import PRESETS_DIR, load_preset

THRESHOLDS = "{quality_threshold: 1.5, complexity_threshold: 0.1, min_oq_improvement: 0.05}"


def config(*argv: str) -> RunConfig:
    return resolve(list(argv)).config


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that writes balanced with a memory, as `mine`, into a presets folder of its own."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "presets"
    folder.mkdir()
    plain = "name: Plain\nplugins: []\n"
    (folder / "plain.yaml").write_text(plain)
    rack = (PRESETS_DIR / "balanced.yaml").read_text().split("memory:")[0]
    monkeypatch.setattr("ockham.presets.PRESETS_DIR", folder)

    def write(memory: str = THRESHOLDS) -> None:
        (folder / "mine.yaml").write_text(f"{rack}\nmemory: {memory}\n")

    return write


@pytest.mark.parametrize("gate", ["quality_threshold", "complexity_threshold", "min_oq_improvement"])
def test_null_turns_a_gate_off_in_a_preset_and_on_the_command_line(preset, gate: str) -> None:
    preset(f"{{{gate}: null, max_mb: 2.5}}")
    assert getattr(config("--preset=mine").memory, gate) is None
    assert getattr(config("--memory.enabled=True", f"--memory.{gate}=null").memory, gate) is None
    assert getattr(OckhamMemory(**load_preset("mine").memory), gate) is None


WITH_MEMORY = [path for path in sorted(PRESETS_DIR.glob("*.yaml")) if load_preset(path).memory is not None]


@pytest.mark.parametrize("path", WITH_MEMORY, ids=lambda path: path.stem)
def test_any_presets_memory_block_is_what_ockham_memory_takes(path: Path) -> None:
    thresholds = load_preset(path).memory or {}
    memory = OckhamMemory(**thresholds)
    assert {key: getattr(memory, key) for key in thresholds} == thresholds


def test_a_presets_memory_sets_its_thresholds_and_turns_it_on(preset) -> None:
    preset()
    assert config("--preset=mine").memory == MemoryConfig(
        enabled=True, quality_threshold=1.5, complexity_threshold=0.1, min_oq_improvement=0.05
    )
    preset("{quality_threshold: 2.2, max_snapshots: 3, max_mb: 40, consolidate_on_accept: true}")
    assert config("--preset=mine").memory == MemoryConfig(
        enabled=True, quality_threshold=2.2, max_snapshots=3, max_mb=40.0, consolidate_on_accept=True
    )


def test_a_preset_without_a_memory_leaves_it_off(preset) -> None:
    assert config("--preset=plain").memory == config("--preset=none").memory == config().memory == MemoryConfig()


def test_the_memory_is_part_of_the_presets_layer(preset) -> None:
    preset()
    Path("recipe.yaml").write_text("memory: {quality_threshold: 3.0}\n")
    got = resolve(["recipe.yaml", "--preset=mine", "--memory.complexity_threshold=0.4"])
    assert (got.config.memory.quality_threshold, got.config.memory.complexity_threshold) == (1.5, 0.4)
    assert got.provenance.notes[-2:] == [
        "Overriding: memory.quality_threshold = 1.5 (preset mine; recipe.yaml said 3.0)",
        "Overriding: memory.complexity_threshold = 0.4 (command line; preset mine said 0.1)",
    ]
    assert explain("memory.enabled", ["--preset=mine"]).endswith("true   preset mine  <- holds")


def test_the_command_line_turns_a_presets_memory_off(preset) -> None:
    preset()
    got = resolve(["--preset=mine", "--memory.enabled=False"])
    assert (got.config.memory.enabled, got.config.memory.quality_threshold) == (False, 1.5)
    assert got.provenance.notes == ["Overriding: memory.enabled = False (command line; preset mine said True)"]


def test_a_memory_needs_no_preset(preset) -> None:
    got = resolve(["--memory.enabled=True", "--memory.quality_threshold=2.2", "--memory.max_mb=64"])
    assert (got.config.memory.enabled, got.config.memory.quality_threshold, got.config.rack) == (True, 2.2, ())
    assert not got.provenance.notes


def test_a_threshold_without_a_memory_is_told_to_have_no_effect() -> None:
    said = resolve(["--memory.quality_threshold=2.2"]).provenance.notes
    assert said == ["No effect: memory.quality_threshold = 2.2 (command line), as memory.enabled is false"]


def test_on_resume_the_saved_memory_holds(preset) -> None:
    preset()
    got = resolve(["--preset=mine", "--memory.quality_threshold=2.2", "--out_dir=r"])
    Path("r").mkdir()
    Path("r/config.yaml").write_text(config_as_yaml(got.config, got.provenance))
    again = resolve(["--init_from=resume", "--out_dir=r"])
    assert again.config.memory == got.config.memory
    assert not again.provenance.notes


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("{quality_treshold: 1.5}", r"unknown memory key 'quality_treshold' \(did you mean quality_threshold\?\).*mine.yaml:\d+"),
        ("{quality_threshold: -1}", r"memory.quality_threshold must be >= 0 or null, got -1 .*mine.yaml:\d+"),
        ("{max_snapshots: 0}", r"memory.max_snapshots must be an integer >= 1, got 0 .*mine.yaml:\d+"),
        ("{consolidate_on_accept: 1}", r"memory.consolidate_on_accept must be true or false, got 1 .*mine.yaml:\d+"),
    ],
)
def test_a_wrong_memory_names_file_and_line(preset, memory: str, message: str) -> None:
    preset(memory)
    with pytest.raises(PresetError, match=message):
        resolve(["--preset=mine"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--memory.quality_treshold=1"], r"unknown key memory.quality_treshold .*did you mean memory.quality_threshold\?"),
        (["--memory.max_snapshots=0"], r"memory.max_snapshots must be >= 1, got 0 \(command line\)"),
        (["--memory=True"], r"memory is a group of keys \(command line\), it holds memory.enabled, .quality_threshold"),
        (["--plugin_state=out/a"], r"plugin_state must be none or from:RUN, RUN being a run's folder, got 'out/a' \(command"),
        (["--plugin_state=from:"], r"plugin_state must be none or from:RUN"),
        (["--plugin_state=form:out/a"], r"plugin_state must be none or from:RUN"),
    ],
)
def test_a_wrong_key_is_told_with_its_source(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(argv)


@pytest.mark.parametrize("value", ["none", "from:out/a", "from:C:/runs/a", "from:a b"])
def test_plugin_state_takes_none_or_a_run(value: str) -> None:
    assert config(f"--plugin_state={value}").plugin_state == value
