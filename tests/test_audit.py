"""The audit: what decides a run's numbers is written down at its start, and every later change of it is told."""

import json
import re
import shlex
import subprocess
from dataclasses import replace
from io import StringIO

import pytest
import torch
import yaml
from rich.console import Console

from ockham import presets
from ockham.__main__ import main
from ockham.audit import fingerprint
from ockham.audit.fingerprint import NOT_HASHED, config_hash, config_values, device_name, file_hash, git_state
from ockham.audit.place import check_export_json
from ockham.audit.record import audit_record, read_records, repeat_command, write_audit
from ockham.audit.shown import as_section, audit_table, git_text
from ockham.audit.verify import newest_record, verify
from ockham.config import OptimizerConfig, RunConfig, SchedulerConfig
from ockham.errors import ConfigError
from ockham.optim.together import Together
from ockham.typed import from_mapping, leaves, to_mapping

RACK = ({"type": "OckhamGatePlugin", "name": "gate", "enabled": True, "params": {"surprise_threshold": 2.0}},)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of a few small files under git, with a corpus beside them that git ignores."""
    home = tmp_path / "checkout"
    files = {
        "train_ockham.py": "print(1)\n",
        "ockham/__init__.py": "",
        "presets/balanced.yaml": "plugins: []\n",
        "config/optimizer/adamw.yaml": "name: adamw\n",
        "config/optimizer/lookahead.yaml": "base: adamw\n",
        "config/policy/mine.yaml": "dropout: 0.1\n",
        "config/mine.py": "seed = 7\n",
        ".gitignore": "*.bin\nmeta.json\nout/\n",
        "README.md": "read me\n",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / "data/tiny").mkdir(parents=True)
    for name in ("train.bin", "val.bin", "meta.json"):
        (home / "data/tiny" / name).write_bytes(name.encode() * 50)
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        in_git(home, *args)
    monkeypatch.setattr(fingerprint, "ROOT", home)
    monkeypatch.setattr(presets, "PRESETS_DIR", home / "presets")
    monkeypatch.chdir(home)
    return home


def in_git(folder, *args):
    who = ["-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *who, *args], check=True, capture_output=True)


def run_config(**changes):
    return RunConfig(**{"preset": "balanced", "dataset": "tiny", "out_dir": "out", "rack": RACK, "max_iters": 100, **changes})


def adamw_groups():
    decayed, spared = torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.zeros(5))
    return torch.optim.AdamW(
        [{"params": [decayed], "weight_decay": 0.1}, {"params": [spared], "weight_decay": 0.0}], lr=3e-4, betas=(0.9, 0.95)
    ).param_groups


def record_of(config, home, argv=("config/mine.py", "--preset=balanced"), iteration=0, **changes):
    given = {"groups": adamw_groups(), "corpus": home / "data/tiny", "device": torch.device("cpu"), "dtype": "float32", **changes}
    return audit_record(config, argv=argv, iteration=iteration, **given)


def start(home, config=None, **changes):
    """What a start of a run leaves behind: config.yaml and the audit; the record."""
    config = config or run_config()
    out = home / config.out_dir
    out.mkdir(exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(to_mapping(config)))
    record = record_of(config, home, **changes)
    write_audit(out, record, config.optimizer)
    return record


def verdicts(home):
    return {check.what: check.verdict for check in verify(*newest_record(home / "out"))}


# -------------------------------------------------------------------------------------------------------------- the record


def test_the_record_says_all_that_the_run_is_made_of(checkout):
    config = run_config(optimizer=OptimizerConfig(options={"betas": [0.9, 0.95]}, warmup_steps=10))
    record = json.loads(json.dumps(record_of(config, checkout, iteration=40)))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["time"])
    assert record["iteration"] == 40
    made = record["optimizer"]
    assert (made["name"], made["type"], made["lr"], made["options"]) == ("adamw", "AdamW", 3e-4, {"betas": [0.9, 0.95]})
    assert [(g["tensors"], g["parameters"], g["weight_decay"], g["lr"]) for g in made["groups"]] == [
        (1, 12, 0.1, 3e-4),
        (1, 5, 0.0, 3e-4),
    ]
    assert made["groups"][0]["hyperparameters"]["betas"] == [0.9, 0.95]
    assert (record["lookahead"], record["ema"]) == (None, None)
    schedule = record["scheduler"]
    assert (schedule["name"], schedule["clock"], schedule["peak"], schedule["warmup_steps"]) == ("cosine", "iterations", 3e-4, 10)
    assert (schedule["decay_steps"], schedule["min_lr"]) == (100, pytest.approx(3e-5))
    assert record["config_sha256"] == config_hash(to_mapping(config))
    assert record["preset"] == {"name": "balanced", "sha256": file_hash(checkout / "presets/balanced.yaml")["sha256"]}
    assert record["data"]["folder"] == "data/tiny"
    assert set(record["data"]["files"]) == {"train.bin", "val.bin", "meta.json"}
    assert set(record["inputs"]) == {"config/optimizer/adamw.yaml", "presets/balanced.yaml", "config/mine.py"}
    assert re.fullmatch(r"[0-9a-f]{40}", record["code"]["git"]["commit"])
    assert record["code"]["git"]["diff_sha256"] is None
    assert record["versions"]["torch"] == torch.__version__
    assert {"python", "numpy"} <= set(record["versions"])
    machine = record["machine"]
    assert (machine["device"], machine["dtype"], machine["world"]) == ("cpu", "float32", 1)
    assert machine["name"]
    assert machine["threads"] == torch.get_num_threads()
    assert record["config"]["rack"] == [dict(RACK[0])]


def test_wrappers_and_each_part_of_muon_are_recorded(checkout):
    matrix, bias = torch.nn.Parameter(torch.zeros(4, 4)), torch.nn.Parameter(torch.zeros(4))
    both = Together(torch.optim.Muon([matrix], lr=0.02), torch.optim.AdamW([bias], lr=1e-3))
    wrapped = from_mapping(OptimizerConfig, {"lookahead": {"enabled": True, "k": 5}, "ema": {"decay": 0.99}})
    record = record_of(run_config(optimizer=wrapped), checkout, groups=both.param_groups)
    first, second = record["optimizer"]["groups"]
    assert (first["lr"], first["hyperparameters"]["momentum"]) == (0.02, 0.95)
    assert (second["lr"], second["hyperparameters"]["betas"]) == (1e-3, [0.9, 0.999])
    assert record["lookahead"] == {"alpha": 0.5, "k": 5}
    assert record["ema"] == 0.99


def test_groups_of_a_lookahead_are_those_inside_without_its_counter(checkout):
    Lookahead = pytest.importorskip("pytorch_optimizer").Lookahead
    wrapped = Lookahead(torch.optim.SGD([torch.nn.Parameter(torch.zeros(7))], lr=0.1, momentum=0.9), k=3)
    (group,) = record_of(run_config(), checkout, groups=wrapped.param_groups)["optimizer"]["groups"]
    assert (group["parameters"], group["lr"], group["hyperparameters"]["momentum"]) == (7, 0.1, 0.9)
    assert "counter" not in group["hyperparameters"]


@pytest.mark.parametrize(
    ("scheduler", "hook", "expected"),
    [
        (SchedulerConfig(name="none"), True, {"name": "none", "min_lr": None, "warmup_steps": 0}),
        (SchedulerConfig(name="cosine"), False, {"name": "none", "decay_steps": None}),
        (SchedulerConfig(name="linear", min_lr=1e-6, decay_steps=50), True, {"decay_steps": 50, "min_lr": 1e-6}),
        (SchedulerConfig(name="onecycle", clock="updates"), True, {"min_lr": 1.2e-9, "pct_start": 0.3, "clock": "updates"}),
        (SchedulerConfig(name="wsd"), True, {"decay_fraction": 0.2, "min_lr": 3e-5}),
    ],
)  # fmt: skip
def test_the_schedule_is_recorded_as_it_runs(checkout, scheduler, hook, expected):
    got = record_of(run_config(scheduler=scheduler, optimizer=OptimizerConfig(scheduler_hook=hook)), checkout)["scheduler"]
    assert {key: got[key] for key in expected} == pytest.approx(expected)


# -------------------------------------------------------------------------------------------------------------- the hashes


def test_the_hash_looks_neither_at_where_a_run_writes_nor_at_the_order_of_keys():
    config = run_config()
    values = to_mapping(config)
    assert config_hash(values) == config_hash(dict(reversed(values.items()))) == config_hash(config_values(config))
    elsewhere = replace(config, out_dir="x", overwrite=True, log_interval=9, max_hours=1.0, wandb_log=True, data_dir="d")
    quiet = replace(elsewhere, optimizer=OptimizerConfig(log_config=False, export_json=None, rich_console=False))
    assert config_hash(to_mapping(quiet)) == config_hash(values)


@pytest.mark.parametrize("change", [{"seed": 1}, {"rack": ()}, {"optimizer": OptimizerConfig(lr=1e-3)}, {"block_size": 32}])
def test_the_hash_sees_what_changes_the_numbers(change):
    assert config_hash(to_mapping(run_config(**change))) != config_hash(to_mapping(run_config()))


def test_every_key_that_is_not_hashed_exists():
    assert set(NOT_HASHED) <= set(leaves(RunConfig))


def test_a_small_file_is_hashed_as_sha256sum_does(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert file_hash(tmp_path / "f") == {"sha256": known, "bytes": 3}
    assert file_hash(tmp_path / "no") is None


@pytest.mark.parametrize(("at", "is_seen"), [(0, True), (1_000, True), (4_999, True), (500, False)])
def test_a_sampled_hash_sees_a_byte_in_any_sample_and_says_that_it_is_one(tmp_path, monkeypatch, at, is_seen):
    for name, value in {"SAMPLED_ABOVE": 4_999, "BLOCK": 10, "BLOCKS": 4}.items():
        monkeypatch.setattr(fingerprint, name, value)
    path, data = tmp_path / "large", bytearray(5_000)  # samples of 10 bytes from 0, 998, 1996, 2994, 3992, 4990
    path.write_bytes(data)
    before = file_hash(path)
    assert before["sampled"]
    data[at] = 1
    path.write_bytes(data)
    assert (file_hash(path) != before) == is_seen
    path.write_bytes(data[:-1])
    assert "sampled" not in file_hash(path)


def test_a_sampled_hash_sees_another_length(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "SAMPLED_ABOVE", 100)
    monkeypatch.setattr(fingerprint, "BLOCK", 10)
    (tmp_path / "a").write_bytes(bytes(5_000))
    (tmp_path / "b").write_bytes(bytes(5_001))
    assert file_hash(tmp_path / "a")["sha256"] != file_hash(tmp_path / "b")["sha256"]


def test_without_git_there_is_no_commit_but_the_code_is_hashed(tmp_path, monkeypatch):
    (tmp_path / "ockham").mkdir()
    (tmp_path / "ockham/__init__.py").touch()
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None
    before = fingerprint.code_hash()
    (tmp_path / "ockham/new.py").write_text("x = 1\n")
    assert fingerprint.code_hash() != before


def test_files_that_git_does_not_know_are_counted_where_a_run_reads(checkout, monkeypatch):
    monkeypatch.setattr(fingerprint, "ROOT", checkout)
    before = git_state()
    for name in ("config/optimizer/mine.yaml", "presets/mine.yaml", "ockham/mine.py", "notes.txt"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    after = git_state()
    assert (before["untracked"], after["untracked"], after["diff_sha256"]) == (0, 3, None)
    assert (git_text(before)[14:], git_text(after)[14:]) == ("clean", "clean, 3 untracked")
    assert git_text({"commit": "c" * 40, "diff_sha256": None}).endswith("clean")  # a record of older code


def test_a_copy_inside_somebody_elses_repository_has_no_commit(checkout, monkeypatch):
    (checkout / "site/ockham").mkdir(parents=True)
    (checkout / "site/ockham/__init__.py").touch()
    monkeypatch.setattr(fingerprint, "ROOT", checkout / "site")
    assert git_state() is None


def test_devices_that_are_not_there_have_no_name():
    assert device_name(torch.device("cpu"))
    assert device_name(torch.device("cuda", 99)) is None


# ------------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    "argv", [[], ["config/mine.py", "--start=a b", "--wandb_run_name=it's $HOME", "optimizer=sgd", "x=[1,2]"]]
)
def test_the_command_gives_the_arguments_back(argv):
    assert shlex.split(repeat_command(argv)) == ["python", "train_ockham.py", *argv]


def test_the_command_of_several_ranks_is_torchruns(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    wanted = "torchrun --standalone --nproc_per_node=4 train_ockham.py --seed=1"
    assert repeat_command(["--seed=1"], 4) == wanted
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert repeat_command([], 4).startswith("torchrun --nnodes=2 --nproc_per_node=2 ")


# --------------------------------------------------------------------------------------------------------------- the files


def test_every_start_appends_a_section_and_a_record(checkout):
    first = start(checkout)
    before = (checkout / "out/audit.md").read_text()
    second = start(checkout, iteration=40)
    text = (checkout / "out/audit.md").read_text()
    assert text.startswith(before)
    assert re.findall(r"^## .* UTC: (.*)$", text, re.MULTILINE) == ["adamw, iteration 0", "adamw, iteration 40"]
    assert read_records(checkout / "out/audit.json") == json.loads(json.dumps([first, second]))


def test_a_section_holds_figures_hash_and_command(checkout):
    record = record_of(run_config(), checkout, ["--wandb_run_name=a|b"])
    text = as_section(record)
    for part in (
        "| optimizer | adamw (AdamW), lr 0.0003 |",
        "12 parameters in 1 tensors: lr 0.0003, decay 0.1",
        f"| sha256 data/tiny/train.bin | {file_hash(checkout / 'data/tiny/train.bin')['sha256']}, 450 bytes |",
        f"| config sha256 | {record['config_sha256']} |",
        "```bash\npython train_ockham.py '--wandb_run_name=a|b'\n```\n",
    ):
        assert part in text


def test_a_command_with_backticks_stays_inside_its_block(checkout):
    text = as_section(record_of(run_config(), checkout, ["--wandb_run_name=```"]))
    assert text.endswith("\n````\n\n")


@pytest.mark.parametrize(
    ("log", "hash_", "file", "names"),
    [
        (False, False, None, set()),
        (False, False, "sub/a.json", {"sub"}),
        (True, False, None, {"audit.md"}),
        (False, True, None, {"audit.md"}),
        (True, True, "audit.json", {"audit.md", "audit.json"}),
    ],
)
def test_flags_decide_what_is_written(checkout, log, hash_, file, names):
    wanted = OptimizerConfig(log_config=log, hash_to_debuglog=hash_, export_json=file)
    out = checkout / "out"
    out.mkdir()
    record = record_of(run_config(optimizer=wanted), checkout)
    write_audit(out, record, wanted)
    assert {path.name for path in out.iterdir()} == names
    if "audit.md" in names:
        text = (out / "audit.md").read_text()
        assert (record["config_sha256"] in text) == hash_
        assert text.startswith("## ") == log
        assert text.count("\n") == 1 or log
    if file:
        assert read_records(out / file)[-1]["config_sha256"] == record["config_sha256"]


def test_a_json_file_that_is_something_else_is_not_overwritten(checkout):
    (checkout / "summary.json").write_text('{"val_loss": 1}')
    with pytest.raises(ConfigError, match=r"summary.json holds no audit.*another name"):
        write_audit(checkout, record_of(run_config(), checkout), OptimizerConfig(export_json="summary.json"))
    assert (checkout / "summary.json").read_text() == '{"val_loss": 1}'


def test_the_console_table_holds_the_figures(checkout):
    wanted = from_mapping(OptimizerConfig, {"betas": [0.9, 0.95], "lookahead": {"enabled": True}, "ema": {"decay": 0.99}})
    record = record_of(run_config(optimizer=wanted, scheduler=SchedulerConfig(warmup_steps=7, clock="updates")), checkout)
    screen = StringIO()
    Console(file=screen, width=200).print(audit_table(record))
    for part in (
        "adamw (AdamW), lr 0.0003", "betas [0.9, 0.95]", "12 parameters in 1 tensors: lr 0.0003, decay 0.1",
        "5 parameters in 1 tensors: lr 0.0003, decay 0", "alpha 0.5, k 6", "decay 0.99", "1, 1 micro-batches",
        "float32, not fused", "cosine over updates", "peak 0.0003, warm-up 7, 3e-05 at 100", record["config_sha256"][:12],
    ):  # fmt: skip
        assert part in screen.getvalue()


# ----------------------------------------------------------------------------------------------------- ockham audit verify


def test_a_run_that_nothing_has_happened_to_is_the_same(checkout, capsys):
    start(checkout)
    assert main(["audit", "verify", str(checkout / "out"), "--strict"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("same ") for line in lines)
    for part in ("config.yaml", "data/tiny/train.bin", "presets/balanced.yaml", "config/mine.py", "code", "git commit", "torch"):
        assert any(f" {part}: " in line for line in lines), part


def edit(path, old, new):
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("data/tiny/train.bin", lambda home: edit(home / "data/tiny/train.bin", b"t", b"T")),
        ("data/tiny/meta.json", lambda home: edit(home / "data/tiny/meta.json", b"m", b"M")),
        ("config.yaml", lambda home: edit(home / "out/config.yaml", b"seed: 1337", b"seed: 1338")),
        ("config.yaml", lambda home: edit(home / "out/config.yaml", b"surprise_threshold: 2.0", b"surprise_threshold: 2.5")),
        ("config.yaml", lambda home: edit(home / "out/config.yaml", b"seed: 1337", b"sede: 1337")),
        ("presets/balanced.yaml", lambda home: edit(home / "presets/balanced.yaml", b"[]", b"[ ]")),
        ("config/optimizer/adamw.yaml", lambda home: edit(home / "config/optimizer/adamw.yaml", b"name", b"# name")),
        ("config/mine.py", lambda home: edit(home / "config/mine.py", b"7", b"8")),
        ("code", lambda home: edit(home / "train_ockham.py", b"1", b"2")),
    ],
)
def test_a_change_of_what_decides_the_numbers_is_told_and_exits_with_1(checkout, capsys, what, change):
    start(checkout)
    change(checkout)
    assert main(["audit", "verify", str(checkout / "out")]) == 1
    changed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("same")]
    assert changed[0].startswith(f"CHANGED  {what}: ")
    assert " → " in changed[0]
    assert {line.split(":")[0].split(maxsplit=1)[1] for line in changed} <= {what, "uncommitted changes"}


def test_a_change_of_the_config_names_the_keys(checkout, capsys):
    start(checkout)
    edit(checkout / "out/config.yaml", b"surprise_threshold: 2.0", b"surprise_threshold: 2.5")
    edit(checkout / "out/config.yaml", b"lr: 0.0003", b"lr: 0.0005")
    main(["audit", "verify", str(checkout / "out")])
    line = capsys.readouterr().out.splitlines()[0]
    assert "optimizer.lr 0.0003 → 0.0005" in line
    assert "rack[0].params.surprise_threshold 2 → 2.5" in line


def test_what_the_numbers_do_not_depend_on_may_change_in_config_yaml(checkout):
    start(checkout)
    edit(checkout / "out/config.yaml", b"log_interval: 1", b"log_interval: 10")
    assert verdicts(checkout)["config.yaml"] == "same"


def test_a_key_that_only_newer_code_has_is_no_change_of_the_config(checkout):
    record = start(checkout)
    values = yaml.safe_load((checkout / "out/config.yaml").read_text())
    del values["eval_calibration"], record["config"]["eval_calibration"]
    record["config_sha256"] = config_hash(record["config"])
    (checkout / "out/config.yaml").write_text(yaml.safe_dump(values))
    write_audit(checkout / "out", record, OptimizerConfig())
    assert verdicts(checkout)["config.yaml"] == "same"


@pytest.mark.parametrize("name", ["out/config.yaml", "data/tiny/val.bin", "presets/balanced.yaml"])
def test_what_is_gone_is_told_and_exits_with_1(checkout, capsys, name):
    start(checkout)
    (checkout / name).unlink()
    assert main(["audit", "verify", str(checkout / "out")]) == 1
    gone = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gone ")]
    assert len(gone) == 1
    assert name.removeprefix("out/") in gone[0]


def test_another_commit_with_the_same_code_is_told_but_decides_nothing_unless_strict(checkout, capsys):
    start(checkout)
    (checkout / "README.md").write_text("read me again\n")
    assert verdicts(checkout)["uncommitted changes"] == "CHANGED"
    in_git(checkout, "commit", "-qam", "second")
    assert main(["audit", "verify", str(checkout / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith("same")] == ["CHANGED  git commit"]
    assert main(["audit", "verify", str(checkout / "out"), "--strict"]) == 1


def test_other_versions_and_devices_are_told_but_decide_nothing_unless_strict(checkout, monkeypatch):
    record = start(checkout)
    record["versions"]["torch"] = "1.0"
    record["machine"] |= {"device": "cuda:99", "name": "a card", "threads": 999}
    write_audit(checkout / "out", record, OptimizerConfig())
    told = verdicts(checkout)
    assert (told["torch"], told["device cuda:99"], told["CPU threads"]) == ("CHANGED", "gone", "CHANGED")
    assert main(["audit", "verify", str(checkout / "out")]) == 0
    assert main(["audit", "verify", str(checkout / "out"), "--strict"]) == 1


def test_weights_that_are_brought_in_are_checked(checkout):
    (checkout / "base").mkdir()
    (checkout / "base/ckpt.pt").write_bytes(b"weights")
    start(checkout, run_config(init_from="base"))
    assert verdicts(checkout)["base/ckpt.pt"] == "same"
    (checkout / "base/ckpt.pt").write_bytes(b"Weights")
    assert verdicts(checkout)["base/ckpt.pt"] == "CHANGED"


@pytest.mark.parametrize("name", ["optimizer/lookahead", "optimizer/adamw", "policy/mine"])
def test_wrapper_base_and_policy_are_checked_where_they_were_chosen(checkout, name):
    start(checkout, run_config(policy="mine", optimizer=from_mapping(OptimizerConfig, {"lookahead": {"enabled": True}})))
    assert verdicts(checkout)[f"config/{name}.yaml"] == "same"
    with open(checkout / f"config/{name}.yaml", "a") as file:
        file.write("# another word\n")
    assert {what for what, verdict in verdicts(checkout).items() if verdict == "CHANGED"} == {
        f"config/{name}.yaml", "uncommitted changes",
    }  # fmt: skip
    assert main(["audit", "verify", "out"]) == 1


def test_a_wrapper_and_a_policy_that_were_not_chosen_are_left_alone(checkout):
    start(checkout)
    assert not {"config/optimizer/lookahead.yaml", "config/policy/mine.yaml"} & verdicts(checkout).keys()


@pytest.mark.parametrize(
    "name",
    [
        *("last.pt", "config.yaml", "journal.jsonl", "summary.json", "job.json", "sweep.json", "./Summary.JSON", "audit"),
        *("/tmp/audit.json", "../audit.json", "sub/../../audit.json", "memory/index.json", "."),
    ],
)
def test_the_audits_json_is_a_file_of_its_own_inside_out_dir(name):
    with pytest.raises(
        ConfigError, match=r"optimizer.export_json must be the name of a \.json file inside out_dir.*\(mine.yaml\)"
    ):
        check_export_json(name, "mine.yaml")


@pytest.mark.parametrize("name", [None, "", "audit.json", "outputs/diagnostics/optimizer_adamw.json", "sub/summary.json"])
def test_other_names_of_the_audits_json_are_taken(name):
    check_export_json(name, "mine.yaml")


def test_the_newest_start_is_what_is_compared(checkout):
    start(checkout)
    edit(checkout / "data/tiny/train.bin", b"t", b"T")
    start(checkout, iteration=40)
    assert set(verdicts(checkout).values()) == {"same"}


def test_a_run_folder_may_be_moved_and_the_json_named_otherwise_or_given_itself(checkout):
    config = run_config(optimizer=OptimizerConfig(export_json="diagnostics/adamw.json"))
    start(checkout, config)
    assert main(["audit", "verify", "out/diagnostics/adamw.json"]) == 0
    (checkout / "out").rename(checkout / "moved")
    assert main(["audit", "verify", "moved"]) == 0


@pytest.mark.parametrize("verb", ["verify", "show"])
def test_a_folder_without_an_audit_is_one_line_with_the_fix(checkout, capsys, verb):
    assert main(["audit", verb, "out"]) == 1
    start(checkout, run_config(optimizer=OptimizerConfig(log_config=False, hash_to_debuglog=False, export_json=None)))
    capsys.readouterr()
    assert main(["audit", verb, "out"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert ("optimizer.export_json" if verb == "verify" else "optimizer.log_config") in said


def test_show_prints_the_newest_section(checkout, capsys):
    start(checkout)
    start(checkout, iteration=40)
    assert main(["audit", "show", "out"]) == 0
    told = capsys.readouterr().out
    assert (told.count("iteration 40"), told.count("iteration 0")) == (1, 0)
    assert "python train_ockham.py config/mine.py --preset=balanced\n" in told
    assert main(["audit", "show", "out/audit.json"]) == 0
    assert capsys.readouterr().out == told
