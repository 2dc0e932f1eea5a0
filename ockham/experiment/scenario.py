"""Scenarios: what a model is trained on, one corpus or stream after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..plugins import Param
from .variants import check_own, key_of

OWN = ("dataset", "data_dir", "init_from", "always_save_checkpoint")  # keys that a scenario sets itself, beside those of ab
SHARE = Param("share", 0.5, "share of the batches", float, 0.0, 1.0)
KINDS: dict[str, tuple[Param, ...]] = {  # of streams -> what each may say
    "shuffled": (),
    "mixture": (),  # and `shares`
    "repeats": (SHARE, Param("pool", 8, "distinct batches that are repeated", int, 1)),
    "noise": (SHARE, Param("burst", 20, "batches of noise in a row", int, 1)),
    "switch": (Param("every", 100, "iterations until the next source", int, 1),),
}


@dataclass(frozen=True)
class Stream:
    """A stream that is to be made. `sources` are corpora, or CORPUS/BAND for a band of one that has bands."""

    kind: str
    sources: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)  # the kind's own, defaults filled in
    shares: tuple[float, ...] = ()  # mixture: one a source, summing to 1


@dataclass(frozen=True)
class Stage:
    """One stretch of training: on a corpus, or on a stream."""

    dataset: str
    stream: Stream | None = None
    args: tuple[str, ...] = ()  # train arguments of this stage alone
    is_shared: bool = True  # trained once a seed without what the variants add; all of them go on from it

    @property
    def sources(self) -> tuple[str, ...]:
        """The corpora that it learns from."""
        return self.stream.sources if self.stream else (self.dataset,)


@dataclass(frozen=True)
class Scenario:
    """The stages, in order."""

    name: str
    stages: tuple[Stage, ...]
    description: str = ""
    recipe: str = ""  # config/FILE of the base run, where the command line names none

    @property
    def sources(self) -> tuple[str, ...]:
        """Every corpus, in the order in which it is first learned."""
        return tuple(dict.fromkeys(source for stage in self.stages for source in stage.sources))

    @property
    def old(self) -> tuple[str, ...]:
        """The corpora that were learned before the last stage and not in it."""
        return tuple(source for source in self.sources if source not in self.new)

    @property
    def new(self) -> tuple[str, ...]:
        """The corpora of the last stage."""
        return self.stages[-1].sources

    @property
    def is_plain(self) -> bool:
        """Whether no stage is a stream: then corpora that number their tokens alike can be read where they are."""
        return not any(stage.stream for stage in self.stages)


def check_scenarios_own(word: str, owner: str) -> None:
    """Raises ConfigError for an argument that the scenario, or ab, sets itself."""
    check_own(word, owner)
    if (key := key_of(word)[0]) in OWN:
        raise ConfigError(f"{word} ({owner}): the scenario sets {key} itself; leave it out")
