"""The chat's settings: files and the command line over one another, and errors that say where."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ockham.errors import ConfigError
from ockham.online import regex_time
from ockham.online.config import AdaptiveOptimizerSettings, OnlineConfig
from ockham.online.settings import LEAVES, PRESETS, expressions, load_settings, preset_names, read_file
from ockham.typed import plain, to_mapping

# Lists that only default.yaml has; every other key has the same value there as in the dataclasses.
ONLY_IN_THE_FILE = {
    "fact_detection.patterns",
    "fact_detection.question_indicators",
    "fact_detection.ignored",
    "fact_detection.lead_ins",
    "importance_weighting.strategies",
    "anchors.prompts",
    "anchors.names",
    "anchors.things",
    "anchors.qualities",
}


@pytest.fixture
def written(tmp_path):
    """A function that writes a settings file."""

    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(*overrides, preset=None, file=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(preset, file, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def value_at(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def test_default_yaml_has_every_key_and_states_the_defaults():
    stated = read_file(PRESETS / "default.yaml")
    assert set(stated) == set(LEAVES)
    differing = {key for key, leaf in LEAVES.items() if plain(stated[key].value) != plain(leaf.default)}
    assert differing == ONLY_IN_THE_FILE


def test_every_key_of_default_yaml_stands_on_a_line_of_its_own_with_a_comment():
    keys = {key.rpartition(".")[2] for key in LEAVES} - {
        "patterns",
        "question_indicators",
        "ignored",
        "lead_ins",
        "prompt",
        "stop",
    }
    lines = (PRESETS / "default.yaml").read_text().splitlines()
    for key in keys - {"repetition_weight", "recency_weight"}:
        assert any(line.strip().startswith(f"{key}:") and "#" in line for line in lines), key


def test_every_field_has_a_help():
    assert [key for key, leaf in LEAVES.items() if not leaf.field.metadata["help"]] == []


def test_there_is_an_anchor_prompt_at_least_and_no_empty_name():
    with pytest.raises(ConfigError, match="must have a message at least"):
        load_settings(overrides=["anchors.prompts=[]"])
    with pytest.raises(ConfigError, match=r"anchors\.names"):
        load_settings(overrides=["anchors.names=['']"])


def test_other_braces_in_a_template_are_text():
    assert load_settings(overrides=["generation.prompt={name}: {text} {{"]).generation.prompt == "{name}: {text} {{"


def test_no_word_of_an_exam_is_among_the_other_things():
    folder = Path(__file__).resolve().parents[1] / "data" / "dialogues"
    asked = "".join((folder / name).read_text().lower() for name in ("exam.jsonl", "practice.jsonl", "held_out.jsonl"))
    anchors = load_settings().anchors
    assert len(anchors.things) > 50
    assert not [word for word in (*anchors.things, *anchors.qualities) if re.search(rf"\b{word}\b", asked)]


def test_the_anchors_are_some_two_dozen_different_ascii_messages():
    prompts = load_settings().anchors.prompts
    assert 20 <= len(set(prompts)) == len(prompts) <= 30
    assert all(prompt.isascii() and len(prompt) < 60 for prompt in prompts)


def test_the_specs_values_are_the_specifications():
    spec = load_settings("spec")
    said = {
        "training.learning_rate": 1e-6,
        "training.gradient_clip_norm": 0.1,
        "training.weight_decay": 0.01,
        "training.forms": ("statement",),
        "training.self_train": True,
        "training.loss.kl_on": "fact",
        "training.loss.loss_on": "all",
        "training.loss.kl_regularization.fact_lambda": 0.01,
        "training.loss.dynamic_kl.servo": False,
        "generation.acknowledged": "I understand. {fact}",
        "model.lora.rank": 4,
        "model.lora.alpha": 16,
        "model.lora.dropout": 0.05,
        "fact_memory.replay_interval": 10,
        "fact_memory.replay_batch": 0,
        "fact_memory.decay.removes": True,
        "commit.kl_budget": None,
        "commit.min_prob": 0,
    }
    assert {key: value_at(spec, key) for key in said} == said
    on = {s["name"]: s for s in spec.importance_weighting.strategies if s["enabled"]}
    assert list(on) == ["entity_based", "position_based", "repetition_based"]
    position = on["position_based"]
    assert (position["first_n_tokens"], position["first_token_weight"]) == (5, 2.0)
    assert (position["last_n_tokens"], position["last_token_weight"]) == (5, 1.5)
    assert [s["name"] for s in load_settings().importance_weighting.strategies if s["enabled"]] == ["entity_based"]


def test_a_preset_lies_over_the_defaults_a_file_over_it_and_the_command_line_over_all(written):
    file = written("training:\n  learning_rate: 3e-5\n  weight_decay: 0.5\n")
    config = load_settings("spec", file, ["training.learning_rate=1e-4"])
    assert (config.training.learning_rate, config.training.weight_decay) == (1e-4, 0.5)
    assert (config.training.gradient_clip_norm, config.fact_memory.max_facts) == (0.1, 50)


def test_what_is_dumped_and_loaded_again_is_the_same(written):
    config = load_settings("spec")
    assert load_settings(file=written(yaml.safe_dump(to_mapping(config)))) == config


def test_overrides_are_typed_as_on_the_trainers_command_line():
    typed = ("--training.self_train=True", "subject_gate.enabled", "training.forms=[statement]", "commit.scales=[1, .5]",
             "commit.kl_budget=null", 'generation.stop=["\\n", "User:"]', "model.device=cpu",
             "adaptive_optimizer.custom={review: 2}", "generation.prompt='{text} = '")  # fmt: skip
    config = load_settings(overrides=typed)
    assert config.training.self_train is config.subject_gate.enabled is True
    assert (config.training.forms, config.commit.scales, config.commit.kl_budget) == (("statement",), (1.0, 0.5), None)
    assert (config.generation.stop, config.generation.prompt) == (("\n", "User:"), "{text} = ")
    assert config.adaptive_optimizer.custom == {"review": 2}


def test_one_name_of_a_mapping_can_be_given_alone():
    config = load_settings(overrides=["adaptive_optimizer.custom={a: 2}", "adaptive_optimizer.custom.b=3"])
    assert config.adaptive_optimizer.custom == {"a": 2, "b": 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("learning_rate=1", "unknown key learning_rate (did you mean training.learning_rate?) (command line)"),
        ("training.lerning_rate=1", "unknown key training.lerning_rate (did you mean training.learning_rate?) (command line)"),
        ("checkpoint=3", "checkpoint is a group of keys, it holds interval, keep; give one of them (command line)"),
        ("checkpoint.foo=3", "unknown key checkpoint.foo; checkpoint holds interval, keep (command line)"),
        ("training.learning_rate=-1", "training.learning_rate must be > 0, got -1.0 (command line)"),
        ("training.learning_rate", "training.learning_rate needs a value: write training.learning_rate=VALUE (command line)"),
        ("training.self_train=yes", "must be true or false, got 'yes' (did you mean True?) (command line)"),
        ("model.dtype=float8", "model.dtype must be one of auto, float32, bfloat16, float16, got 'float8'"),
        ("training.forms=[statment]", "training.forms[0] must be one of statement, shifted, questions, got 'statment'"),
        ("training.forms=[]", "training.forms must name at least one"),
        ("training.betas=[0.9]", "training.betas must be two numbers in [0, 1), got [0.9] (command line)"),
        ("generation.acknowledged='I see: {}'", "generation.acknowledged must have {fact} in it exactly once, got 'I see: {}'"),
        ("generation.prompt=hello", "generation.prompt must have {text} in it exactly once, got 'hello' (command line)"),
        ("generation.stop=['']", "generation.stop[0] must not be empty"),
        ("commit.scales=[0.5, 1]", "commit.scales must be numbers in (0, 1], the largest first, got [0.5, 1.0]"),
        ("commit.scales=[]", "commit.scales must be numbers"),
        ("adaptive_optimizer.custom.x=-2", "adaptive_optimizer.custom: x must be a finite number >= 0, got -2"),
        ("metrics.custom=[politeness]", "metrics.custom[0] must be module:class"),
        ("importance_weighting.strategies=[{weight: 2}]", "strategies[0] needs a `name` of its own, got None"),
        ("training.loss.kl_lambda=nan", "training.loss.kl_lambda must be float, got 'nan'"),
    ],
)  # fmt: skip
def test_a_wrong_override_says_what_is_allowed(given, said):
    assert said in refused(given)


def test_values_that_contradict_each_other_are_named_with_both_places(written):
    message = refused(file=written("training:\n  loss:\n    kl_regularization:\n      min_kl: 2\n"))
    assert "training.loss.kl_regularization.min_kl must be <= training.loss.kl_regularization.max_kl, got 2.0 and 1.0" in message
    assert "mine.yaml:4" in message
    assert "config/online/default.yaml:" in message


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("training:\n  learning_rate: -1\n", "training.learning_rate must be > 0, got -1.0", 2),
        ("training:\n  lerning_rate: 1\n", "unknown key training.lerning_rate (did you mean training.learning_rate?)", 2),
        ("learning_rate: 1\n", "unknown key learning_rate (did you mean training.learning_rate?)", 1),
        ("trainin: {}\n", "unknown key trainin (did you mean training?)", 1),
        ("\ncheckpoint: 3\n", "checkpoint must be a mapping of keys to values, got 3", 2),
        ("- 1\n", "a settings file must be a mapping of keys to values, got [1]", 1),
        ("checkpoint:\n  keep: 2\n  keep: 3\n", "'keep' is given twice, first on line 2", 3),
        ("a: &x 1\n", "not a readable settings file: anchors and aliases (& and *) are not allowed; write the value out", 1),
        ("fact_detection:\n  patterns:\n    - {name: a, pattern: x, relation: r}\n    - name: owns\n      pattern: '(\\w+ is'\n"
         "      relation: r\n", "fact_detection.patterns[1] (owns): not a regular expression: missing ), unterminated subpattern"
         " at position 0, got '(\\w+ is'", 4),
        ("fact_detection:\n  patterns:\n    - {name: a, relation: r}\n", "fact_detection.patterns[0] needs the key 'pattern'", 3),
        ("fact_detection:\n  patterns:\n    - {name: a, pattern: x, relation: r, confidence: 1}\n",
         "unknown key fact_detection.patterns[0].confidence (did you mean min_confidence?)", 3),
        ("fact_detection:\n  question_indicators:\n    - x\n    - '['\n", "fact_detection.question_indicators[1]: not a regular"
         " expression: unterminated character set at position 0, got '['", 4),
        ("safety:\n  personal_patterns: {plate: 'a('}\n", "safety.personal_patterns (plate): not a regular expression: missing ),"
         " unterminated subpattern at position 1, got 'a('", 2),
        ("safety:\n  instruction_patterns: ['*']\n", "safety.instruction_patterns[0]: not a regular expression: nothing", 2),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_with_its_file(written, text, said, line):
    message = refused(file=written(text))
    assert said in message
    assert message.endswith(f"mine.yaml:{line})")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("fact_detection.more_patterns", r"[{name: mine, relation: r, pattern: '(\w+\s?)+ votes (?P<value>\w+)$'}]", "(mine)"),
        ("fact_detection.ignored", r"['^no$', '^(k|kk)+m']", "[1]"),
        ("safety.personal_patterns", "{plate: '(.*)*q'}", "(plate)"),
    ],
)
def test_an_expression_that_takes_for_ever_is_refused_by_name(monkeypatch, key, value, named):
    monkeypatch.setattr(regex_time, "SECONDS", 1.0)
    with pytest.raises(ConfigError, match=re.escape(key)) as error:
        load_settings(overrides=[f"{key}={value}"])
    for said in (named, "takes for ever on some texts", "command line"):
        assert said in str(error.value)


def test_all_built_in_expressions_end_in_good_time():
    found = expressions(load_settings())
    assert len(found) > 40
    regex_time.check_times(found)


def test_a_missing_file_and_an_unknown_preset_are_said_so(tmp_path):
    assert "cannot read the settings file" in refused(file=tmp_path / "none.yaml")
    assert "no preset 'spek' (did you mean spec?); config/online/ has default, small, spec" in refused(preset="spek")
    assert preset_names() == ["default", "small", "spec"]


def test_an_empty_group_changes_nothing(written):
    assert load_settings(file=written("training:\nsafety:\n")) == load_settings() == load_settings("default")


def test_settings_are_checked_where_they_are_made_in_python_too():
    with pytest.raises(ConfigError, match="min_lr_multiplier must be <= "):
        AdaptiveOptimizerSettings(min_lr_multiplier=5.0, max_lr_multiplier=1.0)
    assert dataclasses.is_dataclass(OnlineConfig())


def test_reading_settings_imports_neither_torch_nor_hydra():
    load = "import sys; from ockham.online.settings import load_settings; load_settings('spec')"
    code = f"{load}; print({{'torch', 'hydra'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
