"""`ockham audit`: show how a run was started, and say what has changed since; a sweep's folder leads to those of its jobs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import WorldError


def add_audit(verbs: Any) -> None:
    """The verb `audit` and its flags."""
    what = verbs.add_parser("audit", help="how a run was started, and what has changed since").add_subparsers(
        required=True, metavar="WHAT"
    )
    show = what.add_parser("show", help="the newest section of the run's audit.md")
    show.set_defaults(do=audit_show, parser=show)
    check = what.add_parser("verify", help="same, CHANGED or gone: config, data, code, versions, device")
    check.add_argument("--strict", action="store_true", help="exit code 1 for another version or device, too")
    check.set_defaults(do=audit_verify, parser=check)
    for parser in (show, check):
        parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder, or the JSON file of its audit")


def audit_show(options: argparse.Namespace) -> int:
    """Print the newest section. Raises WorldError where there is none."""
    from .record import read_records
    from .shown import as_section, last_section

    refuse_sweep(options.run)
    if options.run.is_file() and options.run.name != "audit.md":
        print(as_section(read_records(options.run)[-1]), end="")
        return 0
    path = options.run if options.run.is_file() else options.run / "audit.md"
    if not path.is_file():
        raise WorldError(f"{path} is missing: {options.run} is no run, or ran with optimizer.log_config=false")
    print(last_section(path.read_text(encoding="utf-8")), end="")
    return 0


def audit_verify(options: argparse.Namespace) -> int:
    """Print every check; 1 where something differs that decides the run's numbers, with --strict where anything does."""
    from .verify import newest_record, verify

    refuse_sweep(options.run)
    checks = verify(*newest_record(options.run))
    print(*checks, sep="\n")
    return int(any(check.verdict != "same" and (check.decides or options.strict) for check in checks))


def refuse_sweep(folder: Path) -> None:
    """Raises WorldError for a sweep's folder, naming those of its jobs, which have an audit each."""
    sweep = folder / "sweep.json"
    if (folder / "audit.md").is_file() or not sweep.is_file():
        return
    try:
        jobs = [str(job["out_dir"]) for job in json.loads(sweep.read_bytes())["jobs"]]
    except (ValueError, TypeError, KeyError):
        jobs = sorted(str(path.parent) for path in folder.glob("*/audit.md"))
    raise WorldError(f"{folder} is a sweep's folder; give one of its jobs: {', '.join(jobs) or 'none has begun'}")
