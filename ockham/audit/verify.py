"""What has changed since a run was started: every fingerprint of its newest record, taken again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import RunConfig
from ..configuration.files import read_yaml
from ..configuration.layers import flattened
from ..errors import ConfigError, WorldError
from ..typed import from_mapping
from . import fingerprint
from .fingerprint import config_hash, config_values, file_hash
from .place import json_of
from .record import Record, read_records
from .shown import SHORT, fingerprint_text, number

NOTHING = "none"
SHOWN_KEYS = 8  # changed keys that are named


@dataclass(frozen=True)
class Check:
    """One thing, then and now; None = it is not there. `decides`: the run's numbers depend on it."""

    what: str
    then: str | None
    now: str | None
    decides: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        """same, CHANGED or gone."""
        if self.then == self.now:
            return "same"
        return "gone" if self.now is None else "CHANGED"

    def __str__(self) -> str:
        shown = self.then or NOTHING
        if self.verdict == "CHANGED":
            shown += f" → {self.now}{self.note}"
        return f"{self.verdict:7s}  {self.what}: {shown}"


def newest_record(run: Path) -> tuple[Record, Path]:
    """A run's newest record and its folder; `run` is that folder or the JSON file.

    Raises WorldError where there is none, ConfigError where the file holds something else.
    """
    path = run if run.is_file() else json_of(run)
    if not path.is_file():
        if not (run / "config.yaml").is_file():
            raise WorldError(f"{run} holds no run: neither config.yaml nor {path.name} is there; give the out_dir of a run")
        raise WorldError(
            f"{run} has no audit: {path.name} is missing; a run writes it at its start unless optimizer.export_json is null"
        )
    record = read_records(path)[-1]
    if run.is_dir() or (path.parent / "config.yaml").is_file():
        return record, run if run.is_dir() else path.parent
    return record, Path(record["config"]["out_dir"])


def verify(record: Record, run: Path) -> list[Check]:
    """Every check of a record, the deciding ones first."""
    return [config_check(record, run / "config.yaml"), *file_checks(record), *code_checks(record), *machine_checks(record)]


def config_check(record: Record, path: Path) -> Check:
    """config.yaml against the config's hash; keys that the file does not state, because newer code has them, are left out."""
    then = record["config_sha256"][:SHORT]
    if not path.is_file():
        return Check("config.yaml", then, None)
    try:
        stated = read_yaml(path)
        values = config_values(from_mapping(RunConfig, stated))
    except ConfigError as error:
        return Check("config.yaml", then, f"unusable: {error}")
    keys = dict(flattened(stated.items()))
    values = {key: value for key, value in values.items() if key in keys}
    return Check("config.yaml", then, config_hash(values)[:SHORT], note=differences(record["config"], values))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """' (seed 1 → 2, …)': what differs between two configs, all the way down, without what the hash leaves out."""
    old, new = dict(spread(then)), dict(spread(now))
    keys = [k for k in {**old, **new} if old.get(k, NOTHING) != new.get(k, NOTHING) and k not in fingerprint.NOT_HASHED]
    told = [f"{key} {number(old.get(key, NOTHING))} → {number(new.get(key, NOTHING))}" for key in keys[:SHOWN_KEYS]]
    return f" ({', '.join([*told, '…'] if keys[SHOWN_KEYS:] else told)})" if keys else ""


def spread(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as (key, leaf): `rack[0].params.threshold`."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from spread(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from spread(item, f"{key}[{index}]")
    else:
        yield key, value


def file_checks(record: Record) -> Iterator[Check]:
    """Data, groups, preset, recipes and weights."""
    folder = record["data"]["folder"]
    files = {f"{folder}/{name}": found for name, found in record["data"]["files"].items()} | record["inputs"]
    for path, found in files.items():
        now = file_hash(fingerprint.ROOT / path)
        yield Check(path, fingerprint_text(found) if found else None, fingerprint_text(now) if now else None)


def code_checks(record: Record) -> Iterator[Check]:
    """The sources decide; a commit, and a change that git sees, may be about something else."""
    then, now = record["code"]["git"] or {}, fingerprint.git_state() or {}
    yield Check("code", record["code"]["sha256"][:SHORT], fingerprint.code_hash()[:SHORT])
    yield Check("git commit", short(then.get("commit")), short(now.get("commit")), decides=False)
    if then and now:
        yield Check("uncommitted changes", changes(then), changes(now), decides=False)


def short(text: str | None) -> str | None:
    """The beginning of a hash."""
    return text and text[:SHORT]


def changes(git: Mapping[str, str | None]) -> str:
    """The beginning of the diff's hash, or none."""
    return short(git["diff_sha256"]) or NOTHING


def machine_checks(record: Record) -> Iterator[Check]:
    """Versions, device and threads: other ones give other rounding, not another run."""
    machine, now = record["machine"], fingerprint.versions()
    for name, version in record["versions"].items():
        yield Check(name, version, now.get(name), decides=False)
    device = torch.device(machine["device"])
    yield Check(f"device {device}", machine["name"], fingerprint.device_name(device), decides=False)
    threads = record["config"].get("threads") or torch.get_num_threads()
    yield Check("CPU threads", str(machine["threads"]), str(threads), decides=False)
