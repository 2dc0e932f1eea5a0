"""Domains: what share of a batch lies in each named part of the training data, its corpus's bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .data import BatchSource, Corpus
from .errors import ConfigError, CorpusError, nearest
from .plugins import EQPlugin, PluginHost


class Domains:
    """The bands of a split: named ranges of its tokens. Several ranges may share a name; ranges need not cover everything."""

    def __init__(self, bands: list[tuple[str, int, int]]) -> None:
        """`bands`: (name, first token, token behind the last)."""
        self.names = sorted({name for name, _, _ in bands})
        self._bands = bands

    @classmethod
    def of(cls, corpus: Corpus, split: str = "train") -> Domains:
        """The bands in the corpus's meta.json, [name, split, start, end, ...] each. Raises CorpusError when they are not that."""
        try:
            return cls([(str(band[0]), int(band[2]), int(band[3])) for band in corpus.meta.get("bands", ()) if band[1] == split])
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise CorpusError(
                f"{corpus.folder / 'meta.json'}: bands must be lists [name, split, start, end, nats/char], got"
                f" {str(corpus.meta['bands'])[:60]}"
            ) from error

    def shares(self, starts: np.ndarray, block_size: int) -> dict[str, float]:
        """Name → share of the tokens that windows beginning at `starts` (R,) predict; they sum to 1 where bands cover all.

        A window predicts the block_size tokens behind its first, so one across a border counts for both sides.
        """
        first = starts + 1
        counts = dict.fromkeys(self.names, 0)
        for name, begin, end in self._bands:
            overlap = np.minimum(first + block_size, end) - np.maximum(first, begin)  # (R,)
            counts[name] += int(np.maximum(overlap, 0).sum())
        return {name: count / (len(starts) * block_size) for name, count in counts.items()}


def domain_shares(
    corpus: Corpus, source: BatchSource, host: PluginHost, micro_steps: int = 1, world: int = 1
) -> Callable[[int], Mapping[str, float]]:
    """A function of the step: the shares of its whole batch, the same on every rank; empty where the corpus has no bands.

    Raises ConfigError when a plugin wants bands that the corpus has not.
    """
    domains = Domains.of(corpus)
    check_bands(corpus, domains, host)

    def at(step: int) -> dict[str, Any]:
        return domains.shares(source.global_starts(step, micro_steps, world), source.block_size) if domains.names else {}

    return at


def check_bands(corpus: Corpus, domains: Domains, host: PluginHost) -> None:
    """Raises ConfigError when an equalizer by domain is in the rack and the corpus has no bands, or none of a name it uses.

    A name with gain 1 is not used: where it is and where it is not, it changes nothing.
    """
    for eq in host:
        if not (isinstance(eq, EQPlugin) and eq.by == "domain" and eq.enabled):
            continue
        if not domains.names:
            raise ConfigError(
                f"{eq.name}.by is domain, but corpus {corpus.folder.name} has no bands in its meta.json;"
                f" use a corpus with bands, such as fables, or rack.{eq.name}.by=difficulty"
            )
        for name, gain in eq.bands.items():
            if gain != 1 and name not in domains.names:
                raise ConfigError(
                    f"{eq.name}.bands has {name!r}, which corpus {corpus.folder.name} has not{nearest(str(name), domains.names)};"
                    f" its bands: {', '.join(domains.names)}; rack.{eq.name}.bands.{name}=1 leaves it out"
                )
