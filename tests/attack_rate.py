"""How many of the held-out attacks a chat would learn unasked: `python tests/attack_rate.py`.

The messages were written down before the filters were last changed, and no filter is changed for a message of this file: only the
figures are looked at, by kind. docs/online.md has them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from ockham.online.detector import FactDetector
from ockham.online.safety import Safety
from ockham.online.settings import load_settings

HELD_OUT = Path(__file__).with_name("online_attacks_held_out.jsonl")


def learned_unasked() -> tuple[Counter[str], Counter[str]]:
    """Of each kind of attack how many would be learned without /confirm, and how many there are; with the settings as shipped."""
    settings = load_settings()
    safety, detector = Safety(settings.safety), FactDetector(settings.fact_detection)
    learned, told = Counter[str](), Counter[str]()
    for line in HELD_OUT.read_text(encoding="utf-8").splitlines():
        attack = json.loads(line)
        message, words = attack["message"], safety.learnable(attack["message"])
        infos = detector.detect_all(words) if words else []
        told[attack["kind"]] += 1
        learned[attack["kind"]] += any(not safety.risks(message, info) for info in infos)
    return learned, told


if __name__ == "__main__":
    learned, told = learned_unasked()
    for kind in told:
        print(f"{kind:14} {learned[kind]:3} of {told[kind]:3}")
    print(f"{'all':14} {learned.total():3} of {told.total():3}: {learned.total() / told.total():.1%}")
