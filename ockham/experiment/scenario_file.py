"""A scenario as it is written: corpora separated by commas, or a YAML file, strictly read; errors name file and line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..configuration.files import CONFIG_DIR, ROOT, SUFFIXES
from ..configuration.keys import is_known, known_keys
from ..document import Document
from ..errors import ConfigError, PresetError, nearest
from ..plugins import Param
from .scenario import KINDS, Scenario, Stage, Stream, check_scenarios_own

SCENARIOS = ROOT / "scenarios"
STREAM_KEYS = ("kind", "from", "bands", "shares")
STAGE_KEYS = ("dataset", "stream", "args", "shared")


def read_scenario(text: str) -> Scenario:
    """`shakespeare_char,tinystories`, or a YAML file. Raises ConfigError, PresetError with file and line."""
    if text.endswith((".yaml", ".yml")):
        return from_file(Path(text))
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"--scenario must be corpora separated by commas, or a YAML file, got {text!r}")
    stages = tuple(Stage(name, is_shared=place < len(names) - 1) for place, name in enumerate(names))
    return Scenario("-".join(names).replace("/", "-"), stages)


def from_file(path: Path) -> Scenario:
    """A scenario's file: one that is there, else one of those in scenarios/."""
    found = next((place for place in (path, ROOT / path, SCENARIOS / path) if place.is_file()), None)
    if found is None:
        known = sorted(place.name for place in SCENARIOS.glob("*.yaml"))
        raise ConfigError(f"--scenario: no file {path}{nearest(path.name, known)}; scenarios/ has {', '.join(known)}")
    try:
        document = Document(found)
    except PresetError as error:
        raise PresetError(
            str(error).replace("a readable preset", "a readable scenario").replace("a preset is", "a scenario is")
        ) from error
    return scenario_of(document)


# ------------------------------------------------------------------------------------------------------------- the document


def scenario_of(document: Document) -> Scenario:
    """The scenario in a document, checked. Raises PresetError with file and line."""
    if not isinstance(document.content, dict):
        document.fail((), f"a scenario must be a mapping of keys to values, got {document.content!r}")
    document.mapping((), ("name", "description", "recipe", "stages"), "key of a scenario")
    stages = document.at(("stages",))
    if not isinstance(stages, list) or not stages:
        document.fail(("stages",), f"stages must be a list of one stage or more, got {stages!r}")
    read = tuple(stage_of(document, place, place == len(stages) - 1) for place in range(len(stages)))
    alone = next((place for place, stage in enumerate(read) if not stage.is_shared), len(read))
    late = next((place for place in range(alone, len(read)) if read[place].is_shared), None)
    if late is not None:
        document.fail(
            ("stages", late, "shared"), "a shared stage cannot follow one that each variant trains itself; set shared: false"
        )
    name = text_at(document, "name", document.path.stem)
    if not all(c.isalnum() or c in "-_." for c in name):
        document.fail(("name",), f"name must be of letters, digits, -, _ and ., got {name!r}")
    return Scenario(name, read, text_at(document, "description", ""), recipe_of(document))


def text_at(document: Document, key: str, default: str) -> str:
    """A text of the scenario."""
    value = document.at((key,))
    if value is not None and not isinstance(value, str):
        document.fail((key,), f"{key} must be text, got {value!r}")
    return value or default


def recipe_of(document: Document) -> str:
    """A recipe, which must be one in config/: a file of the checkout may run code, one that a scenario brings along may not."""
    recipe = text_at(document, "recipe", "")
    known = sorted(path.name for path in CONFIG_DIR.iterdir() if path.suffix in SUFFIXES)
    if recipe and recipe.removeprefix("config/") not in known:
        document.fail(
            ("recipe",), f"recipe must be a file in config/, got {recipe!r}{nearest(recipe.removeprefix('config/'), known)}"
        )
    return f"config/{recipe.removeprefix('config/')}" if recipe else ""


def stage_of(document: Document, place: int, is_last: bool) -> Stage:
    """One entry of `stages`."""
    at = ("stages", place)
    if not isinstance(document.at(at), dict):
        document.fail(at, f"a stage must be a mapping such as {{dataset: fables}}, got {document.at(at)!r}")
    given = document.mapping(at, STAGE_KEYS, "key of a stage")
    if ("dataset" in given) == ("stream" in given):
        document.fail(at, "a stage needs either dataset: NAME or stream: {kind: …, from: …}")
    shared = given.get("shared", not is_last)
    if not isinstance(shared, bool):
        document.fail((*at, "shared"), f"shared must be true or false, got {shared!r}")
    if is_last and shared:
        document.fail((*at, "shared"), "the last stage is what the variants do differently; it cannot be shared")
    args = args_of(document, (*at, "args"))
    if "stream" in given:
        stream = stream_of(document, (*at, "stream"))
        return Stage(f"{stream.kind}-{'-'.join(stream.sources)}".replace("/", "-"), stream, args, shared)
    name = corpus_name(document, (*at, "dataset"), given["dataset"])
    return Stage(name, None, args, shared)


def args_of(document: Document, at: tuple[Any, ...]) -> tuple[str, ...]:
    """The train arguments of a stage: --key=value or key=value, of keys that a run has and that are not the experiment's."""
    words = document.at(at) if "args" in document.at(at[:-1]) else []
    if not isinstance(words, list):
        document.fail(at, f"args must be a list such as [--max_iters=400], got {words!r}")
    for place, word in enumerate(words):
        if not isinstance(word, str) or "=" not in word or word.endswith(SUFFIXES):
            document.fail((*at, place), f"an argument must be --key=value or group=name, got {word!r}")
        key = word.lstrip("-+").partition("=")[0]
        if not is_known(key):
            document.fail((*at, place), f"unknown key {key}{nearest(key, known_keys())}")
        try:
            check_scenarios_own(word, "a stage")
        except ConfigError as error:
            document.fail((*at, place), str(error))
    return tuple(words)


# ----------------------------------------------------------------------------------------------------------------- streams


def stream_of(document: Document, at: tuple[Any, ...]) -> Stream:
    """The mapping under `stream`."""
    value = document.at(at)
    if not isinstance(value, dict):
        document.fail(at, f"stream must be a mapping such as {{kind: repeats, from: fables}}, got {value!r}")
    kind = value.get("kind")
    if kind not in KINDS:
        document.fail((*at, "kind"), f"kind must be one of {', '.join(KINDS)}, got {kind!r}{nearest(str(kind), KINDS)}")
    own = {param.name: param for param in KINDS[kind]}
    allowed = [key for key in STREAM_KEYS if key != "shares" or kind == "mixture"]
    given = document.mapping(at, [*allowed, *own], f"key of a stream of kind {kind}")
    sources = sources_of(document, at)
    if kind in ("mixture", "switch") and len(sources) < 2:
        document.fail((*at, "from"), f"a {kind} needs two sources or more: from: [A, B], or bands: [easy, hard]")
    params: dict[str, Any] = {name: param.default for name, param in own.items()}
    for name in own.keys() & given.keys():
        params[name] = checked(document, (*at, name), own[name], given[name], kind)
    return Stream(kind, sources, params, shares_of(document, at, sources) if kind == "mixture" else ())


def checked(document: Document, at: tuple[Any, ...], param: Param, value: Any, owner: str) -> Any:
    """A value that its Param allows."""
    try:
        return param.check(value, owner)
    except ConfigError as error:
        document.fail(at, str(error))


def sources_of(document: Document, at: tuple[Any, ...]) -> tuple[str, ...]:
    """The corpora under `from`, each cut into the bands under `bands` where those are given."""
    given = document.at((*at, "from")) if "from" in document.at(at) else None
    names = given if isinstance(given, list) else [given]
    if not names:
        document.fail((*at, "from"), "from must be a corpus, or a list of them, got []")
    corpora = [corpus_name(document, (*at, "from"), name) for name in names]
    bands = document.at((*at, "bands")) if "bands" in document.at(at) else []
    if not isinstance(bands, list) or not all(isinstance(band, str) and band for band in bands):
        document.fail((*at, "bands"), f"bands must be a list of names, got {bands!r}")
    found = [f"{corpus}/{band}" for corpus in corpora for band in bands] if bands else corpora
    if len(set(found)) < len(found):
        document.fail((*at, "from"), f"a source is given twice: {', '.join(found)}")
    return tuple(found)


def corpus_name(document: Document, at: tuple[Any, ...], name: Any) -> str:
    """The name of a folder in data/."""
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        document.fail(at, f"{at[-1]} must name a corpus, a folder in data/, got {name!r}")
    return name


def shares_of(document: Document, at: tuple[Any, ...], sources: Sequence[str]) -> tuple[float, ...]:
    """The shares of a mixture, made to sum to 1; equal ones where none are given."""
    given = document.at((*at, "shares")) if "shares" in document.at(at) else [1.0] * len(sources)
    if not (isinstance(given, list) and len(given) == len(sources)) or not all(
        isinstance(s, (int, float)) and not isinstance(s, bool) and 0 < s < math.inf for s in given
    ):
        document.fail((*at, "shares"), f"shares must be {len(sources)} numbers above 0, one a source, got {given!r}")
    return tuple(share / sum(given) for share in given)
