"""Rack presets: YAML files that hold a plugin chain and the hyperparameters under it, strictly checked.

    name: Balanced                       # the title
    description: what it is for
    tags: [scratch, general]
    hyperparameters: {learning_rate: 0.001, ...}
    plugins:
      - type: CompressorPlugin           # a name in ockham.plugins.PLUGINS, or an entry point of group ockham.plugins
        name: compressor                 # optional, as is `enabled: false`
        params: {threshold: 0.1}
    memory: {quality_threshold: 1.5}     # optional, as are
    anchor: {kind: kl}                   # what resists drift, and
    replay: {fraction: 0.25}             # how much of the old is learned again
    package: {...}                       # what `ockham preset pack` adds

Presets are data: no aliases, no YAML tags, at most 64 KiB. Every error names file, line, what was given and what is allowed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .document import Document, shown
from .errors import PresetError, nearest
from .plugins import PLUGINS, OccamPlugin, Param, ParameterError, PluginHost
from .plugins.entry import entry_names, plugin_from_entry_point
from .plugins.host import HYPERPARAMETERS as CONTEXT_HYPERPARAMETERS

PRESETS_DIR = Path(__file__).resolve().parents[1] / "presets"
TOP_KEYS = ("name", "description", "tags", "hyperparameters", "plugins", "memory", "anchor", "replay", "package")
PACKAGE_KEYS = ("author", "tested_with", "needs", "sha256")
PLUGIN_KEYS = ("type", "name", "enabled", "params")
HYPERPARAMETERS = (
    Param("learning_rate", None, "peak learning rate", low=0),
    Param("lambda_ockham", None, "price of drift from the anchor", low=0),
    Param("surprise_threshold", None, "gate: loss below which a batch is not learned, nats/token", float | None, low=0),
    Param("target_update_rate", None, "gate: fraction of batches to learn at least", float | None, low=0, high=1),
    Param("consolidate_interval", None, "iterations from one consolidation to the next; 0 = never", int, low=0),
)
MEMORY = (
    Param("quality_threshold", None, "largest loss that is accepted, nats/token; null = any", float | None, low=0),
    Param("complexity_threshold", None, "largest complexity_cost that is accepted; null = any", float | None, low=0),
    Param("min_oq_improvement", None, "least relative improvement of the Occam Quotient; null = any", float | None),
    Param("max_snapshots", None, "snapshots kept", int, low=1),
    Param("max_mb", None, "bytes of all snapshots, MB; 0 = no cap", low=0),
    Param("consolidate_on_accept", None, "an accepted state becomes the anchor", bool),
)
ANCHOR = (
    Param("kind", None, "what resists drift: l2, decoupled, fisher, kl, or several joined by +", str),
    Param("l2", None, "strength of kind l2, in units of lambda_ockham", low=0),
    Param("decoupled", None, "strength of kind decoupled, in units of lambda_ockham", low=0),
    Param("fisher", None, "strength of kind fisher, in units of lambda_ockham", low=0),
    Param("kl", None, "strength of kind kl, in units of lambda_ockham", low=0),
    Param("alpha", None, "how far a consolidation takes the anchor towards the weights", low=0, high=1),
    Param("fisher_sequences", None, "sequences that the Fisher information is measured on", int, low=1),
)
REPLAY = (
    Param("fraction", None, "share of each batch that is replayed", low=0, high=0.99),
    Param("windows", None, "size of the store, windows of block_size", int, low=1),
    Param("ce", None, "weight of the cross entropy on replayed sequences", low=0),
    Param("kl", None, "weight of KL(anchor || model) on replayed sequences", low=0),
    Param("temperature", None, "generated text: sampling temperature", low=0.01),
)
ROOMS = {"memory": MEMORY, "anchor": ANCHOR, "replay": REPLAY}  # blocks of a preset that are rooms of the config

# Short names from elsewhere -> the hyperparameter meant.
MEANT = {"lr": "learning_rate", "tau": "surprise_threshold", "lambda": "lambda_ockham", "interval": "consolidate_interval"}

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
    memory: dict[str, Any] | None  # thresholds, as OckhamMemory takes them
    path: Path
    sha256: str  # of the file's bytes
    anchor: dict[str, Any] | None = None  # what resists drift, among ANCHOR
    replay: dict[str, Any] | None = None  # what is learned again, among REPLAY
    package: dict[str, Any] | None = None  # of a packed preset: author, tested_with, needs, sha256 of the content

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


def usable_presets() -> tuple[list[Preset], dict[str, PresetError]]:
    """The presets in presets/ that can be read, and of the others by name why not."""
    usable, errors = [], {}
    for name in preset_names():
        try:
            usable.append(load_preset(name))
        except PresetError as error:
            errors[name] = error
    return usable, errors


def preset_path(name: str) -> Path:
    """Where the preset of this name lies, or would lie."""
    return PRESETS_DIR / f"{name.removesuffix('.yaml')}.yaml"


def load_preset(name_or_path: str | Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Preset:
    """The preset of this name in presets/, or, given a Path, the preset in that file.

    `overrides` {plugin name: {parameter: value}} are applied over the file and checked like it. Raises PresetError.
    """
    if isinstance(name_or_path, Path):
        return load_preset_file(name_or_path, overrides)
    stem = name_or_path.removesuffix(".yaml")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", stem):
        raise PresetError(
            f"a preset's name is that of a file directly in {shown(PRESETS_DIR)}/, got {name_or_path!r};"
            " copy the file there and give its name (in Python: load_preset_file(path))"
        )
    path = preset_path(stem)
    if not path.is_file():
        known = preset_names()
        raise PresetError(f"no preset {name_or_path!r}{nearest(stem, known)}; {shown(PRESETS_DIR)}/ has {', '.join(known)}")
    if path.resolve().parent != PRESETS_DIR.resolve():
        raise PresetError(f"preset {stem!r} is a link to {path.resolve()}, outside {shown(PRESETS_DIR)}/; copy the file there")
    return load_preset_file(path, overrides)


def load_preset_simple(name: str | Path) -> PluginHost:
    """The named preset's rack, ready to run."""
    return load_preset(name).host()


def load_preset_file(path: Path | str, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Preset:
    """The preset in any file; see `load_preset`."""
    return read_preset(Document(Path(path)), overrides)


def read_preset(document: Document, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Preset:
    """The preset in a document; see `load_preset`."""
    path = document.path
    content = document.mapping((), TOP_KEYS, "key", _belongs_elsewhere)
    if "plugins" not in content:
        document.fail((), f"a preset needs the key 'plugins', a list (it may be []), got {', '.join(content) or 'nothing'}")
    hyperparameters = document.values(("hyperparameters",), HYPERPARAMETERS, MEANT)
    specs = _specs(document, content["plugins"], hyperparameters)
    tags = content.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        document.fail(("tags",), f"tags must be a list of words, got {tags!r}")
    for index in range(len(tags)):
        document.one_line(("tags", index), "a tag")
    for key in ("name", "description"):
        if not isinstance(content.get(key, ""), str):
            document.fail((key,), f"{key} must be text, got {content[key]!r}")
    document.one_line(("name",), "name")
    return Preset(
        name=path.stem,
        title=content.get("name", path.stem),
        description=content.get("description", ""),
        tags=tuple(tags),
        hyperparameters=hyperparameters,
        specs=_overridden(specs, overrides or {}),
        **{room: None if content.get(room) is None else document.values((room,), allowed) for room, allowed in ROOMS.items()},
        path=path,
        sha256=hashlib.sha256(document.raw).hexdigest(),
        package=None if content.get("package") is None else _package(document),
    )


def _belongs_elsewhere(key: str) -> str:
    if key in MEANT or key in [p.name for p in HYPERPARAMETERS]:
        return f" ({MEANT.get(key, key)} belongs under hyperparameters)"
    rooms = [room for room, allowed in ROOMS.items() if key in [p.name for p in allowed]]
    return f" ({key} belongs under {' or '.join(rooms)})" if rooms else ""


def _package(document: Document) -> dict[str, Any]:
    """The block of a packed preset, its keys and types checked; whether the hash fits is `ockham.sharing`'s to say."""
    package = document.mapping(("package",), PACKAGE_KEYS, "key of package")
    for key, value in package.items():
        if key in ("author", "sha256"):
            if not isinstance(value, str):
                document.fail(("package", key), f"package.{key} must be text, got {value!r}")
            document.one_line(("package", key), f"package.{key}")
            continue
        for name, text in document.mapping(("package", key), None, "name").items():
            if not isinstance(text, str):
                document.fail(("package", key, name), f"package.{key}.{name} must be text, got {text!r}")
            document.one_line(("package", key, name), f"package.{key}.{name}")
    return package


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
        cls, params = plugin_class(spec.get("type")), dict(spec.get("params") or {})
        if seed is not None and params.get("seed") is None and any(p.name == "seed" for p in cls.PARAMS):
            params["seed"] = seed
        plugin = make_plugin(spec["type"], spec.get("name"), params)
        plugin.enabled = bool(spec.get("enabled", True))
        plugins.append(plugin)
    return plugins


def plugin_class(name: Any) -> type[OccamPlugin]:
    """The class of a plugin type: our own table first, then installed packages' entry points. Raises PresetError."""
    if isinstance(name, str) and name in PLUGINS:
        return PLUGINS[name]
    found = plugin_from_entry_point(name) if isinstance(name, str) else None
    if found is not None:
        return found
    known = [*PLUGINS, *entry_names()]
    by_name = {cls.name: f" (did you mean {cls.__name__}?)" for cls in PLUGINS.values()}
    hint = by_name.get(name) if isinstance(name, str) else None
    raise PresetError(
        f"unknown plugin type {name!r}{hint or nearest(str(name), known)}; allowed: {', '.join(known)}; "
        f"or install the package that offers it"
    )


def make_plugin(kind: Any, name: str | None, params: Mapping[str, Any]) -> OccamPlugin:
    """A new plugin of the type. Raises PresetError for a type that cannot be made, ParameterError for a bad parameter."""
    cls = plugin_class(kind)
    if params and not cls.PARAMS:
        raise PresetError(f"{kind} states no PARAMS, so a preset can give it none, got {', '.join(map(str, params))}")
    try:
        return cls(name, **params)
    except ParameterError:
        raise
    except Exception as error:  # another package's constructor
        raise PresetError(f"plugin type {kind} cannot be made: {type(error).__name__}: {error}") from error


def type_name(kind: str) -> str:
    """The name a spec keeps: our own class's, so that older spellings are settled; another package's as it was given."""
    return PLUGINS[kind].__name__ if kind in PLUGINS else kind


def _specs(document: Document, entries: Any, hyperparameters: Mapping[str, Any]) -> list[Spec]:
    """The file's plugins with every parameter resolved; a gate takes what it does not state from the hyperparameters."""
    if not isinstance(entries, list):
        document.fail(("plugins",), f"plugins must be a list of {{type, params}}, got {entries!r}; begin each with `- type:`")
    specs: list[Spec] = []
    for index, entry in enumerate(entries):
        at = ("plugins", index)
        if isinstance(entry, str):
            document.fail(at, f"a plugin must be a mapping of {', '.join(PLUGIN_KEYS)}, got {entry!r}; write `- type: {entry}`")
        entry = document.mapping(at, None, "key of a plugin")
        if "type" not in entry:
            _refuse_unknown_keys(document, at, None)
            document.fail(at, f"a plugin needs the key 'type', got {', '.join(entry) or 'nothing'}")
        if not isinstance(entry.get("enabled", True), bool):
            document.fail((*at, "enabled"), f"enabled must be true or false, got {entry['enabled']!r}")
        spec = _spec(document, at, entry, hyperparameters)
        if spec["name"] in [s["name"] for s in specs]:
            document.fail((*at, "name"), f"two plugins are called {spec['name']!r}; give one of them another `name:`")
        specs.append(spec)
    return specs


def _spec(document: Document, at: tuple[Any, ...], entry: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Spec:
    try:
        cls = plugin_class(entry["type"])
    except PresetError as error:
        document.fail((*at, "type"), str(error))
    _refuse_unknown_keys(document, at, cls)
    name = entry.get("name", cls.name)
    if not isinstance(name, str) or not name or "/" in name:
        document.fail((*at, "name"), f"a plugin's name must be text without '/', got {name!r}")
    document.one_line((*at, "name"), "a plugin's name")
    params = document.mapping((*at, "params"), None, "parameter") if entry.get("params") is not None else {}
    shared = [p.name for p in cls.PARAMS if p.name in ("surprise_threshold", "target_update_rate")]
    filled = {k: hyperparameters[k] for k in shared if k in hyperparameters} | params
    try:
        plugin = make_plugin(entry["type"], name, filled)
    except ParameterError as error:
        document.fail((*at, "params", *error.path), f"{error}{_owner_of(error, cls)}")
    except PresetError as error:
        document.fail((*at, "params" if filled else "type"), str(error))
    enabled = entry.get("enabled", True)
    return {"type": type_name(entry["type"]), "name": name, "enabled": enabled, "params": plugin.params()}


def _refuse_unknown_keys(document: Document, at: tuple[Any, ...], cls: type[OccamPlugin] | None) -> None:
    """Fails for a key that a plugin's entry has not; a parameter written beside `type:` is told where it belongs."""
    params = [p.name for p in cls.PARAMS] if cls else []
    document.mapping(at, PLUGIN_KEYS, "key of a plugin", lambda key: " (it belongs under params)" if key in params else "")


def _owner_of(error: ParameterError, cls: type[OccamPlugin]) -> str:
    """'; drive belongs to SaturationPlugin' for a parameter that other plugins have and this one has not."""
    if len(error.path) != 1 or error.path[0] in [p.name for p in cls.PARAMS]:
        return ""
    owners = sorted({other.__name__ for other in PLUGINS.values() if error.path[0] in [p.name for p in other.PARAMS]})
    return f"; {error.path[0]} belongs to {' and '.join(owners)}" if owners else ""


def _overridden(specs: list[Spec], overrides: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...]:
    names = [s["name"] for s in specs]
    for name, values in overrides.items():
        if name not in names:
            has = ", ".join(names) or "none"
            raise PresetError(f"the preset has no plugin {name!r}{nearest(name, names)}; it has {has} (override)")
        spec = specs[names.index(name)]
        try:
            plugin = make_plugin(spec["type"], name, {**spec["params"], **values})
        except ParameterError as error:
            raise PresetError(f"{error} (override)") from error
        spec["params"] = plugin.params()
    return tuple(specs)
