"""The rack: host, base class and the plugins, which know neither one another nor the learner."""

from ..context import OccamContext
from .base import OccamPlugin, Param, ParameterError
from .compressor import CompressorPlugin
from .delay import DelayPlugin
from .eq import EQPlugin
from .gate import OckhamGatePlugin
from .host import PluginHost
from .kl_watchdog import KLWatchdogPlugin
from .learned_gain import LearnedGainPlugin
from .limiter import LimiterPlugin
from .logger import LoggerPlugin
from .random_skip import RandomSkipPlugin
from .reverb import ReverbPlugin
from .saturation import SaturationPlugin
from .sequence_gate import SequenceGatePlugin

# Older spellings, so that code written for them needs new import lines only.
TrainingState = OccamContext
LearningPlugin = OccamPlugin
OccamGatePlugin = OckhamGatePlugin
CurriculumEQPlugin = EQPlugin

# What `type:` in a preset may name.
PLUGINS: dict[str, type[OccamPlugin]] = {
    "OckhamGatePlugin": OckhamGatePlugin,
    "OccamGatePlugin": OckhamGatePlugin,
    "CompressorPlugin": CompressorPlugin,
    "EQPlugin": EQPlugin,
    "CurriculumEQPlugin": EQPlugin,
    "LimiterPlugin": LimiterPlugin,
    "SaturationPlugin": SaturationPlugin,
    "DelayPlugin": DelayPlugin,
    "ReverbPlugin": ReverbPlugin,
    "KLWatchdogPlugin": KLWatchdogPlugin,
    "LearnedGainPlugin": LearnedGainPlugin,
    "LoggerPlugin": LoggerPlugin,
    "RandomSkipPlugin": RandomSkipPlugin,
    "SequenceGatePlugin": SequenceGatePlugin,
}

__all__ = [
    "PLUGINS",
    "CompressorPlugin",
    "CurriculumEQPlugin",
    "DelayPlugin",
    "EQPlugin",
    "KLWatchdogPlugin",
    "LearnedGainPlugin",
    "LearningPlugin",
    "LimiterPlugin",
    "LoggerPlugin",
    "OccamContext",
    "OccamGatePlugin",
    "OccamPlugin",
    "OckhamGatePlugin",
    "Param",
    "ParameterError",
    "PluginHost",
    "RandomSkipPlugin",
    "ReverbPlugin",
    "SaturationPlugin",
    "SequenceGatePlugin",
    "TrainingState",
]
