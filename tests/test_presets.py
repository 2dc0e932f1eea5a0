"""Presets: the shipped values, strict reading with file and line, and nothing outside presets/ by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ockham.errors import PresetError, UsageError
from ockham.plugins import PluginHost
from ockham.presets import PRESETS_DIR, build_plugins, load_preset, load_preset_file, load_preset_simple, preset_names

# name: (lr, λ, τ, interval, rate), {plugin: its parameters in the order of the table}
TABLE = {
    "ockham_tight": (
        (5e-4, 0.05, 2.5, 500, 0.3),
        {
            "gate": (2.5, False, 0.01, 0.3),
            "compressor": (0.08, 3.0, 0.05, 0.02, 0.8, 0.01, 0.5),
            "limiter": (0.1, 0.5, True),
            "saturation": (0.005, "learning_rate", 200, None),
        },
    ),
    "balanced": (
        (1e-3, 0.01, 2.0, 1000, 0.6),
        {
            "gate": (2.0, False, 0.01, 0.6),
            "compressor": (0.1, 2.0, 0.1, 0.05, 1.0, 0.001, 0.5),
            "eq": ({"easy": 0.5, "medium": 1.0, "hard": 1.5}, 0.01),
            "limiter": (0.2, 1.0, True),
            "saturation": (0.01, "learning_rate", 100, None),
        },
    ),
    "exploratory": (
        (2e-3, 0.001, 1.0, 2000, 0.9),
        {
            "gate": (1.0, True, 0.02, 0.9),
            "compressor": (0.15, 1.5, 0.2, 0.1, 1.2, 1e-4, 0.1),
            "eq": ({"easy": 0.3, "medium": 1.0, "hard": 2.0}, 0.02),
            "limiter": (0.5, 2.0, False),
            "saturation": (0.03, "both", 50, None),
        },
    ),
}
TABLE["production_balanced"] = TABLE["balanced"]  # with a memory


@pytest.mark.parametrize("name", TABLE)
def test_shipped_presets_hold_the_stated_values(name):
    preset = load_preset(name)
    keys = ("learning_rate", "lambda_ockham", "surprise_threshold", "consolidate_interval", "target_update_rate")
    assert tuple(preset.hyperparameters[k] for k in keys) == TABLE[name][0]
    assert {s["name"]: tuple(s["params"].values())[: len(TABLE[name][1][s["name"]])] for s in preset.specs} == TABLE[name][1]
    assert [p.name for p in preset.plugins] == list(TABLE[name][1])
    assert preset.title
    assert preset.description
    assert preset.tags


def test_preset_names_are_the_shipped_ones():
    assert preset_names() == sorted([*TABLE, "finetune_keep", "finetune_replay", "sequences", "stream_noisy"])


def test_production_balanced_is_balanced_with_the_memory_of_the_specification():
    production, balanced = load_preset("production_balanced"), load_preset("balanced")
    assert (production.specs, production.hyperparameters) == (balanced.specs, balanced.hyperparameters)
    assert production.memory == {"quality_threshold": 1.5, "complexity_threshold": 0.1, "min_oq_improvement": 0.05}
    assert "production" in production.tags


def test_a_preset_unpacks_as_plugins_and_memory(tmp_path):
    plugins, memory = load_preset("production_balanced")
    assert [p.name for p in plugins] == ["gate", "compressor", "eq", "limiter", "saturation"]
    assert memory == load_preset("production_balanced").memory != {}
    assert tuple(load_preset(write(tmp_path, "plugins: []\n"))) == ([], None)


def test_each_host_has_plugins_and_hyperparameters_of_its_own():
    preset = load_preset("ockham_tight.yaml")
    one, other = preset.host(), preset.host()
    assert one["gate"] is not other["gate"]
    assert one.hyperparameters == {"learning_rate": 5e-4, "lambda_ockham": 0.05, "surprise_threshold": 2.5}
    assert PluginHost(preset.plugins).names() == load_preset_simple("ockham_tight").names()


def test_the_hash_is_that_of_the_file():
    preset = load_preset("balanced")
    assert preset.path == PRESETS_DIR / "balanced.yaml"
    assert preset.sha256 == hashlib.sha256(preset.path.read_bytes()).hexdigest()


def test_specs_rebuild_the_same_plugins():
    preset = load_preset("exploratory")
    assert [p.get_state() for p in build_plugins(preset.specs)] == [p.get_state() for p in preset.plugins]


def test_overrides_win_over_the_file():
    preset = load_preset("balanced", {"compressor": {"ratio": 5}, "gate": {"surprise_threshold": None}})
    assert preset.plugins[1].ratio == 5.0
    assert preset.plugins[0].surprise_threshold is None
    assert load_preset("balanced").plugins[1].ratio == 2.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"compresor": {"ratio": 2}}, r"no plugin 'compresor' \(did you mean compressor\?\)"),
        ({"compressor": {"ration": 2}}, "did you mean ratio"),
        ({"compressor": {"ratio": 0.5}}, "compressor.ratio must be >= 1, got 0.5"),
    ],
)
def test_overrides_are_checked_like_the_file(overrides, message):
    with pytest.raises(PresetError, match=message):
        load_preset("balanced", overrides)


# reading ------------------------------------------------------------------------------------------------------------
def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_preset_is_read(tmp_path):
    preset = load_preset(
        write(
            tmp_path,
            """
name: Mine
tags: [a, b]
hyperparameters: {learning_rate: 1e-3, consolidate_interval: 1e3, target_update_rate: null}
plugins:
  - type: OccamGatePlugin
    name: door
    enabled: false
    params: {surprise_threshold: 2}
  - type: CurriculumEQPlugin
memory: {quality_threshold: 1.5, complexity_threshold: 0.1, min_oq_improvement: 0.05}
""",
        )
    )
    assert preset.hyperparameters == {"learning_rate": 1e-3, "consolidate_interval": 1000, "target_update_rate": None}
    door, eq = preset.specs
    assert (door["type"], door["name"], door["enabled"]) == ("OckhamGatePlugin", "door", False)
    assert (eq["type"], eq["name"], eq["enabled"]) == ("EQPlugin", "eq", True)
    assert preset.memory == {"quality_threshold": 1.5, "complexity_threshold": 0.1, "min_oq_improvement": 0.05}
    assert not preset.host().is_active("door")
    assert (preset.name, preset.title) == ("mine", "Mine")


def test_a_gate_takes_what_it_does_not_state_from_the_hyperparameters(tmp_path):
    text = "hyperparameters: {surprise_threshold: 1.25, target_update_rate: 0.4}\nplugins: [{type: OckhamGatePlugin%s}]\n"
    given = load_preset(write(tmp_path, text % "")).specs[0]["params"]
    stated = load_preset(write(tmp_path, text % ", params: {surprise_threshold: null}")).specs[0]["params"]
    assert (given["surprise_threshold"], given["target_update_rate"]) == (1.25, 0.4)
    assert (stated["surprise_threshold"], stated["target_update_rate"]) == (None, 0.4)


HYPER = "plugins: []\nhyperparameters:\n"
EQ = "plugins:\n  - type: EQPlugin\n"
CHAIN = "plugins:\n  - type: CompressorPlugin\n    params:\n"
MALFORMED = {
    "value out of range": (CHAIN + "      ratio: 0.5\n", 4, r"compressor.ratio must be >= 1, got 0.5"),
    "named plugin": ("plugins:\n- type: CompressorPlugin\n  name: sq\n  params: {ratio: 0}\n", 4, "sq.ratio must be .* got 0"),
    "unknown parameter": (CHAIN + "      attack: 0.1\n      ration: 2\n", 5, r"no parameter 'ration' \(did you mean ratio\?\)"),
    "text for a number": (CHAIN + "      ratio: two\n", 4, "compressor.ratio must be >= 1, got 'two'"),
    "quoted number": (CHAIN + '      ratio: "2.0"\n', 4, "got '2.0' .*take the quotes away"),
    "bool for a number": (CHAIN + "      ratio: yes\n", 4, "compressor.ratio must be >= 1, got True"),
    "not a number": (CHAIN + "      ratio: .nan\n", 4, "compressor.ratio must be >= 1, got nan"),
    "bounds crossed": (CHAIN + "      max_lambda: 0.1\n      min_lambda: 0.2\n", 5, "<= max_lambda .* got 0.2"),
    "duplicate key": (CHAIN + "      ratio: 2\n      ratio: 3\n", 5, "'ratio' is given twice, first on line 4"),
    "unknown plugin": ("plugins:\n  - params: {}\n    type: CompresorPlugin\n", 3, r"'CompresorPlugin' \(did you mean Comp"),
    "plugin without type": ("plugins:\n  - name: x\n", 2, "needs the key 'type', got name"),
    "unknown plugin key": (EQ + "    parms: {}\n", 3, r"unknown key of a plugin 'parms' \(did you mean params"),
    "plugin as a word": ("plugins:\n  - EQPlugin\n", 2, "write `- type: EQPlugin`"),
    "plugins as a mapping": ("plugins:\n  EQPlugin: {}\n", 1, "plugins must be a list"),
    "params as a list": ("plugins:\n  - type: EQPlugin\n    params: [1]\n", 3, r"params must be a mapping .* got \[1\]"),
    "unknown band": (EQ + "    params:\n      bands:\n        easy: 1\n        hrad: 2\n", 6, "did you mean hard"),
    "bad gain": (EQ + "    params:\n      bands:\n        easy: -1\n", 5, "eq.bands.easy must be .* got -1"),
    "same name twice": ("plugins:\n  - type: EQPlugin\n  - type: EQPlugin\n", 3, "two plugins are called 'eq'"),
    "enabled as text": ("plugins:\n  - type: EQPlugin\n    enabled: maybe\n", 3, "enabled must be true or false, got 'maybe'"),
    "unknown top-level key": ("name: x\nplugin: []\n", 2, r"unknown key 'plugin' \(did you mean plugins\?\)"),
    "no plugins": ("name: x\n", 1, "needs the key 'plugins'"),
    "unknown hyperparameter": (HYPER + "  lamda_ockham: 1\n", 3, "did you mean lambda_ockham"),
    "bad hyperparameter": (HYPER + "  target_update_rate: 60\n", 3, r"must be in \[0, 1\] or null, got 60"),
    "negative rate": (HYPER + "  learning_rate: -1e-3\n", 3, "hyperparameters.learning_rate must be >= 0, got -0.001"),
    "half an iteration": ("plugins: []\nhyperparameters: {consolidate_interval: 0.5}\n", 2, "must be an integer >= 0, got 0.5"),
    "unknown memory key": ("plugins: []\nmemory:\n  quality_treshold: 1\n", 3, "did you mean quality_threshold"),
    "tags as a word": ("plugins: []\ntags: fast\n", 2, "tags must be a list of words, got 'fast'"),
    "title as a number": ("plugins: []\nname: 3\n", 2, "name must be text, got 3"),
    "list at the top": ("- a\n", 1, "a preset must be a mapping"),
    "empty file": ("", 1, "needs the key 'plugins', a list .* got nothing"),
    "broken yaml": ("plugins: [\nname: x\n", 3, "not a readable preset"),
    "tab": ("plugins: []\nname:\n\tx: 1\n", 3, "not a readable preset: .*tab|not a readable preset: found character"),
    "parameter of another plugin": (CHAIN + "      drive: 0.1\n", 4, "no parameter 'drive'.*; drive belongs to SaturationPlugin"),
    "parameter beside type": (EQ + "    bands: {easy: 1}\n", 3, r"unknown key of a plugin 'bands' \(it belongs under params\)"),
    "hyperparameter at the top": ("plugins: []\nlambda_ockham: 1\n", 2, r"\(lambda_ockham belongs under hyperparameters\)"),
    "memory key at the top": ("plugins: []\nquality_threshold: 1\n", 2, r"\(quality_threshold belongs under memory\)"),
    "lr": (HYPER + "  lr: 1e-3\n", 3, r"unknown hyperparameters key 'lr' \(did you mean learning_rate\?\)"),
    "rack name for a type": ("plugins:\n  - type: eq\n", 2, r"'eq' \(did you mean EQPlugin\?\)"),
    "class without Plugin": ("plugins:\n  - type: Limiter\n", 2, r"'Limiter' \(did you mean LimiterPlugin\?\)"),
    "no space after the colon": (EQ + "    params:\n      adaptation_rate:0.1\n", 4, "did you mean `adaptation_rate: 0.1`"),
    "no colon": ("plugins: []\ntags [a]\nname: x\n", 2, "write `key: value`, with a colon"),
    "per cent": (HYPER + "  target_update_rate: 60%\n", 3, "got '60%' .*60% is 0.6"),
    "decimal comma": (HYPER + "  lambda_ockham: 0,05\n", 3, "got '0,05' .*decimal point"),
    "bad indent": ("plugins: []\nhyperparameters:\n  learning_rate: 1\n   lambda_ockham: 2\n", 4, "indented too far"),
    "item out of line": ("plugins:\n  - type: EQPlugin\n - type: LimiterPlugin\n", 3, "start in the same column"),
    "unknown noise": (
        "plugins:\n- type: SaturationPlugin\n  params: {noise_type: lr}\n",
        3,
        "one of learning_rate, gradient, both",
    ),
    "type as a list": ("plugins:\n  - type: [EQPlugin]\n", 2, "unknown plugin type"),
    "name with a slash": (EQ + "    name: a/b\n", 3, "a plugin's name must be text without '/', got 'a/b'"),
    "unknown package key": ("plugins: []\npackage:\n  auhtor: me\n", 3, r"'auhtor' \(did you mean author\?\)"),
    "package versions as text": ("plugins: []\npackage:\n  tested_with: x\n", 3, "tested_with must be a mapping"),
    "alias": ("plugins: []\nname: &a x\ndescription: *a\n", 2, "anchors and aliases"),
    "code": ("plugins: []\nname: !!python/object/apply:os.system [ls]\n", 2, "tags are not allowed, got tag:yaml.org"),
    "two documents": ("plugins: []\n---\nplugins: []\n", 2, "not a readable preset"),
    "nesting": ("plugins: " + "[" * 3000 + "\n", 1, "nested deeper than"),
    "impossible date": ("plugins: []\nname: 2024-99-99\n", 2, "not a readable preset: .*got '2024-99-99'"),
    "escape in the title": ('plugins: []\nname: "\\e[2Jevil"\n', 2, r"must be printable, got the character '\\x1b'; take it out"),
    "title on two lines": ('plugins: []\nname: "a\\nb"\n', 2, r"name must be on one line, got the character '\\n' in 'a\\nb'"),
    "escape in the description": ('plugins: []\ndescription: "a\\e[1Ab"\n', 2, "must be printable"),
    "text turned round": ("plugins: []\ndescription: a\\u202eb\n".replace("\\u202e", "\u202e"), 2, r"'\\u202e'"),
    "escape in a tag": ('plugins: []\ntags:\n  - a\n  - "\\e[0m"\n', 4, "must be printable"),
    "tag on two lines": ('plugins: []\ntags:\n  - a\n  - "b\\nc"\n', 4, "a tag must be on one line"),
    "escape in the author": ('plugins: []\npackage:\n  author: "\\e]0;x\\a"\n', 3, "must be printable"),
    "author on two lines": ('plugins: []\npackage:\n  author: "a\\nb"\n', 3, "package.author must be on one line"),
    "escape in a version": ('plugins: []\npackage:\n  tested_with:\n    torch: "\\e"\n', 4, "must be printable"),
    "source on two lines": ('plugins: []\npackage:\n  needs:\n    A: "b\\nc"\n', 4, "package.needs.A must be on one line"),
    "escape in a key": ('plugins: []\n"\\e[2J": 1\n', 2, "a key must be printable"),
    "key on two lines": ('plugins: []\npackage:\n  needs:\n    "a\\nb": c\n', 4, "a key must be printable and on one line"),
    "plugin's name on two lines": (EQ + '    name: "a\\nb"\n', 3, "a plugin's name must be on one line"),
    "NUL": ("plugins: []\nname: a\0b\n", 2, r"plain text, got the character '\\x00'; take it out"),
    "endless number": (HYPER + f"  learning_rate: {'9' * 60_000}\n", 3, r"at most 100 characters, got 60000, 999999999999\.\.\."),
    "endless hex": (HYPER + f"  learning_rate: 0x{'f' * 60_000}\n", 3, "at most 100 characters, got 60002"),
    "endless power": (HYPER + f"  learning_rate: {'9' * 60_000}e-3\n", 3, "at most 100 characters, got 60003"),
}


@pytest.mark.parametrize(("text", "line", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_preset_is_one_line_with_file_and_line(tmp_path, monkeypatch, text, line, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    with pytest.raises(PresetError, match=message) as caught:
        load_preset(Path("mine.yaml"))
    assert str(caught.value).endswith(f"(mine.yaml:{line})")
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 2


def test_text_of_other_languages_and_a_description_of_several_lines_are_fine(tmp_path):
    text = 'name: "Équilibré\u00a0: 均衡\u3000版"\ndescription: |\n  First line.\n  \tSecond.\ntags: [größe]\nplugins: []\n'
    preset = load_preset(write(tmp_path, text))
    assert preset.title == "Équilibré\u00a0: 均衡\u3000版"
    assert preset.description == "First line.\n\tSecond.\n"


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"plugins: []\nname: caf\xe9\n")
    with pytest.raises(PresetError, match=r"not UTF-8: byte 0xe9.*latin.yaml:2\)"):
        load_preset(path)


def test_a_file_over_the_size_cap_is_refused(tmp_path):
    with pytest.raises(PresetError, match="larger than 65536 bytes"):
        load_preset(write(tmp_path, "plugins: []\n" + "#" * 65536))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PresetError, match=r"cannot read preset .*gone.yaml: No such file"):
        load_preset_file(tmp_path / "gone.yaml")


@pytest.mark.parametrize("name", ["../presets/balanced", "/etc/passwd", "sub/x", "..", "", ".hidden", "a\\b", "~/x"])
def test_a_name_cannot_leave_the_presets_folder(name):
    with pytest.raises(PresetError, match=r"a preset's name is that of a file directly in .*copy the file there"):
        load_preset(name)


def test_a_link_out_of_the_presets_folder_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "out.yaml").symlink_to(write(tmp_path, "plugins: []\n"))
    monkeypatch.setattr("ockham.presets.PRESETS_DIR", folder)
    with pytest.raises(PresetError, match="outside"):
        load_preset("out")


def test_an_unknown_preset_names_the_nearest_and_all():
    with pytest.raises(
        PresetError, match=r"'balancd' \(did you mean balanced\?\); .* has balanced, exploratory, finetune_keep, finet"
    ):
        load_preset("balancd")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "X"}, "unknown plugin type 'X'"),
        ({"kind": "EQPlugin"}, "unknown key 'kind'"),
        ({"type": "EQPlugin", "params": {"q": 1}}, "no parameter 'q'"),
    ],
)
def test_bad_specs_are_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        build_plugins([spec])


def test_at_least_thirty_malformed_presets_are_tried():
    assert len(MALFORMED) >= 30
