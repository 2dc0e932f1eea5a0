"""Optimizers, parameter groups and schedules, built from config."""

from .build import build_optimizer
from .groups import parameter_groups
from .schedule import build_schedule

__all__ = ["build_optimizer", "build_schedule", "parameter_groups"]
