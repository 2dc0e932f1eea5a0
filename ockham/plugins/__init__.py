"""The rack: host, base class and the plugins, which know neither one another nor the learner."""

from ..context import OccamContext
from .base import OccamPlugin, Param, ParameterError
from .compressor import CompressorPlugin
from .eq import EQPlugin
from .gate import OckhamGatePlugin
from .host import PluginHost
from .limiter import LimiterPlugin
from .logger import LoggerPlugin
from .saturation import SaturationPlugin

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
    "LoggerPlugin": LoggerPlugin,
}

__all__ = [
    "PLUGINS",
    "CompressorPlugin",
    "CurriculumEQPlugin",
    "EQPlugin",
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
    "SaturationPlugin",
    "TrainingState",
]
