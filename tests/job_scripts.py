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


# A run whose loss, rate and journal are known: an A/B experiment's stand-in. SHIFT and NOISE are filled in by `ab_stand_in`.
AB_STAND_IN = """
import hashlib, json, random, sys
from pathlib import Path

argv = sys.argv[1:]
said = dict(arg.lstrip("-").split("=", 1) for arg in argv if "=" in arg)
out, preset, seed = Path(said["out_dir"]), said.get("preset", ""), int(said.get("seed", 0))
out.mkdir(parents=True, exist_ok=True)
with open(out / "calls.jsonl", "a") as file:
    file.write(json.dumps(argv) + "\\n")
if said["out_dir"].endswith(FAILING):
    print("error: the disk is full", file=sys.stderr)
    sys.exit(1)
iters = int(said.get("max_iters", 100))
is_random = "+random" in argv[0]
rate = 0.5 if is_random or preset == "balanced" else 1.0
kind = "random" if is_random else preset
luck = random.Random(f"{out.name}").gauss(0, NOISE)  # a run's own
loss = 2.0 + 0.05 * seed + SHIFT.get(kind, 0.0) + luck  # what a seed does, it does to all
units = iters * (1 + 2 * rate)
lines = []
for i in range(iters):
    if i % 25 == 0:
        lines.append({"event": "eval", "iter": i, "train_loss": 3.0, "val_loss": loss + 1 - i / iters, "tokens": 9})
    step = {"event": "step", "iter": i, "updated": True, "units": (1 + 2 * rate) * (i + 1), "dt_ms": 2.0}
    lines.append({**step, "task_loss": loss, "reason_code": "UPDATED", "changes": [], "metrics": {"drift": 0.01}})
lines.append({"event": "eval", "iter": iters, "train_loss": 2.0, "val_loss": loss, "tokens": 9})
(out / "journal.jsonl").write_text("".join(json.dumps({"v": 1, **line}) + "\\n" for line in lines))
figures = {"val_loss": loss, "compute_units": units, "update_rate": rate, "iters": iters}
(out / "summary.json").write_text(json.dumps(figures))
"""


def ab_stand_in(folder: Path, shift: dict[str, float] | None = None, noise: float = 0.0, failing: str = "-") -> Path:
    """The script: `shift` is what a preset (or random skipping) adds to the loss; runs whose folder ends in `failing` fail."""
    path = folder / "ab_stand_in.py"
    path.write_text(
        AB_STAND_IN.replace("SHIFT", repr(shift or {})).replace("NOISE", repr(noise)).replace("FAILING", repr(failing))
    )
    return path
