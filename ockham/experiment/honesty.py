"""Whether `ockham ab` tells the truth: simulated experiments, judged by the very functions that judge real ones.

A variant that is the baseline under another name must be called different in about 1 of 20 experiments, and a planted effect of
twice the smallest difference that the tool says its seeds could have shown must be found in more than 8 of 10. Losses are drawn
as base + what the seed does (to all variants alike) + what chance does in each run, or from those of real runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError, WorldError
from .ab_verdict import Comparison, compare
from .jobs import Outcome, read_json
from .variants import Variant

EXPERIMENTS, SEEDS = 200, 6
BASE = 1.9  # nats/token
SEED_SPREAD = 0.01  # nats/token, standard deviation of what a seed does to every variant
SPREAD = 0.004  # nats/token, standard deviation of what chance does to each run besides
BASELINE = "baseline"
PLANTED = 2.0  # times the smallest difference that is stated
FAMILIES = (1, 5)  # variants against the baseline

# (generator, runs of one seed, seeds) -> val losses, nats/token, (runs, seeds), no run of which is truly better than another
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


@dataclass(frozen=True)
class Rate:
    """How many of the experiments said it."""

    hits: int
    experiments: int

    @property
    def share(self) -> float:
        """Hits per experiment."""
        return self.hits / self.experiments

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the true share; Clopper & Pearson, Biometrika 1934."""
        from scipy import stats

        found = stats.binomtest(self.hits, self.experiments).proportion_ci(0.95)
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits:,} of {self.experiments:,}: {self.share:.1%}, 95 % interval {low:.1%} to {high:.1%}"


def simulated(spread: float = SPREAD, seed_spread: float = SEED_SPREAD) -> Draw:
    """Normal seeds' effects and normal chance, standard deviations in nats/token."""

    def draw(generator: np.random.Generator, runs: int, seeds: int) -> np.ndarray:
        shared = generator.normal(0.0, seed_spread, (1, seeds))
        return BASE + shared + generator.normal(0.0, spread, (runs, seeds))  # (runs, seeds)

    return draw


def resampled(losses: Sequence[float]) -> Draw:
    """Real runs of one configuration: each experiment draws its own without putting back, so their labels mean nothing."""
    pool = np.asarray(losses, dtype=float)

    def draw(generator: np.random.Generator, runs: int, seeds: int) -> np.ndarray:
        if runs * seeds > len(pool):
            raise UsageError(f"{runs} variants of {seeds} seeds need {runs * seeds} runs, got {len(pool)}")
        return generator.choice(pool, (runs, seeds), replace=False)

    return draw


def simulate(
    experiments: int = EXPERIMENTS,
    seeds: int = SEEDS,
    spread: float = SPREAD,
    effect: float = 0.0,
    rng_seed: int = 0,
    variants: int = 1,
    draw: Draw | None = None,
) -> Rate:
    """How many experiments of `variants` against a baseline call a difference.

    Without `effect`: any variant's, and there is none. With it: the first variant's, whose true loss is lower than the baseline's
    by `effect` times the smallest difference that an earlier experiment of as many seeds and variants, without effect, has
    stated for it; the others are as the baseline. `draw` stands for simulated losses of `spread`, nats/token.
    """
    generator, draw = np.random.default_rng(rng_seed), draw or simulated(spread)
    hits = 0
    for _ in range(experiments):
        found = judged(draw(generator, variants + 1, seeds))
        if effect:
            losses = draw(generator, variants + 1, seeds)
            losses[1] -= effect * stated(found[0])
            first = judged(losses)[0]
            hits += first.is_different and first.paired is not None and first.paired.mean < 0
        else:
            hits += any(comparison.is_different for comparison in found)
    return Rate(hits, experiments)


def judged(losses: np.ndarray) -> list[Comparison]:
    """What `ockham ab` says of val losses (1 + variants, seeds), the baseline's in row 0: one comparison a variant."""
    names = [BASELINE, *(f"variant{i}" for i in range(1, len(losses)))]
    seeds = range(1, losses.shape[1] + 1)
    runs = {
        (name, seed): Outcome(f"{name}_seed{seed}", "", [], exit_code=0, summary={"val_loss": float(loss)})
        for name, row in zip(names, losses, strict=True)
        for seed, loss in zip(seeds, row, strict=True)
    }
    return compare([Variant(name, "overrides", ()) for name in names], BASELINE, list(seeds), runs)


def stated(comparison: Comparison) -> float:
    """The smallest difference that the tool says it could have shown, nats/token."""
    assert comparison.paired is not None
    return comparison.paired.smallest


def read_losses(folder: Path) -> list[float]:
    """The final val losses of the finished runs in a folder, ascending. Raises WorldError where there are none."""
    found = [read_json(path).get("val_loss") for path in folder.glob("*/summary.json")]
    losses = sorted(float(loss) for loss in found if loss is not None)
    if not losses:
        raise WorldError(f"{folder} holds no finished runs (no */summary.json with a val_loss)")
    return losses


def table(name: str, draw: Draw, families: Sequence[int]) -> str:
    """Both figures for each number of variants, in sentences."""
    lines = [f"{name}; {SEEDS} paired seeds, {EXPERIMENTS} experiments each"]
    for variants in families:
        against = f"{variants} variant{'s' * (variants > 1)} against the baseline"
        null = simulate(EXPERIMENTS, variants=variants, draw=draw)
        found = simulate(EXPERIMENTS, variants=variants, draw=draw, effect=PLANTED, rng_seed=1)
        lines.append(f"  {against}: none differs, yet a difference is called in {null}")
        lines.append(f"  {against}: one is better by {PLANTED:g} × the stated smallest difference, and is found in {found}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Print the figures for simulated losses and, where a folder of runs is given, for theirs."""
    print(table(f"simulated losses, chance ±{SPREAD:g} and seeds ±{SEED_SPREAD:g} nats/token", simulated(), FAMILIES))
    for folder in map(Path, argv):
        losses = read_losses(folder)
        about = f"{len(losses)} runs of {folder}, val loss {np.mean(losses):.4f} ± {np.std(losses, ddof=1):.4f} nats/token"
        fitting = [variants for variants in FAMILIES if (variants + 1) * SEEDS <= len(losses)]
        print(table(about, resampled(losses), fitting))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
