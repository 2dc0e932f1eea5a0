"""Optimizers, parameter groups and schedules, built from config."""

from .averages import build_average, evaluated_weights, kind_of
from .build import build_optimizer
from .groups import parameter_groups
from .schedule import build_schedule

__all__ = ["build_average", "build_optimizer", "build_schedule", "evaluated_weights", "kind_of", "parameter_groups"]
