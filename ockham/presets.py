"""Rack presets: YAML files that hold a plugin chain and the hyperparameters under it, strictly checked.

    name: Balanced                       # the title
    description: what it is for
    tags: [scratch, general]
    hyperparameters: {learning_rate: 0.001, ...}
    plugins:
      - type: CompressorPlugin           # a name in ockham.plugins.PLUGINS
        name: compressor                 # optional, as is `enabled: false`
        params: {threshold: 0.1}
    memory: {quality_threshold: 1.5}     # optional

Presets are data: no aliases, no YAML tags, at most 64 KiB. Every error names file, line, what was given and what is allowed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import yaml

from .errors import PresetError, nearest
from .plugins import PLUGINS, OccamPlugin, Param, ParameterError, PluginHost
from .plugins.host import HYPERPARAMETERS as CONTEXT_HYPERPARAMETERS

PRESETS_DIR = Path(__file__).resolve().parents[1] / "presets"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 16  # nested collections; ours need five
TOP_KEYS = ("name", "description", "tags", "hyperparameters", "plugins", "memory")
PLUGIN_KEYS = ("type", "name", "enabled", "params")
HYPERPARAMETERS = (
    Param("learning_rate", None, "peak learning rate", low=0),
    Param("lambda_ockham", None, "price of drift from the anchor", low=0),
    Param("surprise_threshold", None, "gate: loss below which a batch is not learned, nats/token", float | None, low=0),
    Param("target_update_rate", None, "gate: fraction of batches to learn at least", float | None, low=0, high=1),
    Param("consolidate_interval", None, "iterations from one consolidation to the next; 0 = never", int, low=0),
)
MEMORY = (
    Param("quality_threshold", None, "largest loss that is accepted, nats/token", low=0),
    Param("complexity_threshold", None, "largest complexity_cost that is accepted", low=0),
    Param("min_oq_improvement", None, "least relative improvement of the Occam Quotient"),
)
# A number that YAML 1.1 takes for text, such as 1e-3.
BARE_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")

Spec = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """One rack as read from its file. Unpacks as `plugins, memory`."""

    name: str  # the file's stem
    title: str
    description: str
    tags: tuple[str, ...]
    hyperparameters: dict[str, Any]  # those of the file, among HYPERPARAMETERS
    specs: tuple[Spec, ...]  # plain: type, name, enabled, params (all of them, defaults filled in)
    memory: dict[str, float] | None  # thresholds
    path: Path
    sha256: str  # of the file's bytes

    @cached_property
    def plugins(self) -> list[OccamPlugin]:
        """The plugins, built once; `host()` builds its own."""
        return build_plugins(self.specs)

    def host(self) -> PluginHost:
        """A new rack of new plugins, starting from the preset's hyperparameters."""
        values = {k: v for k, v in self.hyperparameters.items() if k in CONTEXT_HYPERPARAMETERS}
        return PluginHost(build_plugins(self.specs), values)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.plugins, self.memory))


def preset_names() -> list[str]:
    """The presets that can be asked for by name."""
    return sorted(p.stem for p in PRESETS_DIR.glob("*.yaml"))


def load_preset(name_or_path: str | Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Preset:
    """The preset of this name in presets/, or, given a Path, the preset in that file.

    `overrides` {plugin name: {parameter: value}} are applied over the file and checked like it. Raises PresetError.
    """
    if isinstance(name_or_path, Path):
        return load_preset_file(name_or_path, overrides)
    stem = name_or_path.removesuffix(".yaml")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", stem):
        raise PresetError(
            f"a preset's name is that of a file directly in {_shown(PRESETS_DIR)}/, got {name_or_path!r};"
            " copy the file there and give its name (in Python: load_preset_file(path))"
        )
    path = PRESETS_DIR / f"{stem}.yaml"
    if not path.is_file():
        known = preset_names()
        raise PresetError(f"no preset {stem!r}{nearest(stem, known)}; {_shown(PRESETS_DIR)}/ has {', '.join(known)}")
    if path.resolve().parent != PRESETS_DIR.resolve():
        raise PresetError(f"preset {stem!r} is a link to {path.resolve()}, outside {_shown(PRESETS_DIR)}/; copy the file there")
    return load_preset_file(path, overrides)


def load_preset_simple(name: str | Path) -> PluginHost:
    """The named preset's rack, ready to run."""
    return load_preset(name).host()


def load_preset_file(path: Path | str, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Preset:
    """The preset in any file; see `load_preset`."""
    path = Path(path)
    document = _Document(path)
    content = document.mapping((), TOP_KEYS, "key")
    if "plugins" not in content:
        document.fail((), f"a preset needs the key 'plugins', a list (it may be []), got {', '.join(content) or 'nothing'}")
    hyperparameters = document.values(("hyperparameters",), HYPERPARAMETERS)
    specs = _specs(document, content["plugins"], hyperparameters)
    tags = content.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        document.fail(("tags",), f"tags must be a list of words, got {tags!r}")
    for key in ("name", "description"):
        if not isinstance(content.get(key, ""), str):
            document.fail((key,), f"{key} must be text, got {content[key]!r}")
    return Preset(
        name=path.stem,
        title=content.get("name", path.stem),
        description=content.get("description", ""),
        tags=tuple(tags),
        hyperparameters=hyperparameters,
        specs=_overridden(specs, overrides or {}),
        memory=None if content.get("memory") is None else document.values(("memory",), MEMORY),
        path=path,
        sha256=hashlib.sha256(document.raw).hexdigest(),
    )


def build_plugins(specs: Sequence[Mapping[str, Any]], seed: int | None = None) -> list[OccamPlugin]:
    """New plugins from plain specs {type, name, enabled, params}, of which only `type` is needed.

    `seed` goes to every plugin that draws and whose own seed is null. Raises PresetError for an unknown type or key,
    ParameterError for a bad parameter.
    """
    plugins = []
    for spec in specs:
        for key in spec:
            if key not in PLUGIN_KEYS:
                hint = nearest(str(key), PLUGIN_KEYS)
                raise PresetError(f"unknown key {key!r} of a plugin{hint}; allowed: {', '.join(PLUGIN_KEYS)}")
        cls, params = _plugin_class(spec.get("type")), dict(spec.get("params") or {})
        if seed is not None and params.get("seed") is None and any(p.name == "seed" for p in cls.PARAMS):
            params["seed"] = seed
        plugin = cls(spec.get("name"), **params)
        plugin.enabled = bool(spec.get("enabled", True))
        plugins.append(plugin)
    return plugins


def _plugin_class(name: Any) -> type[OccamPlugin]:
    if not isinstance(name, str) or name not in PLUGINS:
        raise PresetError(f"unknown plugin type {name!r}{nearest(str(name), PLUGINS)}; allowed: {', '.join(PLUGINS)}")
    return PLUGINS[name]


def _specs(document: _Document, entries: Any, hyperparameters: Mapping[str, Any]) -> list[Spec]:
    """The file's plugins with every parameter resolved; a gate takes what it does not state from the hyperparameters."""
    if not isinstance(entries, list):
        document.fail(("plugins",), f"plugins must be a list of {{type, params}}, got {entries!r}")
    specs: list[Spec] = []
    for index, entry in enumerate(entries):
        at = ("plugins", index)
        if isinstance(entry, str):
            document.fail(at, f"a plugin must be a mapping of {', '.join(PLUGIN_KEYS)}, got {entry!r}; write `- type: {entry}`")
        entry = document.mapping(at, PLUGIN_KEYS, "key of a plugin")
        if "type" not in entry:
            document.fail(at, f"a plugin needs the key 'type', got {', '.join(entry) or 'nothing'}")
        if not isinstance(entry.get("enabled", True), bool):
            document.fail((*at, "enabled"), f"enabled must be true or false, got {entry['enabled']!r}")
        spec = _spec(document, at, entry, hyperparameters)
        if spec["name"] in [s["name"] for s in specs]:
            document.fail((*at, "name"), f"two plugins are called {spec['name']!r}; give one of them another `name:`")
        specs.append(spec)
    return specs


def _spec(document: _Document, at: tuple[Any, ...], entry: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Spec:
    try:
        plugin_class = _plugin_class(entry["type"])
    except PresetError as error:
        document.fail((*at, "type"), str(error))
    name = entry.get("name", plugin_class.name)
    if not isinstance(name, str) or not name or "/" in name:
        document.fail((*at, "name"), f"a plugin's name must be text without '/', got {name!r}")
    params = document.mapping((*at, "params"), None, "parameter") if entry.get("params") is not None else {}
    shared = [p.name for p in plugin_class.PARAMS if p.name in ("surprise_threshold", "target_update_rate")]
    filled = {k: hyperparameters[k] for k in shared if k in hyperparameters} | params
    try:
        plugin = plugin_class(name, **filled)
    except ParameterError as error:
        document.fail((*at, "params", *error.path), str(error))
    return {"type": plugin_class.__name__, "name": name, "enabled": entry.get("enabled", True), "params": plugin.params()}


def _overridden(specs: list[Spec], overrides: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...]:
    names = [s["name"] for s in specs]
    for name, values in overrides.items():
        if name not in names:
            has = ", ".join(names) or "none"
            raise PresetError(f"the preset has no plugin {name!r}{nearest(name, names)}; it has {has} (override)")
        spec = specs[names.index(name)]
        try:
            plugin = _plugin_class(spec["type"])(name, **{**spec["params"], **values})
        except ParameterError as error:
            raise PresetError(f"{error} (override)") from error
        spec["params"] = plugin.params()
    return tuple(specs)


def _shown(path: Path) -> str:
    """The path relative to the working directory where it lies inside, else in full."""
    full, here = path.absolute(), Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that composes plain data only: no anchors, aliases or explicit tags, and little nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        refused = ""
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            refused = "anchors and aliases (& and *) are not allowed; write the value out"
        elif event.tag is not None:
            refused = f"tags are not allowed, got {event.tag}; write the plain value"
        elif self.depth >= MAX_DEPTH:
            refused = f"nested deeper than {MAX_DEPTH} levels"
        if refused:
            raise yaml.composer.ComposerError(None, None, refused, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Document:
    """One YAML file as plain values, with the line of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[Any, ...], int] = {(): 1}
        self.raw = self._read()
        try:
            self._loader = _StrictLoader(self.raw.decode("utf-8-sig"))
            node = self._loader.get_single_node()
            self.content = {} if node is None else self._plain(node, ())
        except UnicodeDecodeError as error:
            line, byte = self.raw[: error.start].count(b"\n") + 1, self.raw[error.start]
            raise PresetError(f"not UTF-8: byte {byte:#04x}; save the file as UTF-8 ({_shown(path)}:{line})") from error
        except (yaml.YAMLError, ValueError) as error:
            raise self._syntax_error(error) from error

    def _read(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PresetError(f"cannot read preset {_shown(self.path)}: {error.strerror}") from error
        if len(raw) > MAX_BYTES:
            raise PresetError(f"preset {_shown(self.path)} is larger than {MAX_BYTES} bytes, the most a preset may have")
        return raw

    def _syntax_error(self, error: Exception) -> PresetError:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        return PresetError(f"not a readable preset: {problem} ({_shown(self.path)}{line})")

    def _plain(self, node: yaml.Node, at: tuple[Any, ...]) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._plain_mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*at, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.style is None and BARE_NUMBER.fullmatch(node.value):
            return float(node.value)
        return self._loader.construct_object(node)

    def _plain_mapping(self, node: yaml.MappingNode, at: tuple[Any, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise PresetError(f"a key must be a word, got a collection ({_shown(self.path)}:{line})")
            if key in values:
                raise PresetError(f"{key!r} is given twice, first on line {self.lines[*at, key]} ({_shown(self.path)}:{line})")
            self.lines[*at, key] = line
            values[key] = self._plain(value_node, (*at, key))
        return values

    def at(self, path: tuple[Any, ...]) -> Any:
        """The value at `path`, None where the file has none."""
        value = self.content
        for key in path:
            value = value.get(key) if isinstance(value, dict) else value[key]
        return value

    def mapping(self, path: tuple[Any, ...], allowed: Sequence[str] | None, what: str) -> dict[str, Any]:
        """The mapping at `path` ({} where it is missing), all of its keys among `allowed`."""
        value = self.at(path)
        where = path[-1] if path and isinstance(path[-1], str) else "a plugin" if path else "a preset"
        if not isinstance(value, dict):
            self.fail(path, f"{where} must be a mapping of keys to values, got {value!r}")
        for key in value:
            if allowed is not None and key not in allowed:
                self.fail((*path, key), f"unknown {what} {key!r}{nearest(key, allowed)}; allowed: {', '.join(allowed)}")
        return value

    def values(self, path: tuple[Any, ...], params: Sequence[Param]) -> dict[str, Any]:
        """The mapping at `path`, each value checked by its Param; {} where it is missing."""
        if self.at(path) is None:
            return {}
        known = {p.name: p for p in params}
        given = self.mapping(path, list(known), f"{path[-1]} key")
        checked = {}
        for key, value in given.items():
            try:
                checked[key] = known[key].check(value, str(path[-1]))
            except ParameterError as error:
                self.fail((*path, *error.path), str(error))
        return checked

    def fail(self, path: tuple[Any, ...], message: str) -> NoReturn:
        """Raises PresetError with the file and the line of `path`, or of what holds it."""
        while path not in self.lines:
            path = path[:-1]
        raise PresetError(f"{message} ({_shown(self.path)}:{self.lines[path]})")
