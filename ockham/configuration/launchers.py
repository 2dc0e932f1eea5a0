"""Hydra's launchers and sweepers, which are packages of their own: whether the chosen one is there."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigError, WorldError, nearest
from .files import CONFIG_DIR

GROUPS = ("hydra/launcher", "hydra/sweeper")
PACKAGES = {  # of what is known to exist and may be missing
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "ray_aws": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
    "optuna": "hydra-optuna-sweeper",
    "nevergrad": "hydra-nevergrad-sweeper",
    "ax": "hydra-ax-sweeper",
}


def check_launchers(overrides: Iterable[str]) -> None:
    """Raises WorldError for a launcher or sweeper that is not installed, ConfigError for one that nobody knows."""
    for text in overrides:
        group, _, name = text.partition("=")
        if group not in GROUPS:
            continue
        there, kind = installed(group), group.partition("/")[2]
        if name in there:
            continue
        if name in PACKAGES:
            raise WorldError(
                f"{kind} {name} is not installed: pip install {PACKAGES[name]}; there {'is' if len(there) == 1 else 'are'} "
                f"{', '.join(there)}"
            )
        raise ConfigError(f"{group} must be one of {', '.join(there)}, got {name!r}{nearest(name, [*there, *PACKAGES])}")


def installed(group: str) -> list[str]:
    """The members of one of Hydra's own groups."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return sorted(GlobalHydra.instance().config_loader().get_group_options(group))
