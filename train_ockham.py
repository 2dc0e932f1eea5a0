"""Train a GPT under the rack.

    python train_ockham.py [config/FILE.py|.yaml ...] [--key=value ...] [group=name ...] [a.b=value ...] [-m ...]

One story, top to bottom: config → device → data → model → optimizer → learner → loop. `--help` lists every key.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

import configurator
from model import GPT, GPTConfig
from ockham import checkpoint, judged, rundir
from ockham.anchor import Anchor
from ockham.audit.record import audit_record, write_audit
from ockham.audit.shown import audit_table
from ockham.carried import carry_plugin_state, hold_out_probe, wants_probe
from ockham.config import RunConfig
from ockham.console import Screen, schedule_lines, size_text
from ockham.data import GPT2_VOCAB, Batch, Corpus, open_corpus
from ockham.distributed import Ranks, join, world_size
from ockham.domains import domain_shares
from ockham.errors import CheckpointError, ConfigError, CorpusError
from ockham.estimate import print_estimate
from ockham.evaluation import Evaluator
from ockham.files import write_text
from ockham.hardware import device_peak_flops
from ockham.learner import OckhamLearner
from ockham.ledger import BACKWARD, FORWARD
from ockham.memory import OckhamMemory
from ockham.objective import Rows
from ockham.optim import build_average, build_optimizer, build_schedule
from ockham.plugins import LoggerPlugin, PluginHost
from ockham.precision import Precision, pick_precision
from ockham.presets import build_plugins
from ockham.quotient import Footprint
from ockham.row_source import ReplayedRows, build_rows, check_rows
from ockham.stop import Stop
from ockham.stream import source_of
from ockham.tokenizer import vocabulary_of
from ockham.track import Trackers, check_trackers
from pretrained import PRETRAINED

ROOT = Path(__file__).resolve().parent
GPT2_VOCAB_PADDED = 50_304  # a multiple of 64 is faster on tensor cores
SHAPE = ("block_size", "n_layer", "n_head", "n_embd", "bias")  # what a model's own weights decide
REPLAYABLE_BELOW = 20_000_000  # parameters
LEARNED_BATCH = FORWARD + BACKWARD  # compute units


def main(config: RunConfig, provenance: configurator.Provenance) -> int:
    """One run; the exit code."""
    check_before_start(config)
    ranks = join(config.device, config.backend)
    screen, stop = Screen(ranks.is_main), Stop(ranks, config.max_hours)
    set_up_torch(config)
    corpus = open_corpus(ROOT / config.data_dir / config.dataset)
    precision = pick_precision(config.dtype, ranks.device, config.optimizer)
    model, saved = build_model(config, corpus, ranks, precision)
    config = with_facts(config, model, corpus, screen)
    block_size, micro_steps = config.block_size, config.optimizer.accumulate_steps // ranks.world
    corpus.check_length(block_size)
    host = build_rack(config, screen)
    check_rows(config, corpus, host, saved)
    probe = None
    if wants_probe(host):
        corpus, probe = hold_out_probe(corpus, block_size, ranks.device)
    learner = build_learner(config, model, host, ranks, precision, probe, screen)
    source = source_of(corpus, config.batch_size, block_size, config.seed, ranks.rank, ranks.device, ranks.world)
    domains_at = domain_shares(corpus, source, host, micro_steps, ranks.world)
    evaluator = Evaluator(
        corpus, block_size, config.batch_size, precision, ranks, config.eval_iters, config.eval_max_tokens, stop.is_signalled
    )
    if config.dry_run:
        return print_estimate(config, model, learner, batches(ReplayedRows(source), 0, micro_steps), screen)

    claim_folder(config, ranks)
    trackers = Trackers(config, ranks.is_main)
    run = open_run(config, provenance, learner, model, corpus, saved)
    rows = build_rows(config, corpus, source, learner, model.generate, lambda run: GPT.from_checkpoint(load_saved(Path(run))))
    peak_flops = config.peak_flops or device_peak_flops(ranks.device, precision.dtype)
    introduce(config, corpus, model, learner, micro_steps, screen)
    audit(config, provenance.argv, learner, corpus, screen)
    with screen, stop:
        while True:
            step = learner.iter_num
            is_last = step >= config.max_iters or 0 < config.max_units <= learner.ledger.units
            if run.evaluated_at != step and (step % config.eval_interval == 0 or is_last or config.eval_only):
                evaluate(run, evaluator, trackers, screen, stop, step, is_last)
            if config.eval_only or is_last or stop.requested():
                break
            began, paid = time.perf_counter(), learner.ledger.units
            ctx = learner.step(batches(rows, step, micro_steps), domains_at(step))
            seconds = time.perf_counter() - began
            run.record_step(ctx, seconds)
            stop.saw_step(seconds)
            for notice in ctx.notices:
                screen.say(f"iter {step}: {notice}")
            if ctx.requests.rollback:
                screen.say(f"iter {step}: back to the state of iteration {run.return_to_kept(ctx.requests.rollback)}")
            if ctx.requests.stop:
                stop.because(ctx.requests.stop)
            learned = (learner.ledger.units - paid) / LEARNED_BATCH  # a skipped batch did a third of the work
            mfu = model.estimate_mfu(config.batch_size * learned, seconds, peak_flops)
            trackers.step(ctx, mfu)
            if step % config.log_interval == 0:
                screen.step(ctx, seconds, mfu)
            screen.advance(learner.iter_num, config.max_iters)
            if learner.nonfinite_in_a_row >= config.max_nonfinite:
                run.roll_back()
                screen.say(f"iter {step}: {config.max_nonfinite} non-finite steps in a row; rolled back to last.pt")
            if config.checkpoint_interval and learner.iter_num % config.checkpoint_interval == 0:
                run.save_complete()
        return finish(config, corpus, run, evaluator, trackers, screen, stop)


def check_before_start(config: RunConfig) -> None:
    """What can be said to be wrong before anything is opened."""
    if config.optimizer.accumulate_steps % world_size():
        raise ConfigError(
            f"gradient_accumulation_steps={config.optimizer.accumulate_steps} is shared among {world_size()} processes, so that "
            f"number must divide it; use --gradient_accumulation_steps={world_size()}"
        )
    check_trackers(config)
    writes_anew = config.init_from != "resume" and not (config.dry_run or config.eval_only or config.overwrite)
    if writes_anew:
        rundir.check_free(Path(config.out_dir))


def set_up_torch(config: RunConfig) -> None:
    """Threads, seeds, TF32 where there is CUDA, anomaly detection."""
    if config.threads:
        torch.set_num_threads(config.threads)
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(config.seed % 2**32)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    torch.autograd.set_detect_anomaly(config.optimizer.detect_anomaly)


def with_facts(config: RunConfig, model: GPT, corpus: Corpus, screen: Screen) -> RunConfig:
    """The config as it holds: the model's own shape, and max_iters where epochs are given."""
    shape = {name: getattr(model.config, name) for name in SHAPE}
    changed = [f"{name} {value}" for name, value in shape.items() if value != getattr(config, name)]
    if changed:
        screen.say(f"shape of the weights that are brought in: {', '.join(changed)}")
    max_iters = config.max_iters
    if config.epochs:
        tokens_per_iter = config.batch_size * model.config.block_size * config.optimizer.accumulate_steps
        max_iters = max(1, round(config.epochs * corpus.train.tokens / tokens_per_iter))
    return dataclasses.replace(config, **shape, max_iters=max_iters)


def build_model(config: RunConfig, corpus: Corpus, ranks: Ranks, precision: Precision) -> tuple[GPT, dict[str, Any] | None]:
    """The GPT on its device, and on resume the complete state to continue from."""
    resuming = config.init_from == "resume" and not config.eval_only
    saved = checkpoint.load_complete(Path(config.out_dir)) if resuming else None
    try:
        if config.init_from == "scratch":
            vocab_size = GPT2_VOCAB_PADDED if corpus.vocab_size == GPT2_VOCAB else corpus.vocab_size
            shape = {name: getattr(config, name) for name in SHAPE}
            model = GPT(GPTConfig(**shape, vocab_size=vocab_size, dropout=config.dropout))
        else:
            model = bring_in(config, corpus, saved)
    except (ValueError, OSError, RuntimeError) as error:
        raise CheckpointError(f"init_from={config.init_from}: {error}") from error
    if corpus.vocab_size > model.config.vocab_size:
        raise CorpusError(
            f"corpus {config.dataset} has a vocabulary of {corpus.vocab_size}, the model only {model.config.vocab_size}; "
            f"prepare the corpus with the model's tokenizer (--vocab CORPUS or --tokenizer gpt2)"
        )
    if config.block_size < model.config.block_size and not saved:
        model.crop_block_size(config.block_size)
    torch.manual_seed(config.seed + ranks.rank)  # weights alike on all ranks, dropout not
    return model.to(ranks.device, torch.float64 if precision.dtype == torch.float64 else torch.float32), saved


def bring_in(config: RunConfig, corpus: Corpus, saved: dict[str, Any] | None) -> GPT:
    """A model whose weights exist already: a GPT-2 name, a checkpoint file, a run folder or a Hugging Face folder."""
    path = Path(config.out_dir if config.init_from == "resume" else config.init_from)
    if config.init_from in PRETRAINED or (path / "config.json").is_file():
        return GPT.from_pretrained(config.init_from, {"dropout": config.dropout})
    state = saved or load_saved(path)
    check_vocabulary(state.get("config", {}), corpus)
    model_args = {**state["model_args"], "dropout": config.dropout}  # the one that is not a shape
    return GPT.from_checkpoint({**state, "model_args": model_args})


def load_saved(path: Path) -> dict[str, Any]:
    """The checkpoint of a run folder, or the file itself."""
    return checkpoint.load_checkpoint(path / "ckpt.pt" if path.is_dir() else path)


def check_vocabulary(trained_on: Mapping[str, Any], corpus: Corpus) -> None:
    """Raises CorpusError when the checkpoint's corpus numbers its characters otherwise than this one; nanoGPT's are looked up."""
    name = str(trained_on.get("dataset"))
    its_folder = corpus.folder.parent / name
    known = trained_on.get("vocabulary") or (vocabulary_of(its_folder) if (its_folder / "train.bin").is_file() else None)
    if known is None or known == corpus.vocabulary:
        return
    if name == corpus.folder.name:
        raise CorpusError(f"corpus {name} was prepared anew with other characters since the checkpoint; prepare it as it was")
    raise CorpusError(
        f"the checkpoint's corpus {name} and corpus {corpus.folder.name} number their characters differently; "
        f"prepare {corpus.folder.name} again as before, with --vocab {name} --force"
    )


def build_rack(config: RunConfig, screen: Screen) -> PluginHost:
    """The preset's plugins, new or with the states that another run left them."""
    host = PluginHost(build_plugins(config.rack, config.seed))
    for plugin in host:
        if isinstance(plugin, LoggerPlugin):
            plugin.sink = screen.say
    if config.plugin_state != "none" and config.init_from != "resume":
        for line in carry_plugin_state(host, config.plugin_state):
            screen.say(line)
    return host


def build_learner(
    config: RunConfig, model: GPT, host: PluginHost, ranks: Ranks, precision: Precision, probe: Batch | None, screen: Screen
) -> OckhamLearner:
    """Optimizer and anchor around the model, compiled and wrapped for ranks where that is asked for."""
    optimizer, notes = build_optimizer(model, config.optimizer, ranks.device)
    tokens = torch.zeros(1, model.config.block_size, dtype=torch.long, device=ranks.device)
    footprint = Footprint.measure(model, tokens) if config.rack or config.memory.enabled else None
    forward = compiled(config, model, ranks, precision, screen)
    if ranks.world > 1:
        forward = DistributedDataParallel(forward, device_ids=[ranks.device.index] if ranks.device.type == "cuda" else None)
    for note in notes:
        screen.say(note)
    return OckhamLearner(
        forward,
        optimizer,
        host,
        anchor=Anchor(
            model.parameters(),
            config.anchor.penalize if config.lambda_ockham or config.rack or config.replay.kl else "never",  # nobody asks for one
            config.init_from != "scratch",
            **config.anchor.laws,
        ),
        schedule=build_schedule(config),
        clock=config.scheduler.clock,
        average=build_average(model, config.optimizer.ema.decay),
        lambda_ockham=config.lambda_ockham,
        surprise_threshold=config.surprise_threshold,
        consolidate_interval=config.consolidate_interval,
        clip_grad_norm=config.optimizer.clip_grad_norm,
        ranks=ranks,
        precision=precision,
        probe=probe,
        footprint=footprint,
        replay_ce=config.replay.ce,
        replay_kl=config.replay.kl,
        seed=config.seed,
    )


def build_memory(config: RunConfig, ranks: Ranks) -> OckhamMemory | None:
    """The memory of the states worth keeping, where the config or the preset has one."""
    if not config.memory.enabled or config.eval_only:
        return None
    open_memory = OckhamMemory.open if config.init_from == "resume" else OckhamMemory
    options = {key: value for key, value in dataclasses.asdict(config.memory).items() if key != "enabled"}
    return open_memory(folder=Path(config.out_dir) / "memory", writes=ranks.is_main, **options)


def compiled(config: RunConfig, model: GPT, ranks: Ranks, precision: Precision, screen: Screen) -> torch.nn.Module:
    """torch.compile where asked for, tried once on a small batch; a failure falls back, announced."""
    if not (ranks.device.type == "cuda" if config.compile == "auto" else config.compile):
        return model
    screen.say("compiling the model ... (takes up to a minute; --compile=False leaves it out)")
    try:
        fast = torch.compile(model)
        tokens = torch.zeros(config.batch_size, model.config.block_size, dtype=torch.long, device=ranks.device)
        with torch.random.fork_rng([ranks.device] if ranks.device.type == "cuda" else []), precision.autocast():
            fast(tokens, tokens)[1].backward()
        model.zero_grad(set_to_none=True)
        return fast
    except Exception as error:  # whatever compiler, Python or platform is missing: eager always works
        screen.say(f"torch.compile does not work here ({str(error).splitlines()[0][:120]}); going on without it")
        return model


def claim_folder(config: RunConfig, ranks: Ranks) -> None:
    """An empty run folder, where a new run is to write."""
    if ranks.is_main and config.init_from != "resume" and not config.eval_only:
        rundir.claim(Path(config.out_dir), config.overwrite)
    ranks.barrier()


def open_run(
    config: RunConfig,
    provenance: configurator.Provenance,
    learner: OckhamLearner,
    model: GPT,
    corpus: Corpus,
    saved: Mapping[str, Any] | None,
) -> rundir.Run:
    """The run: a new one, or the one that is resumed."""
    flat = {**configurator.flat(config), "vocabulary": corpus.vocabulary}
    memory = build_memory(config, learner.ranks)
    run = rundir.Run(Path(config.out_dir), learner, model, model.model_args(), flat, config.always_save_checkpoint, memory)
    if config.eval_only:
        return run
    if saved:
        run.resume(saved)
        for spec in config.rack:  # a plugin switched on or off on the command line
            learner.host.bypass(spec["name"], not spec.get("enabled", True))
    else:
        run.begin()
    if learner.ranks.is_main:
        write_text(run.out_dir / "config.yaml", configurator.config_as_yaml(config, provenance))
    small = sum(p.numel() for p in model.parameters()) < REPLAYABLE_BELOW
    if not saved and (small if config.journal.replayable is None else config.journal.replayable):
        run.save_complete("start.pt")
    return run


def introduce(config: RunConfig, corpus: Corpus, model: GPT, learner: OckhamLearner, micro_steps: int, screen: Screen) -> None:
    """The first lines."""
    ranks, shape = learner.ranks, model.config
    tokens = config.batch_size * shape.block_size * micro_steps * ranks.world
    rack = " → ".join(p.name for p in learner.host.plugins) or "empty"
    penalty = f"anchor penalty {learner.anchor.penalize} ({learner.anchor.status}), {config.anchor.kind}"
    sizes = f"{corpus.train.tokens:,} + {corpus.val.tokens:,} tokens, vocabulary {corpus.vocab_size:,}"
    screen.say(f"corpus {config.dataset}: {sizes}")
    screen.say(f"model: {size_text(model.num_params())} parameters, block {shape.block_size}, {tokens:,} tokens per iteration")
    screen.say(f"device: {ranks.device} × {ranks.world}, {learner.precision.name}")
    for line in schedule_lines(config):
        screen.say(line)
    screen.say(f"preset {config.preset}: {rack}; λ {config.lambda_ockham:g}, {penalty}")
    if config.replay.fraction:
        old = config.replay.corpus or "text that the model has generated"
        screen.say(f"replay: {config.replay.fraction:.0%} of each batch from {config.replay.windows} windows of {old}")
    if (probe := learner.requested.probe) is not None:
        screen.say(f"probe: {probe[0].numel():,} tokens of the training split's end are held out for plugins")
    for line in judged.waiting(config.memory, config.anchor.penalize, learner):
        screen.say(line)
    if learner.iter_num >= config.max_iters and not config.eval_only:
        screen.say(f"already at iteration {learner.iter_num} of {config.max_iters}: only evaluating; --max_iters=N goes on")


def audit(config: RunConfig, argv: list[str], learner: OckhamLearner, corpus: Corpus, screen: Screen) -> None:
    """What is needed to repeat the run: audit.md, audit.json, and the optimizer's table."""
    if not learner.ranks.is_main or config.eval_only:
        return
    record = audit_record(
        config,
        groups=learner.optimizer.param_groups,
        corpus=corpus.folder,
        argv=argv,
        iteration=learner.iter_num,
        device=learner.ranks.device,
        dtype=learner.precision.name,
        world=learner.ranks.world,
    )
    write_audit(Path(config.out_dir), record, config.optimizer)
    if config.optimizer.rich_console:
        screen.table(audit_table(record))


def batches(rows: ReplayedRows, step: int, micro_steps: int) -> list[Rows]:
    """This rank's micro-batches of a step."""
    return [rows.batch(step, micro) for micro in range(micro_steps)]


def evaluate(
    run: rundir.Run, evaluator: Evaluator, trackers: Trackers, screen: Screen, stop: Stop, step: int, is_last: bool
) -> None:
    """Evaluate, journal, and save what is to be saved. A signal breaks it off, unrecorded."""
    began = time.monotonic()
    if is_last and run.is_open:
        run.save_complete()  # a long sweep may be cut off
    with run.learner.evaluated_weights():
        result = evaluator(run.model, step)
    if result is None:
        return
    screen.evaluation(step, result)
    trackers.evaluation(result, step)
    if not run.is_open:
        return
    if run.record_evaluation(result, is_last):
        screen.say(f"step {step}: validation has stopped improving; the anchor's penalty is now in force")
    if run.memory and run.memory.last:
        screen.verdict(step, run.memory.last)
    for notice in run.notices:
        screen.say(f"step {step}: {notice}")
    if not is_last:
        run.save_complete()
    stop.save_s = time.monotonic() - began


def finish(
    config: RunConfig, corpus: Corpus, run: rundir.Run, evaluator: Evaluator, trackers: Trackers, screen: Screen, stop: Stop
) -> int:
    """After the last iteration the loss on the whole val split; else a save. Then table and report."""
    step, figures = run.learner.iter_num, dict[str, Any]()
    with run.learner.evaluated_weights():
        if run.final_evaluation and evaluator.is_estimate:
            run.final_evaluation = None
            if whole := evaluator(run.model, step, whole=True):
                screen.evaluation(step, whole, is_final=True)
                run.record_final(whole)
        wants_calibration = config.eval_calibration and (config.eval_only or run.final_evaluation)
        if wants_calibration and (calibration := evaluator.calibration(run.model)):
            screen.calibration(step, calibration)
            figures = calibration.figures()
    if not config.eval_only:
        is_done = run.final_evaluation is not None and not stop.told()
        if not is_done:
            run.save_complete()
            screen.say(f"stopped by {stop.reason} at iteration {step}; last.pt is saved, --init_from=resume goes on")
        summary = run.summary(corpus.floor, evaluator.is_estimate) | figures
        close_run(config, run, summary, "done" if is_done else stop.reason, screen)
    trackers.close()
    run.ranks.close()
    return stop.exit_code


def close_run(config: RunConfig, run: rundir.Run, summary: dict[str, Any], reason: str, screen: Screen) -> None:
    """The table, and for a finished run the report: who is told to stop has no time for pictures."""
    run.end(summary, reason)
    screen.summary(summary)
    files = "ckpt.pt, last.pt, journal.jsonl"
    if reason == "done" and run.ranks.is_main:
        from ockham.experiment.report import write_report

        try:
            write_report(run.out_dir)
            files += ", report.html"
        except Exception as error:  # a picture that fails does not fail the run
            screen.say(f"no report: {error}")
    screen.say(f"run folder: {config.out_dir} ({files})")


if __name__ == "__main__":
    sys.exit(configurator.run(main))
