"""PluginHost: runs the rack's plugins in order and records who changed what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from ..context import WATCHED, OccamContext
from ..errors import CheckpointError, ConfigError, OckhamError, nearest
from .base import OccamPlugin
from .gate import OckhamGatePlugin
from .random_skip import RandomSkipPlugin
from .sequence_gate import SequenceGatePlugin

HYPERPARAMETERS = ("learning_rate", "lambda_ockham", "surprise_threshold")
STEP_METRICS = ("task_loss", "complexity_cost", "grad_norm")
STATE = ("plugins", "enabled", "muted", "soloed", "batches")
_watched = attrgetter(*WATCHED)


class PluginHost:
    """The rack: an ordered chain of plugins with distinct names.

    A plugin is active when it is enabled, not muted, and, where any plugin is soloed, soloed itself. An inactive plugin gets
    no hook, so its state stands still. Bypass is the plugin's own switch (`enabled`, as a preset may set it); mute and solo
    are the desk's, laid over it and lifted again without forgetting which plugins were bypassed.
    """

    def __init__(self, plugins: Iterable[OccamPlugin] = (), hyperparameters: Mapping[str, float | None] | None = None) -> None:
        """`hyperparameters`: what `process_batch` starts each context with; also settable as an attribute."""
        self.plugins: list[OccamPlugin] = []
        self.hyperparameters: dict[str, Any] = dict(hyperparameters or {})
        self.context: OccamContext | None = None  # of the last process_batch
        self._muted: set[str] = set()
        self._soloed: set[str] = set()
        self._live: list[OccamPlugin] = []
        self._batches, self._updates, self._last = 0, 0, {"task_loss": math.inf}
        for plugin in plugins:
            self.add(plugin)

    # the hooks ------------------------------------------------------------------------------------------------------
    def process_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Runs on_batch_start in order. Raises OckhamError naming plugin and hook when a plugin raises."""
        before = _watched(ctx)
        for plugin in self._live:
            if plugin.enabled:
                try:
                    ctx = _returned(plugin, ctx, plugin.on_batch_start(ctx))
                except Exception as error:
                    raise _explained(plugin, "on_batch_start", error) from error
                before = _record(plugin, ctx, before)
        return ctx

    def process_adapt(self, ctx: OccamContext) -> None:
        """Runs on_adapt in order: gradients ready, before clipping."""
        self._run("on_adapt", ctx)

    def process_batch_end(self, ctx: OccamContext) -> None:
        """Runs on_batch_end in order: the step is done, its metrics are in the context."""
        self._run("on_batch_end", ctx)

    def process_consolidate(self, ctx: OccamContext) -> None:
        """Runs on_consolidate in order: the anchor has become the weights."""
        self._run("on_consolidate", ctx)

    def _run(self, hook: str, ctx: OccamContext) -> None:
        before = _watched(ctx)
        for plugin in self._live:
            if plugin.enabled:
                try:
                    getattr(plugin, hook)(ctx)
                except Exception as error:
                    raise _explained(plugin, hook, error) from error
                before = _record(plugin, ctx, before)

    def process_batch(self, batch: Any, step_fn: Callable[[Any, OccamContext], Mapping[str, float]]) -> Mapping[str, float]:
        """One iteration around the caller's own training step: start hooks, `step_fn(batch, ctx)`, end hooks.

        `step_fn` reads the context (learning_rate, updated, ...) and returns any of task_loss, complexity_cost, grad_norm;
        it should measure task_loss in skipped batches too, because the next verdict is on it. The context's task_loss is
        that of the step before (inf at first: the gate opens). The context stays readable as `host.context`; when its
        `consolidating` is set, the caller moves its anchor and calls `process_consolidate`.
        """
        unknown = [key for key in self.hyperparameters if key not in HYPERPARAMETERS]
        if unknown:
            raise ConfigError(
                f"host.hyperparameters has no {unknown[0]!r}{nearest(unknown[0], HYPERPARAMETERS)};"
                f" allowed: {', '.join(HYPERPARAMETERS)}"
            )
        rate = self._updates / self._batches if self._batches else 1.0
        start: dict[str, Any] = {**self._last, **self.hyperparameters}
        ctx = OccamContext(iter_num=self._batches, update_rate=rate, **start)
        self.context = ctx = self.process_batch_start(ctx)
        metrics = step_fn(batch, ctx)
        self._batches, self._updates = self._batches + 1, self._updates + bool(ctx.updated)
        self._last |= {key: float(metrics[key]) for key in STEP_METRICS if key in metrics}
        for key in STEP_METRICS[1:]:
            setattr(ctx, key, self._last.get(key, 0.0))
        ctx.update_rate = self._updates / self._batches
        self.process_batch_end(ctx)
        return metrics

    # the rack -------------------------------------------------------------------------------------------------------
    def add(self, plugin: OccamPlugin, index: int | None = None) -> None:
        """Puts a plugin at `index`, or at the end. Raises ConfigError when its name is taken or cannot be one."""
        if not isinstance(plugin, OccamPlugin):
            raise ConfigError(f"a rack holds OccamPlugin instances, got {plugin!r}; derive the class from OccamPlugin")
        if not isinstance(plugin.name, str) or not plugin.name or "/" in plugin.name:
            raise ConfigError(f"a plugin's name must be text without '/', got {plugin.name!r}")
        if plugin.name in self.names():
            raise ConfigError(f"the rack already has a plugin {plugin.name!r}; give this {type(plugin).__name__} another name=")
        self.plugins.insert(len(self.plugins) if index is None else index, plugin)
        self._rewire()

    def remove(self, name: str) -> OccamPlugin:
        """Takes the plugin out and returns it."""
        plugin = self[name]
        self.plugins.remove(plugin)
        self._muted.discard(name)
        self._soloed.discard(name)
        self._rewire()
        return plugin

    def move(self, name: str, index: int) -> None:
        """Moves the plugin to `index` of the chain."""
        plugin = self[name]
        self.plugins.remove(plugin)
        self.plugins.insert(index, plugin)
        self._rewire()

    def bypass(self, name: str, on: bool = True) -> None:
        """Switches the plugin itself off (or on again)."""
        self[name].enabled = not on

    def mute(self, name: str, on: bool = True) -> None:
        """Silences the plugin at the desk (or lifts that); its own switch is left as it is."""
        self._switch(self._muted, name, on)

    def solo(self, name: str, on: bool = True) -> None:
        """Lets only soloed plugins act (or lifts that); several may be soloed."""
        self._switch(self._soloed, name, on)

    def _switch(self, names: set[str], name: str, on: bool) -> None:
        names.add(self[name].name) if on else names.discard(self[name].name)
        self._rewire()

    def _rewire(self) -> None:
        self._live = [p for p in self.plugins if p.name not in self._muted and (not self._soloed or p.name in self._soloed)]

    def reset(self) -> None:
        """Every plugin back to its first state, and process_batch's counting; switches and order stay."""
        for plugin in self.plugins:
            plugin.reset()
        self._batches, self._updates, self._last, self.context = 0, 0, {"task_loss": math.inf}, None

    def names(self) -> list[str]:
        """The plugins' names in chain order."""
        return [p.name for p in self.plugins]

    def __getitem__(self, name: str) -> OccamPlugin:
        for plugin in self.plugins:
            if plugin.name == name:
                return plugin
        has = ", ".join(self.names()) or "no plugins"
        raise ConfigError(f"the rack has no plugin {name!r}{nearest(name, self.names())}; it has {has}")

    def __iter__(self) -> Iterator[OccamPlugin]:
        return iter(self.plugins)

    def __len__(self) -> int:
        return len(self.plugins)

    def is_active(self, name: str) -> bool:
        """Whether the plugin gets hooks at present."""
        plugin = self[name]
        return plugin.enabled and plugin in self._live

    @property
    def gate(self) -> OckhamGatePlugin | RandomSkipPlugin | None:
        """The first active gate, which alone judges micro-batches; None = every batch is learned."""
        return next((p for p in self._live if p.enabled and isinstance(p, (OckhamGatePlugin, RandomSkipPlugin))), None)

    @property
    def selector(self) -> SequenceGatePlugin | None:
        """The first active plugin that weighs the sequences inside a batch."""
        return next((p for p in self._live if p.enabled and isinstance(p, SequenceGatePlugin)), None)

    @property
    def needs_reference(self) -> bool:
        """Whether an active plugin compares the loss with a reference's."""
        return any(p.enabled and getattr(p, "surprise", "") == "excess" for p in self._live)

    # state ----------------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, dict[str, Any]]:
        """For people: each plugin's get_state by name, in chain order, with the desk's switches."""
        return {
            p.name: {
                "active": self.is_active(p.name),
                "muted": p.name in self._muted,
                "soloed": p.name in self._soloed,
                **p.get_state(),
            }
            for p in self.plugins
        }

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints: states by plugin name in chain order, switches, and process_batch's counting; plain types."""
        return {
            "plugins": {p.name: p.state_dict() for p in self.plugins},
            "enabled": {p.name: p.enabled for p in self.plugins},
            "muted": sorted(self._muted),
            "soloed": sorted(self._soloed),
            "batches": {"batches": self._batches, "updates": self._updates, "last": dict(self._last)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over states, switches and order. Raises CheckpointError when the rack's plugins are not the checkpoint's."""
        _same_names(state, STATE, "the rack's state has", "this version needs")
        saved = state["plugins"]
        _same_names(saved, self.names(), "the checkpoint's rack has", "this rack has")
        for name, own in saved.items():
            self[name].load_state_dict(own)
            self[name].enabled = state["enabled"][name]
        self.plugins = [self[name] for name in saved]
        self._muted, self._soloed = set(state["muted"]), set(state["soloed"])
        counts = state["batches"]
        self._batches, self._updates, self._last = counts["batches"], counts["updates"], dict(counts["last"])
        self._rewire()


def _returned(plugin: OccamPlugin, ctx: OccamContext, result: Any) -> OccamContext:
    """The context that on_batch_start gave back, which may be a copy but not of another batch."""
    if result is ctx:
        return ctx
    if not isinstance(result, OccamContext):
        raise OckhamError(f"it must return the context, got {result!r}; end it with `return ctx`")
    if (result.iter_num, result.task_loss) != (ctx.iter_num, ctx.task_loss):
        raise OckhamError("it returned a context with another iter_num or task_loss, which plugins may only read")
    return result


def _record(plugin: OccamPlugin, ctx: OccamContext, before: tuple[Any, ...]) -> tuple[Any, ...]:
    """Appends what changed since `before` to ctx.changes; returns the watched values as they are now."""
    after = _watched(ctx)
    if after != before:
        ctx.changes += [(plugin.name, f, a, b) for f, a, b in zip(WATCHED, before, after, strict=True) if a != b]
    return after


def _explained(plugin: OccamPlugin, hook: str, error: Exception) -> OckhamError:
    """The error with plugin and hook named; one of ours keeps its class, and so its exit code."""
    kind: type[OckhamError] = type(error) if isinstance(error, OckhamError) else OckhamError
    text = str(error) if isinstance(error, OckhamError) else f"{type(error).__name__}: {error}"
    return kind(f"plugin {plugin.name!r} ({type(plugin).__name__}) failed in {hook}: {text}")


def _same_names(given: Iterable[str], wanted: Iterable[str], given_label: str, wanted_label: str) -> None:
    given, wanted = list(given), list(wanted)
    if set(given) != set(wanted):
        raise CheckpointError(
            f"{given_label} {', '.join(given) or 'nothing'}; {wanted_label} {', '.join(wanted) or 'nothing'};"
            " resume with the preset that the run was started with"
        )
