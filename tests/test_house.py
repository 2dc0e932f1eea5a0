"""The house keeps its rooms: imports point down, files stay small, versions are pinned."""

import ast
import subprocess
import sys

import pytest

TOP_LEVEL = {"configurator", "model", "pretrained", "sample", "train_ockham"}
LEAVES = {"online", "dashboard", "experiment"}
ENTRANCES = {"__main__", "commands"}  # the command line: may import leaves and the top level, inside functions
# What each room of ockham/ may import from ockham/; a room that is not listed may import any but the leaves.
BELOW = {
    "errors": set(),
    "typed": {"errors"},
    "program": {"errors"},
    "config": {"errors", "typed"},
    "context": {"errors"},
    "plugins": {"typed", "context", "errors", "plugins"},
    "document": {"plugins", "errors"},
    "presets": {"document", "plugins", "context", "errors"},
    "check": {"config", "presets", "plugins", "context", "errors"},
    "mistakes": {"config", "document", "presets", "plugins"},
    "sharing": {"document", "presets", "plugins", "files", "errors"},
    "constraints": {"errors"},
    "records": {"constraints", "errors", "files"},
    "configuration": {"config", "configuration", "errors", "macros", "optim", "presets", "typed"},
    "macros": {"errors"},
    "anchor": {"config", "errors"},
    "objective": {"anchor", "errors", "ledger", "precision"},
    "fisher": {"data", "distributed", "ledger"},
    "reference": {"data"},
    "replay_store": {"data", "distributed", "files"},
    "row_source": {"config", "data", "errors", "learner", "objective", "plugins", "reference", "replay_store", "tokenizer"},
    "ledger": set(),
    "lock": {"errors"},
    "stream": {"data", "distributed", "errors"},
    "precision": {"config", "errors"},
    "distributed": {"errors"},
    "calibration": {"distributed"},
    "hardware": set(),
    "bpe": {"errors"},
    "tokenizer": {"bpe", "errors"},
    "data": {"tokenizer", "errors"},
    "optim": {"config", "errors", "optim"},
    "checkpoint": {"errors", "files"},
    "quotient": {"context"},
    "pareto": {"quotient", "context", "errors", "files"},
    "keeper": {"errors"},
    "memory": {"keeper", "pareto", "quotient", "checkpoint", "context", "errors", "files"},
    "returns": {"memory", "checkpoint", "context", "errors"},
    "judged": {"memory", "journal", "learner", "quotient", "context", "config"},
    "runfiles": {"audit", "errors"},
    "journal": {"context", "errors"},
    "requested": {"anchor", "context", "data", "distributed", "errors", "ledger", "precision"},
    "learner": {
        "requested",
        "anchor",
        "fisher",
        "objective",
        "context",
        "data",
        "distributed",
        "errors",
        "ledger",
        "optim",
        "plugins",
        "precision",
        "quotient",
    },
}


def imports(path, package):
    """Modules that a file imports, as (is_ours, first name): ockham's rooms without their prefix."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield (parts[0] == "ockham", parts[1] if parts[0] == "ockham" and len(parts) > 1 else parts[0])
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
                base = [p for p in base if p]
                names = [base[1]] if len(base) > 1 else [a.name for a in node.names]
                yield from ((True, name) for name in names)
            elif node.module:
                parts = node.module.split(".")
                names = [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
                yield from (((parts[0] == "ockham"), n) for n in (names if parts[0] == "ockham" else [parts[0]]))


def rooms(root):
    for path in sorted((root / "ockham").rglob("*.py")):
        relative = path.relative_to(root).with_suffix("").parts
        yield path, relative[1], list(relative[:-1])


def test_imports_point_down(root):
    wrong = []
    for path, room, package in rooms(root):
        for ours, name in imports(path, package):
            if ours and room in BELOW and name not in BELOW[room]:
                wrong.append(f"{path.relative_to(root)} imports ockham.{name}")
            if ours and name in LEAVES and room not in LEAVES | ENTRANCES:
                wrong.append(f"{path.relative_to(root)} imports the leaf {name}")
            if not ours and name in TOP_LEVEL and room not in LEAVES | ENTRANCES:
                wrong.append(f"{path.relative_to(root)} imports the top-level {name}")
    assert wrong == []


@pytest.mark.parametrize("name", ["model.py", "pretrained.py"])
def test_model_knows_nothing_of_ockham(root, name):
    assert not any(ours for ours, _ in imports(root / name, []))


def test_plugins_import_neither_one_another_nor_the_learner(root):
    shared = {"base", "gate"}  # the host asks for the gate's verdict
    for path in (root / "ockham" / "plugins").glob("*.py"):
        if path.stem in ("__init__", "host", "base"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                assert node.module in shared - {"gate"}, f"{path.name} imports {node.module}"


@pytest.mark.parametrize(
    "module", ["configurator", "ockham", "ockham.config", "ockham.presets", "ockham.check", "ockham.sharing", "ockham.__main__"]
)
def test_nothing_heavy_on_import(root, module):
    heavy = "{'torch', 'matplotlib', 'transformers'} & set(sys.modules)"
    code = f"import sys; import {module}; assert not {heavy}, {heavy}"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names_are_these():
    import ockham

    assert sorted(ockham.PUBLIC) == [
        "Anchor", "CompressorPlugin", "CurriculumEQPlugin", "DelayPlugin", "EQPlugin", "Journal", "KLWatchdogPlugin",
        "LearnedGainPlugin", "LearningPlugin", "Ledger", "LimiterPlugin",
        "LoggerPlugin", "ModelSnapshot", "OccamContext", "OccamGatePlugin", "OccamPlugin", "OckhamError", "OckhamGatePlugin",
        "OckhamLearner", "OckhamMemory", "OckhamMemoryV2",
        "PluginHost", "Preset", "RandomSkipPlugin", "ReverbPlugin",
        "SaturationPlugin", "SequenceGatePlugin", "TrainingState", "load_preset", "load_preset_simple",
    ]  # fmt: skip
    for name in ockham.PUBLIC:
        assert getattr(ockham, name) is not None


def test_no_file_is_longer_than_the_house_allows(root):
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("needs git")
    long = {
        f: n
        for f in tracked.stdout.split()
        if not f.startswith("tests/")
        for n in [(root / f).read_text().count("\n")]
        if n > 450
    }
    assert long == {}


def test_every_dependency_is_pinned(root):
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    pinned = {line.split("==")[0].lower() for line in (root / "constraints.txt").read_text().splitlines() if "==" in line}
    names = {d.split(">")[0].split("=")[0].split("<")[0].split("[")[0].strip().lower() for d in wanted}
    assert names <= pinned
