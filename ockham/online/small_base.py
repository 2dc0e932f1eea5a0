"""The small base that `ockham chat` makes where no other is there: our GPT, trained for a few minutes on dialogues and fables."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import WorldError
from .bases import Base, is_available, load_base
from .config import OnlineConfig

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 8  # on two cores of a laptop, measured: docs/RESULTS.md
ABOUT = """The small base knows English only from made-up dialogues and fables. It answers what you have told it, says when it
does not know, and can talk about little else: it is here to try learning and forgetting without a download. For more, give a real
model: ockham chat --base Qwen/Qwen2.5-0.5B (0.99 GB), or any folder with a Hugging Face causal LM."""

Said = Callable[[str], None]


def pick_base(config: OnlineConfig, is_chosen: bool, offer: Callable[[], bool], said: Said) -> Base:
    """The base of the settings; where it is not on this machine and nobody asked for it by name, the small one, made if need be.

    `offer` asks whether to make it, and is no where nobody can be asked. Raises WorldError where there is none in the end.
    """
    wanted = config.model
    if is_chosen or is_available(wanted.base_model_name):
        return load_base(wanted)
    small = with_base(config, wanted.fallback).model
    if not is_available(wanted.fallback):
        from .hf_base import DOWNLOAD_GB

        said(f"{wanted.base_model_name} is not on this machine, nor is the small base in {wanted.fallback}.")
        if not offer():
            size = f" ({DOWNLOAD_GB[name]:.2f} GB)" if (name := wanted.base_model_name) in DOWNLOAD_GB else ""
            raise WorldError(
                f"no base: download one with --base {name}{size}, give --base FOLDER, or make the small one in about {MINUTES} "
                "minutes: ockham chat --make-base"
            )
        make_small_base(Path(wanted.fallback), said)
    return load_base(small)


def with_base(config: OnlineConfig, name: str) -> OnlineConfig:
    """The settings with another base."""
    return replace(config, model=replace(config.model, base_model_name=name))


def make_small_base(folder: Path, said: Said) -> None:
    """Prepares data/dialogues and trains the base into `folder`, which can then be moved anywhere.

    The folder appears once the base is whole. Raises WorldError, also for a folder that is there: chats belong to the base in it.
    """
    if folder.exists():
        raise WorldError(f"{folder} is there already, and chats may belong to it; move it away, or give model.fallback=OTHER")
    partial = folder.absolute().with_name(f"{folder.name}.partial")
    said(f"making the small base in {folder}: about {MINUTES} minutes on two cores ...")
    _run([str(ROOT / "data" / "dialogues" / "prepare.py"), "--force"])  # the wordings come from code that it does not compare
    _run(
        [str(ROOT / "train_ockham.py"), "config/train_dialogues.py", "optimizer=muon", f"--out_dir={partial}", "--overwrite=True"]
    )
    shutil.copyfile(ROOT / "data" / "dialogues" / "meta.json", partial / "meta.json")
    partial.rename(folder)
    said(ABOUT)


def _run(command: list[str]) -> None:
    """One of our programs, its output on stderr."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise WorldError(f"{Path(command[0]).name} failed with exit code {done.returncode}; see above")
