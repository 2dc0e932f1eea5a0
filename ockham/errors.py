"""Every error a user can meet, in one tree.

OckhamError                 anything we can explain; never shown as a traceback unless --debug=True
├── UsageError              exit 2: what the command line, a config file or a preset says is wrong
│   ├── ConfigError         a key, a value or a combination of them
│   └── PresetError         a preset file, with its name and line
├── WorldError              exit 1: what the world lacks or broke
│   ├── CorpusError         a corpus that is missing, short, torn or out of vocabulary
│   ├── CheckpointError     a checkpoint that is missing, broken or of another shape
│   ├── DeviceError         a device that is not there
│   └── TrainingError       training that cannot go on (non-finite after a roll-back, disk full)
├── ShapeError              tensors that should match and do not
└── ReadOnlyError           a plugin set what it may only read
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OckhamError(Exception):
    """Base of all errors this project raises on purpose; `exit_code` is what the shell gets."""

    exit_code = 1


class UsageError(OckhamError):
    """What the user wrote is wrong; the message names the thing, what is allowed and the fix."""

    exit_code = 2


class ConfigError(UsageError):
    """A config key or value that cannot be used."""


class PresetError(UsageError):
    """A rack preset that cannot be used; the message gives file and line."""


class WorldError(OckhamError):
    """What was asked is sound, but the machine, the disk or the data cannot give it."""


class CorpusError(WorldError):
    """A corpus that is missing, short, torn or out of vocabulary."""


class CheckpointError(WorldError):
    """A checkpoint that is missing, broken, incomplete or of another shape."""


class DeviceError(WorldError):
    """A device, backend or precision that this machine does not have."""


class TrainingError(WorldError):
    """Training that cannot go on."""


class ShapeError(OckhamError):
    """Tensors that should match in number or shape and do not."""


class ReadOnlyError(OckhamError, AttributeError):
    """A field that plugins may read but not set."""


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the known name closest to `name`, or '' when none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {match[0]}?)" if match else ""
