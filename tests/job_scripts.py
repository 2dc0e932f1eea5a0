"""Small programs that stand in for training where processes are tested, not what they compute."""

from __future__ import annotations

import time
from pathlib import Path

# Does what `dataset` says: kill, fail, wait (until it is told to stop, then it "saves"), late (out of
# time until it is resumed), diverge (rolled back), else it writes a summary.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

said = dict(arg.removeprefix("--").split("=", 1) for arg in sys.argv[1:] if "=" in arg)
out, what = Path(said["out_dir"].strip("'")), said.get("dataset", "").strip("'")
out.mkdir(parents=True, exist_ok=True)
(out / "argv.json").write_text(json.dumps(sys.argv[1:]))

def save(number, frame):
    (out / "last.pt").touch()
    sys.exit(128 + number)

if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "fail":
    print("error: no corpus here", file=sys.stderr)
    sys.exit(1)
if what in ("wait", "deaf"):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, save if what == "wait" else signal.SIG_IGN)
    (out / "waits").touch()
    time.sleep(60)
print("trained", out)
figures = {"val_loss": 1.5, "best_val_loss": 1.25, "updates": 5, "compute_units": 15.0, "pid": os.getpid()}
if what == "diverge":
    figures["rolled_back"] = True
if what == "late" and said.get("init_from") != "resume":
    figures |= {"val_loss": None, "stopped_by": "max_hours"}
    for name in ("last.pt", "config.yaml"):
        (out / name).touch()
figures["iters"] = int(said.get("max_iters", 600_000))
(out / "summary.json").write_text(json.dumps(figures))
"""


def stand_in(folder: Path) -> Path:
    """The script, in a file of this folder."""
    path = folder / "stand_in.py"
    path.write_text(STAND_IN)
    return path


def wait_for(*paths: Path, seconds: float = 20.0) -> None:
    """Until all of them exist."""
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"still missing: {[str(path) for path in paths if not path.exists()]}"
        time.sleep(0.02)
