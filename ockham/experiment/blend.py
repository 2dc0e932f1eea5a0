"""The line from a run's anchor to its weights: the losses on the old and the new corpus along it, and one point of it saved.

θ_α = θ* + α·(θ − θ*); α = 0 is the anchor, α = 1 the weights that are evaluated (averaged or slow ones where those are on).
Source: WiSE-FT, Wortsman et al. 2022 (arXiv:2109.01903).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import checkpoint
from ..audit.place import own_json
from ..audit.record import read_records
from ..data import DATA, Corpus, open_corpus
from ..distributed import Ranks, pick_device
from ..errors import CheckpointError, ConfigError, CorpusError, OckhamError, UsageError, WorldError
from ..evaluation import whole_val_loss
from ..files import write_text
from .kept import for_inference
from .weighed import Weights

STEPS = 5  # points of a range
SAVED, TABLE, PICTURE = "ckpt.pt", "blend.json", "blend.svg"
OF_A_TRAINED_RUN = ("last.pt", "journal.jsonl")  # what no blend has
NAME_OLD = "name the corpus whose loss is the old one: --old CORPUS"


def alphas_of(text: str) -> tuple[float, ...]:
    """`0.5..0.9`, five evenly spaced; or `0.25,0.5,1`; or one number. Ascending, each once. Raises UsageError."""
    low, dots, high = text.partition("..")
    try:
        found = [float(word) for word in ([low, high] if dots else text.split(","))]
    except ValueError:
        raise UsageError(f"--alpha must be a range as 0.5..0.9, or numbers as 0.25,0.5,1, got {text!r}") from None
    if wrong := [alpha for alpha in found if not 0 <= alpha <= 1]:
        raise UsageError(f"--alpha must be within 0 (the anchor) and 1 (the weights), got {wrong[0]:g}")
    if dots and found[0] >= found[1]:
        raise UsageError(f"--alpha {text}: a range goes up, as 0.5..0.9")
    if dots:
        found = [round(found[0] + i * (found[1] - found[0]) / (STEPS - 1), 10) for i in range(STEPS)]
    return tuple(sorted(set(found)))


@dataclass(frozen=True)
class Point:
    """One α and the losses there on both full val splits, nats/token."""

    alpha: float
    old_loss: float
    new_loss: float

    @property
    def mean(self) -> float:
        """Of both losses."""
        return (self.old_loss + self.new_loss) / 2


@dataclass(frozen=True)
class Rule:
    """Which α is saved: a given one; the least whose new loss is low enough; else the lowest mean of old and new loss."""

    alpha: float | None = None
    within: float | None = None  # nats/token above the new loss at α = 1
    max_loss_new: float | None = None  # nats/token

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(f"--choose must be mean, or an α within 0 and 1, got {self.alpha:g}")
        if self.within is not None and not self.within >= 0:
            raise UsageError(f"--within must be 0 or more, got {self.within:g}")
        if self.max_loss_new is not None and not self.max_loss_new > 0:
            raise UsageError(f"--max-loss-new must be over 0, got {self.max_loss_new:g}")

    def __str__(self) -> str:
        if self.alpha is not None:
            return "as asked for"
        if self.within is not None:
            return f"the least α whose new loss is within {self.within:g} of that at α = 1"
        return (
            f"the least α whose new loss is {self.max_loss_new:g} at most" if self.max_loss_new else "lowest mean of both losses"
        )

    def pick(self, points: Sequence[Point], asked: Sequence[float]) -> Point:
        """The point to save, one of those asked for; `points` ascend to α = 1. Raises WorldError where none is good enough."""
        if self.alpha is not None:
            return next(point for point in points if point.alpha == self.alpha)
        bound = self.max_loss_new if self.within is None else points[-1].new_loss + self.within
        candidates = [point for point in points if point.alpha in asked]
        if bound is None:
            return min(candidates, key=lambda point: point.mean)
        good = [point for point in candidates if point.new_loss <= bound]
        if not good:
            best = min(candidates, key=lambda point: point.new_loss)
            raise WorldError(
                f"no α that was asked for has a new loss of {bound:.4f} or less; the lowest is {best.new_loss:.4f} at "
                f"α = {best.alpha:g}; give a wider --alpha or a higher limit"
            )
        return good[0]


@dataclass(frozen=True)
class Line:
    """A run's two ends: its last state, and the anchor's tensors in the order of the model's parameters."""

    run: Path
    state: Mapping[str, Any]
    anchor: Sequence[torch.Tensor]
    about: str  # what the anchor is, for people
    origin: str | None  # what the weights were brought in from; None = nothing was
    model: torch.nn.Module = field(repr=False)
    weights: Sequence[torch.Tensor] = field(repr=False)  # the model's own at α = 1

    @classmethod
    def open(cls, run: Path, other: Path | None = None) -> Line:
        """The line of a run, finished or not; `other`, a run or checkpoint, stands for its anchor.

        Raises CheckpointError where an end is missing or has another shape, WorldError where the anchor is no place to begin.
        """
        if not (run / "last.pt").is_file():
            raise CheckpointError(f"{run} has no last.pt, which holds the anchor; give the out_dir of a run that has trained")
        state = checkpoint.load_complete(run)
        model, origin = Weights(str(run), run / "last.pt", state).model.eval(), origin_of(run, state)
        weights = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        if other:
            given = read(other)
            anchor, about, origin = [p.detach() for p in given.model.parameters() if p.requires_grad], f"{other}", str(other)
        else:
            anchor, about = state["learner"]["anchor"]["weights"], described(run, state, origin)
        if [w.shape for w in anchor] != [w.shape for w in weights]:
            raise CheckpointError(f"{other or run / 'last.pt'}: the anchor's tensors have other shapes than the weights")
        if all(torch.equal(a, w) for a, w in zip(anchor, weights, strict=True)):
            raise WorldError(f"{run}: the anchor lies at the weights, so there is no line between them{GIVE_ANCHOR}")
        return cls(run, state, anchor, about, origin, model, weights)

    @torch.no_grad()
    def go_to(self, alpha: float) -> None:
        """Set the model's weights to θ_α: to the bit at both ends, as torch.lerp is."""
        own = [p for p in self.model.parameters() if p.requires_grad]
        for p, a, w in zip(own, self.anchor, self.weights, strict=True):
            p.copy_(torch.lerp(a.to(w), w, alpha))

    @property
    def iteration(self) -> int:
        """Where the weights stand."""
        return int(self.state["learner"]["counters"]["iter_num"])


GIVE_ANCHOR = "; --anchor RUN|FILE names other weights to start from"


def described(run: Path, state: Mapping[str, Any], origin: str | None) -> str:
    """What the anchor is. Raises WorldError where it is the random init."""
    counters, best = state["learner"]["counters"], state["learner"]["anchor"]["best_loss"]
    if counters["consolidations"]:
        count = counters["consolidations"]
        return f"moved to the weights {count} time{'s' * (count > 1)}, last before iteration {counters['consolidated_at']}"
    if origin:
        return f"weights brought in from {origin}"
    if math.isfinite(best):
        return f"the run's best state so far, val loss {best:.4f}"
    mode = state["learner"]["anchor"]["penalize"]
    raise WorldError(f"{run} began at random weights, and they are still its anchor (anchor.penalize={mode}){GIVE_ANCHOR}")


def origin_of(run: Path, state: Mapping[str, Any]) -> str | None:
    """init_from of the run's first start; None for scratch."""
    path = own_json(run)
    records = read_records(path) if path and path.is_file() else []
    found = str(records[0]["config"]["init_from"] if records else state["config"].get("init_from", "scratch"))
    return None if found == "scratch" else found


def read(path: Path) -> Weights:
    """A checkpoint, or the ckpt.pt of a run's folder. Raises CheckpointError."""
    return Weights.read(str(path), path / SAVED if path.is_dir() else path)


# ------------------------------------------------------------------------------------------------------------- the corpora


def corpora(line: Line, old: str | None, new: str | None, data_dir: str | None) -> tuple[Corpus, Corpus]:
    """The old corpus, by default that of the run the weights were brought in from, and the new one, by default the run's own.

    Raises UsageError where the old one is not known or is the new one, CorpusError for one with another vocabulary.
    """
    config = line.state["config"]
    there = DATA.parent / (data_dir or config.get("data_dir", "data"))
    fresh = there / (new or str(config["dataset"]))
    former = there / old if old else old_corpus(line, data_dir)
    if former.resolve() == fresh.resolve():
        raise UsageError(f"the old corpus and the new one are both {fresh.name}; {NAME_OLD}")
    found = open_corpus(former), open_corpus(fresh)
    for corpus in found:
        fits(corpus, line, config)
    return found


def old_corpus(line: Line, data_dir: str | None) -> Path:
    """The folder of the corpus that the brought-in weights were trained on. Raises UsageError where that is not known."""
    if line.origin is None:
        raise UsageError(f"{line.run} brought no weights in; {NAME_OLD}")
    try:
        config = read(Path(line.origin)).config
    except OckhamError as error:
        raise UsageError(f"what {line.origin} was trained on is not known ({error}); {NAME_OLD}") from error
    if "dataset" not in config:
        raise UsageError(f"{line.origin} does not say what it was trained on; {NAME_OLD}")
    return DATA.parent / (data_dir or config.get("data_dir", "data")) / str(config["dataset"])


def fits(corpus: Corpus, line: Line, config: Mapping[str, Any]) -> None:
    """Raises CorpusError for a corpus that the model cannot read, or of which it would read other characters."""
    size = line.state["model_args"]["vocab_size"]
    if corpus.vocab_size > size or corpus.vocabulary != config.get("vocabulary", corpus.vocabulary):
        raise CorpusError(
            f"corpus {corpus.folder.name} (vocabulary of {corpus.vocab_size}) numbers its characters otherwise than the model of "
            f"{line.run} ({size}); prepare it again with --vocab {config['dataset']} --force, or name another corpus"
        )
    corpus.check_length(line.state["model_args"]["block_size"])


# --------------------------------------------------------------------------------------------------------------- the trace


def trace(line: Line, alphas: Sequence[float], old: Corpus, new: Corpus, device: str = "auto") -> list[Point]:
    """Both losses at every α and at both ends, ascending, on the whole val splits, forwards in the weights' own precision."""
    ranks = Ranks(pick_device(device))
    line.model.to(ranks.device)
    points = []
    for alpha in sorted({0.0, *alphas, 1.0}):
        line.go_to(alpha)
        losses = [whole_val_loss(line.model, corpus, line.state["model_args"]["block_size"], ranks) for corpus in (old, new)]
        if not all(math.isfinite(loss) for loss in losses):
            raise WorldError(f"{line.run}: at α = {alpha:g} the loss is not finite, old {losses[0]}, new {losses[1]}")
        points.append(Point(alpha, *losses))
    return points


# ------------------------------------------------------------------------------------------------------------ what is kept


def check_out(out: Path, overwrite: bool) -> None:
    """Raises ConfigError for a place that is taken; a run that was trained is never replaced."""
    if any((out / name).exists() for name in OF_A_TRAINED_RUN):
        raise ConfigError(f"{out} holds a run that was trained, which a blend never replaces; choose another --out DIR")
    if out.exists() and not (overwrite and out.is_dir()):
        raise ConfigError(f"{out} exists; --overwrite replaces the blend in it, --out DIR keeps it")


def save(line: Line, chosen: Point, points: Sequence[Point], rule: Rule, old: Corpus, new: Corpus, out: Path) -> None:
    """ckpt.pt with the weights of the chosen α, blend.json and blend.svg. Its val loss is that on the new corpus."""
    line.go_to(chosen.alpha)
    blended = {name: tensor.detach().cpu() for name, tensor in line.model.state_dict().items()}
    checkpoint.save(for_inference({**line.state, "evaluated": blended}, chosen.new_loss), out / SAVED)
    names = {"old": old.folder.name, "new": new.folder.name}
    table = {
        "v": 1, "run": str(line.run), "iteration": line.iteration, "anchor": line.about, **names,
        "chosen": chosen.alpha, "rule": str(rule), "points": [record(point, points[0]) for point in points],
    }  # fmt: skip
    write_text(out / TABLE, json.dumps(table, indent=2) + "\n")
    write_text(out / PICTURE, picture(points, chosen, **names))


def record(point: Point, anchor: Point) -> dict[str, float]:
    """A point in plain values; forgetting is its old loss above the anchor's."""
    losses = {"old_loss": point.old_loss, "new_loss": point.new_loss, "mean": point.mean}
    return {"alpha": point.alpha, **losses, "forgetting": point.old_loss - anchor.old_loss}


def picture(points: Sequence[Point], chosen: Point, old: str, new: str) -> str:
    """Old loss against new loss as an SVG, each point with its α."""
    from .report import svg

    def draw(axes: Any) -> None:
        axes.plot([p.new_loss for p in points], [p.old_loss for p in points], "o-", ms=4)
        axes.plot([chosen.new_loss], [chosen.old_loss], "o", ms=10, mfc="none", color="k", label="saved")
        ends = {0.0: "anchor", 1.0: "weights"}
        for p in points:
            label = f"α = {p.alpha:g}" + (f" ({ends[p.alpha]})" if p.alpha in ends else "")
            axes.annotate(label, (p.new_loss, p.old_loss), textcoords="offset points", xytext=(6, 4))
        axes.set_xlabel(f"new loss: {new}, nats/token")
        axes.set_ylabel(f"old loss: {old}, nats/token")
        axes.margins(x=0.25)
        axes.legend()

    return svg(draw, width=6.0, height=4.5)
