"""A class or function of the user's own, named in a config as `module:name`."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConfigError, nearest


def load(spec: str, key: str) -> Any:
    """The object that `spec`, module:name, names; `key` is the config key it stands under.

    The module is imported, so whoever writes the config runs code. Raises ConfigError with the fix where the spec is not of that
    form, the module is not found or fails on import, or has nothing of that name.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{key}: {spec!r} is not of the form module:name, such as my_file:MyClass")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a module of the user's raises, it is this key that has to be put right
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]
        fix = "put its folder on PYTHONPATH, or install it" if is_missing else f"it fails with {type(error).__name__}: {error}"
        raise ConfigError(f"{key}: module {module_name!r} cannot be imported; {fix}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{key}: module {module_name!r} has no {name!r}{nearest(name, vars(module))}")
    return getattr(module, name)
