"""A saved optimizer state and the optimizer that goes on with it: parameters matched by name, options as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ..errors import CheckpointError
from .averages import COUNTED_IN_GROUPS
from .probe import missing_state

NOT_OPTIONS = ("params", "param_names", *COUNTED_IN_GROUPS)  # in a parameter group
WAY_OUT = "start a new run from the weights: --init_from=RUN/ckpt.pt --out_dir=NEW"
SHOWN = 3  # names in an error

State = Mapping[str, Any]
Groups = Sequence[Mapping[str, Any]]


def load_state(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Give every parameter the state saved under its name, in whatever groups it now is; lr and options stay the optimizer's.

    A state without names (version 0.2.0, or an optimizer that was built without) is loaded by position. Raises CheckpointError
    for a state of other parameters, and for an option switched on whose state was never kept.
    """
    own = [{key: value for key, value in group.items() if key not in NOT_OPTIONS} for group in optimizer.param_groups]
    optimizer.load_state_dict(fitted(state, optimizer))
    before = [dict(group) for group in optimizer.param_groups]
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.update(options)  # load_state_dict brings the checkpoint's lr, betas, weight decay and fused back
    switched_on = {
        key: now
        for was, options in zip(before, own, strict=True)
        for key, now in options.items()
        if now and not was.get(key, now)
    }
    check_state(optimizer, switched_on)


def fitted(state: State, optimizer: Any) -> dict[str, Any]:
    """The saved state with parameters in the optimizer's order, for its load_state_dict; also inside Lookahead and Together."""
    if "base_optimizer" in state:
        base = state["base_optimizer"]
        slow = reordered(state["lookahead_state"], positions(groups_of(base)), positions(optimizer.param_groups))
        return {**state, "lookahead_state": slow, "base_optimizer": fitted(base, optimizer.optimizer)}
    if "parts" in state:
        return {"parts": [fitted(of_part, part) for of_part, part in zip(state["parts"], optimizer.parts, strict=True)]}
    saved, now = state["param_groups"], optimizer.param_groups
    if not has_names(saved) or not has_names(now):
        return dict(state)
    order = {name: index for index, name in enumerate(positions(now))}
    was = {name: index for group in saved for name, index in zip(group["param_names"], group["params"], strict=True)}
    groups = [{**saved[0], "param_names": g["param_names"], "params": [order[n] for n in g["param_names"]]} for g in now]
    return {"state": reordered(state["state"], was, order), "param_groups": groups}


def groups_of(state: State) -> Groups:
    """The parameter groups of a saved state, of all its parts in order."""
    return [group for part in state["parts"] for group in part["param_groups"]] if "parts" in state else state["param_groups"]


def has_names(groups: Groups) -> bool:
    """Whether the parameters of groups are named."""
    return all("param_names" in group for group in groups)


def positions(groups: Groups) -> dict[str, tuple[int, int]]:
    """Name -> (group, place in it), as Lookahead numbers its slow weights; names only where all groups have them."""
    if not has_names(groups):
        return {}
    return {name: (i, j) for i, group in enumerate(groups) for j, name in enumerate(group["param_names"])}


def reordered(values: Mapping[Any, Any], was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[Any, Any]:
    """Values that are kept by a parameter's old place, by its new one. Raises CheckpointError unless the names are the same."""
    if not was or not now:
        return dict(values)
    for lacking, text in (([n for n in now if n not in was], "none for"), ([n for n in was if n not in now], "one for")):
        if lacking:
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            raise CheckpointError(
                f"the saved optimizer state is of other parameters than the model's: it has {text} "
                f"{', '.join(lacking[:SHOWN])}{more}; {WAY_OUT}"
            )
    return {now[name]: values[place] for name, place in was.items() if place in values}


def check_state(optimizer: torch.optim.Optimizer, switched_on: Mapping[str, Any]) -> None:
    """Raises CheckpointError where a step would look for what the state has not; `switched_on` are options that may want it."""
    for part in single(optimizer):
        for group in part.param_groups:
            kinds = {(p.ndim, *sorted(part.state[p])): p for p in group["params"] if part.state.get(p)}
            for missing in filter(None, (missing_state(part, group, p) for p in kinds.values())):
                named = ", ".join(f"optimizer.{key} = {value}" for key, value in switched_on.items()) or type(part).__name__
                raise CheckpointError(
                    f"{named} cannot be switched on in mid-run: the saved optimizer state has no {missing}; "
                    f"leave it as it was, or {WAY_OUT}"
                )


def single(optimizer: Any) -> Iterator[torch.optim.Optimizer]:
    """The optimizers that hold state of their own: what Lookahead wraps, the parts of several."""
    inner = getattr(optimizer, "optimizer", None)
    parts: Iterable[Any] = [inner] if isinstance(inner, torch.optim.Optimizer) else getattr(optimizer, "parts", ())
    found = [one for part in parts for one in single(part)]
    yield from found or [optimizer]
