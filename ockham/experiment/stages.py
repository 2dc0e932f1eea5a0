"""A scenario as commands: where its corpora lie, what each stage is trained with, and from which run it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from ..errors import ConfigError
from .corpora import Prepared
from .scenario import Scenario, Stage
from .streams import Batches, write_stream
from .variants import Resolve, Variant, command_of

SHARED = ""  # in the place of a variant's name: the run from which all variants go on


@dataclass(frozen=True)
class Course:
    """The stages, with the command line of each but for what variant and seed add."""

    scenario: Scenario
    prepared: Prepared
    folder: Path  # of the experiment
    base: tuple[str, ...]
    configs: tuple[RunConfig, ...]  # of the stages, without any variant

    @property
    def last(self) -> int:
        """The number of the last stage, from 0."""
        return len(self.scenario.stages) - 1

    def argv(self, stage: int, args: Sequence[str] = ()) -> list[str]:
        """A stage's train arguments: the base's, over them the stage's, over them the variant's."""
        return command_of(command_of(self.base, self.scenario.stages[stage].args), args)

    def corpus(self, stage: int, seed: int) -> Path:
        """The folder that a stage trains on; a stream is one for each seed."""
        found = self.scenario.stages[stage]
        if found.stream is None:
            return self.prepared.of(found.dataset)
        return self.folder / "corpora" / f"stage{stage + 1}-{found.dataset}_seed{seed}"

    def trained_by(self, stage: int, variant: Variant) -> str:
        """Whose run of a stage a variant goes on from: everybody's, its own, or for a control that of the gated variant."""
        if self.scenario.stages[stage].is_shared:
            return SHARED
        return variant.parent if variant.config is None else variant.name

    def run_folder(self, stage: int, name: str, seed: int) -> Path:
        """The folder of a stage's run."""
        if stage == self.last:
            return self.folder / "runs" / f"{name}_seed{seed}"
        return self.folder / "stages" / f"stage{stage + 1}{f'_{name}' * bool(name)}_seed{seed}"

    def placed(self, stage: int, variant: Variant | None, seed: int) -> tuple[str, ...]:
        """What says where a run reads and what it begins with. `variant` None: a shared run."""
        corpus = self.corpus(stage, seed)
        # ckpt.pt is to hold the weights at the stage's end, not those at its best evaluation
        where = [f"--data_dir={corpus.parent.resolve()}", f"--dataset={corpus.name}", "--always_save_checkpoint=True"]
        if stage:
            name = SHARED if variant is None else self.trained_by(stage - 1, variant)
            where.append(f"--init_from={self.run_folder(stage - 1, name, seed).resolve()}")
        return tuple(where)

    def write_corpora(self, seeds: Sequence[int]) -> None:
        """Write what is not there yet: copies of corpora, and the streams of all stages for every seed. Raises CorpusError."""
        self.prepared.write()
        for number, (stage, config) in enumerate(zip(self.scenario.stages, self.configs, strict=True)):
            for seed in seeds if stage.stream else ():
                assert stage.stream is not None
                write_stream(stage.stream, self.prepared, batches_of(config), seed, self.corpus(number, seed))

    def check(self, stage: int, config: RunConfig, owner: str) -> None:
        """Raises ConfigError where a config cannot train a stage: counted in epochs, or other batches than its stream has."""
        if config.epochs or config.eval_only:
            raise ConfigError(f"{owner}: ab counts iterations; give max_iters in place of epochs or eval_only")
        if self.scenario.stages[stage].stream is None:
            return
        made, asked = batches_of(self.configs[stage]), batches_of(config)
        for key in ("batch_size", "block_size", "micro_batches"):
            if getattr(made, key) != getattr(asked, key):
                name = "gradient_accumulation_steps" if key == "micro_batches" else key
                raise ConfigError(
                    f"{owner}: stage {stage + 1} is a stream made for {name}={getattr(made, key)}, got {getattr(asked, key)}; "
                    f"give {name} in the stage or the base run, for all variants"
                )


def batches_of(config: RunConfig) -> Batches:
    """The batches of a whole run."""
    return Batches(config.max_iters, config.optimizer.accumulate_steps, config.batch_size, config.block_size)


def make_course(scenario: Scenario, prepared: Prepared, folder: Path, base: Sequence[str], resolve: Resolve) -> Course:
    """The course, every stage resolved. Raises UsageError naming the stage."""
    configs = []
    for number, stage in enumerate(scenario.stages, 1):
        configs.append(stage_config(stage, number, base, resolve))
    return Course(scenario, prepared, folder, tuple(base), tuple(configs))


def stage_config(stage: Stage, number: int, base: Sequence[str], resolve: Resolve) -> RunConfig:
    """What a stage comes to without any variant."""
    try:
        config: RunConfig = resolve(command_of(base, stage.args)).config
    except ConfigError as error:
        raise ConfigError(f"stage {number}: {error}") from error
    return config
