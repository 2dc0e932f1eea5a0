"""Does the best trial beat the start? Both are run again on seeds that the search has not seen, in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import LARGEST_SEED
from .search import Search
from .study import Trial


@dataclass(frozen=True)
class Pair:
    """The val losses of start and best under one seed, nats/token."""

    seed: int
    start: float
    best: float

    @property
    def gain(self) -> float:
        """How far the best lies below the start, nats/token."""
        return self.start - self.best


@dataclass(frozen=True)
class Confirmation:
    """What the pairs say. `asked` is the number of seeds; a pair with a failed run is not among `pairs`."""

    best: str  # the trial's name
    asked: int
    pairs: tuple[Pair, ...]

    @property
    def gain(self) -> float | None:
        """Mean gain over the pairs, nats/token; None without pairs."""
        return sum(pair.gain for pair in self.pairs) / len(self.pairs) if self.pairs else None

    @property
    def beats(self) -> bool:
        """Whether the best lies below the start on the mean."""
        return self.gain is not None and self.gain > 0

    @property
    def verdict(self) -> str:
        """One sentence: by how much, with how many seeds."""
        if not self.asked:
            return f"{self.best} was not confirmed on fresh seeds (--confirm=0)"
        if self.gain is None:
            return f"{self.best} could not be confirmed: no pair of runs came to its end"
        n = len(self.pairs)
        better = sum(pair.gain > 0 for pair in self.pairs)
        seeds = f"mean of n={n} fresh seed{'s' * (n > 1)}; better in {better} of {n} pair{'s' * (n > 1)}"
        if self.beats:
            return f"{self.best} beats the start by {self.gain:.4f} nats/token ({seeds})"
        return f"{self.best} does not beat the start: {abs(self.gain):.4f} nats/token above it ({seeds})"

    @property
    def lines(self) -> list[str]:
        """Each pair, then the sentence."""
        each = [
            f"  seed {pair.seed}: start {pair.start:.4f}, {self.best} {pair.best:.4f}, difference {pair.gain:+.4f} nats/token"
            for pair in self.pairs
        ]
        return [*each, self.verdict]


def fresh_seeds(searched: int, n: int) -> list[int]:
    """The n seeds after the one that all trials had."""
    return [(searched + 1 + i) % (LARGEST_SEED + 1) for i in range(n)]


def confirm(search: Search, best: Trial, n: int) -> Confirmation:
    """Run start and best on n fresh seeds. Runs that were made before are not made again."""
    plan, pairs = search.plan, []
    for seed in fresh_seeds(plan.config.seed, n):
        start = search.measure(f"confirm/start_seed{seed}", [f"--seed={seed}"])
        value = search.measure(f"confirm/{best.name}_seed{seed}", [*plan.assignments(best.tokens), f"--seed={seed}"])
        if start is not None and value is not None:
            pairs.append(Pair(seed, start, value))
    return Confirmation(best.name, n, tuple(pairs))


def tally(trials: Sequence[Trial]) -> str:
    """'20 trials (3 pruned, 1 failed)'."""
    counts = [(state, sum(t.state == state for t in trials)) for state in ("pruned", "failed")]
    words = ", ".join(f"{count} {state}" for state, count in counts if count)
    return f"{len(trials)} trial{'s' * (len(trials) != 1)}{f' ({words})' if words else ''}"
