"""nanoGPT-Ockham: learn what surprises, pay for every drift, keep what works, and be able to say why.

The public names are loaded on first use, so that `--help` and error messages need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.4.0"

PUBLIC = {
    "OccamContext": "context",
    "TrainingState": "plugins",
    "OccamPlugin": "plugins",
    "LearningPlugin": "plugins",
    "PluginHost": "plugins",
    "OckhamGatePlugin": "plugins",
    "OccamGatePlugin": "plugins",
    "CompressorPlugin": "plugins",
    "EQPlugin": "plugins",
    "CurriculumEQPlugin": "plugins",
    "LimiterPlugin": "plugins",
    "SaturationPlugin": "plugins",
    "DelayPlugin": "plugins",
    "ReverbPlugin": "plugins",
    "KLWatchdogPlugin": "plugins",
    "LearnedGainPlugin": "plugins",
    "LoggerPlugin": "plugins",
    "RandomSkipPlugin": "plugins",
    "SequenceGatePlugin": "plugins",
    "OckhamLearner": "learner",
    "Anchor": "anchor",
    "Ledger": "ledger",
    "OckhamMemory": "memory",
    "OckhamMemoryV2": "memory",
    "ModelSnapshot": "memory",
    "Journal": "journal",
    "Preset": "presets",
    "load_preset": "presets",
    "load_preset_simple": "presets",
    "OckhamError": "errors",
}

__all__ = ["__version__", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'ockham' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
