"""`ockham chat`, after its flags are read: which settings, which base, and chat, exam or replay."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

from .. import __version__
from ..arguments import DEBUG
from ..errors import ConfigError, WorldError
from ..files import check_target, write_text
from ..typed import to_mapping
from .bases import Base, check_libraries, checkpoint_of, is_available
from .config import ModelSettings, OnlineConfig
from .settings import load_settings

SMALL = "small"  # the preset for bases of ours
STATE = Path("out-chat")


def run(options: argparse.Namespace) -> int:
    """Does what the flags say; the exit code."""
    check_libraries()
    overrides = [arg for arg in options.rest if not DEBUG.fullmatch(arg)]
    config, is_chosen = settings(options, options.preset, overrides)
    if options.preset is None and is_small(config, is_chosen):
        config, _ = settings(options, SMALL, overrides)
    if options.make_base:
        return make_base(config)
    if options.plain or not sys.stderr.isatty():
        from .hf_base import hide_progress_bars

        hide_progress_bars()
    if options.exam:
        return take(options, config, is_chosen)
    if options.replay:
        return tell_again(options, config, is_chosen)
    return talk(options, config, is_chosen, has_settings=bool(overrides or options.config or options.preset))


def settings(options: argparse.Namespace, preset: str | None, overrides: list[str]) -> tuple[OnlineConfig, bool]:
    """All layers, and whether the base is one that was asked for by name."""
    config = load_settings(preset, options.config, overrides)
    if options.base:
        config = replace(config, model=replace(config.model, base_model_name=options.base))
    return config, bool(options.base) or config.model.base_model_name != ModelSettings().base_model_name


def is_small(config: OnlineConfig, is_chosen: bool) -> bool:
    """Whether the base is one of ours, as the one is that is made where the default is absent."""
    name = config.model.base_model_name
    return checkpoint_of(name) is not None if is_chosen else not is_available(name)


def said(text: str) -> None:
    """A line for the user, beside the replies."""
    print(text, file=sys.stderr, flush=True)


def offer() -> bool:
    """Asks whether to make the small base; where nobody can be asked, it is not made."""
    if not sys.stdin.isatty():
        return False
    from .small_base import MINUTES

    print(f"Make it now? It takes about {MINUTES} minutes. [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def load(config: OnlineConfig, is_chosen: bool) -> Base:
    """The base, announced."""
    from .small_base import pick_base

    base = pick_base(config, is_chosen, offer, said)
    size = sum(parameter.numel() for parameter in base.model.parameters())
    said(f"base: {base.name} ({size / 1e6:.2f} M parameters, {base.device}, {base.dtype})")
    return base


def make_base(config: OnlineConfig) -> int:
    """The small base, anew."""
    from .small_base import make_small_base

    make_small_base(Path(config.model.fallback), said)
    return 0


def take(options: argparse.Namespace, config: OnlineConfig, is_chosen: bool) -> int:
    """The exam: a line for each fact, a table at the end, and the results as JSON."""
    import torch

    from .exam import read_exam, take_exam
    from .exam_report import show_result, show_row
    from .session import make_trainer

    items, most = read_exam(options.exam), config.fact_memory.max_facts
    if len(items) > most:
        said(f"{len(items)} facts, fact_memory.max_facts={most}: over that, one after another is not replayed any more")
    if options.json:
        check_target("--json", options.json)
    trainer = make_trainer(load(config, is_chosen), config)
    before = trainer.base.sha256()
    result = take_exam(trainer, items, lambda number, row: said(show_row(number, len(items), row)), options.chat_turns or 0)
    if trainer.base.sha256() != before:
        raise WorldError("the weights of the base changed during the exam; its results count for nothing")
    made_with = {"version": __version__, "threads": torch.get_num_threads(), "settings": to_mapping(config)}
    result = {"exam": str(options.exam), "preset": options.preset, **result, **made_with}
    if options.json:
        write_text(options.json, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(show_result(result))
    return 0


def tell_again(options: argparse.Namespace, config: OnlineConfig, is_chosen: bool) -> int:
    """A session told again, and kept where a state folder is named: exit code 1 where a reply or the adapter differs."""
    from .chat_lines import counted
    from .retelling import replay, unlike
    from .state_view import stored_header

    if options.state and stored_header(options.state) is not None:
        raise ConfigError(f"{options.state} holds a chat already; name a new folder with --state for the one that is told again")
    turns = different = gone = 0
    base = config.model.base_model_name if is_chosen else None
    for line, turn, found in replay(options.replay, lambda stored: load(stored, is_chosen=True), base, options.state):
        turns += turn is not None
        gone += turn is None
        different += bool(found)
        if turn is not None and not found:
            said(f"{line['turn']}: the same")
        for difference in found:
            print(f"turn {line['turn']}: {difference}")
    left_out = f" ({gone} forgotten)" if gone else ""
    differ = f"{different} {'differs' if different == 1 else 'differ'}"
    print(f"{counted(turns, 'turn')} told again{left_out}: {'every reply and adapter is the same' if not different else differ}")
    if different and (made_with := unlike(options.replay)):
        print(f"it was made with {made_with}: there the last bits of a sum may be others")
    if options.state:
        said(f"kept in {options.state}; ockham chat --state {options.state} goes on from there")
    return 1 if different else 0


def talk(options: argparse.Namespace, config: OnlineConfig, is_chosen: bool, has_settings: bool) -> int:
    """The chat itself."""
    from .chat import Chat
    from .progress import bar
    from .session import Session
    from .state_view import stored_header

    folder, is_plain = options.state or STATE, options.plain or not sys.stdin.isatty() or bool(options.export_adapter)
    if not is_plain and importlib.util.find_spec("prompt_toolkit") is None:
        raise WorldError("a chat in a terminal needs prompt_toolkit; pip install -e '.[online]', or chat with --plain")
    is_begun = stored_header(folder) is not None
    if options.export_adapter and not is_begun:
        raise WorldError(f"there is no chat in {folder} to export; name its folder with --state")

    def open_base(settings: OnlineConfig) -> Base:
        return load(settings, is_chosen or is_begun)

    base = config.model.base_model_name if is_chosen else None
    with Session(folder, config, open_base, is_chosen=has_settings, base=base, fall_back=options.fall_back) as session:
        if options.export_adapter:
            session.trainer.adapter.export(options.export_adapter)
            said(f"the adapter is in {options.export_adapter}, in peft's format")
            return 0
        if not is_plain and sys.stderr.isatty():
            session.trainer.learner.shown = bar
        return Chat(session, is_plain).run()
