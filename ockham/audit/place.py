"""Where a run's audit lies in its folder, and which names it may have there.

Nothing here imports torch, so that a name that cannot be is told before anything is opened.
"""

from __future__ import annotations

from pathlib import Path, PurePath

from ..configuration.files import read_yaml
from ..errors import ConfigError

DEFAULT = "audit.json"
TAKEN = ("summary.json", "job.json", "sweep.json")  # what a run or a sweep writes itself
FOLDERS = ("memory", "tensorboard", "wandb")


def check_export_json(name: str | None, where: str) -> None:
    """Raises ConfigError for an optimizer.export_json that is no JSON file of its own inside out_dir; null and '' are none."""
    if not name:
        return
    path = PurePath(name)
    first, last = "".join(path.parts[:1]).lower(), path.name.lower()
    is_inside = not path.is_absolute() and ".." not in path.parts
    is_free = first not in FOLDERS and (len(path.parts) > 1 or last not in TAKEN)
    if not (is_inside and is_free and last.endswith(".json")):
        raise ConfigError(
            f"optimizer.export_json must be the name of a .json file inside out_dir, other than {', '.join(TAKEN)} and not in "
            f"{', '.join(FOLDERS)}, got {name!r} ({where}); {DEFAULT} is the default, null writes none"
        )


def json_of(run: Path) -> Path:
    """Where a run's audit.json should be, by its own config where that can be read."""
    try:
        name = read_yaml(run / "config.yaml")["optimizer"]["export_json"]
    except (OSError, ConfigError, KeyError, TypeError):
        name = None
    return run / (name if isinstance(name, str) else DEFAULT)


def own_json(run: Path) -> Path | None:
    """The same, where it is a file that the run may have written: what replaces the run may take it away."""
    path = json_of(run)
    try:
        check_export_json(str(path.relative_to(run)), str(run))
    except (ConfigError, ValueError):
        return None
    return path
