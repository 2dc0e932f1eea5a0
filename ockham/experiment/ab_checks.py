"""Whether the variants of an A/B experiment can be trained at all: asked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..configuration.files import ROOT
from ..errors import ConfigError, CorpusError, nearest
from .stages import Course
from .variants import Resolve, Variant, check_corpus, resolved


def check_corpora(variants: Iterable[Variant]) -> None:
    """Raises CorpusError for a data set that is not there, ConfigError for an experiment's key or a variant that cannot begin."""
    for variant in variants:
        if variant.config is not None:
            if variant.config.epochs or variant.config.eval_only:
                raise ConfigError(f"variant {variant.name}: ab counts iterations; give max_iters in place of epochs or eval_only")
            check_corpus(variant.config)
            check_beginning(variant)


def check_stages(course: Course, variants: Iterable[Variant], resolve: Resolve, seed: int) -> None:
    """Raises UsageError where a variant cannot train one of the stages that it trains itself."""
    place, made = course.prepared.folder, course.prepared.names.values()
    for variant in variants:
        for number, stage in enumerate(course.scenario.stages):
            if number == course.last and variant.config:
                course.check(number, variant.config, f"variant {variant.name}")
                check_beginning(variant, place, made)
            elif not stage.is_shared:
                argv = [*course.argv(number), *course.placed(number, variant, seed)]
                again = resolved(variant, argv, resolve)
                assert again.config is not None
                course.check(number, again.config, f"variant {variant.name}, stage {number + 1}")
                check_beginning(again, place, made)


def check_beginning(variant: Variant, corpora: Path | None = None, made: Iterable[str] = ()) -> None:
    """Raises ConfigError, CorpusError for a variant whose runs would stop at their start: nothing to replay or to compare with.

    `corpora`: where its corpora lie, and which of them are still to be `made`; default: where its config says.
    """
    from .. import row_source  # torch

    config = variant.config
    if config is None:
        return
    judging = (spec["params"].get("surprise") for spec in config.rack if spec.get("enabled", True))
    try:
        row_source.check_beginning(config, "excess" in judging)
    except ConfigError as error:
        raise ConfigError(f"variant {variant.name}: {error}") from error
    folder, names = corpora or ROOT / config.data_dir, (config.replay.corpus or "").split("+")
    for name in (name.strip() for name in names if row_source.wants_store(config)):
        if name and name not in made and not (folder / name / "train.bin").is_file():
            known = sorted({*made, *(path.parent.name for path in folder.glob("*/train.bin"))})
            raise CorpusError(
                f"variant {variant.name}: replay.corpus: there is no corpus {name!r}{nearest(name, known)}; there are "
                f"{', '.join(known)}"
            )
