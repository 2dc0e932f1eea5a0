"""docs/how-to/extend-the-chat.md: its settings and its Python run as they stand there, and print what the page says."""

import re

import pytest
import yaml

from ockham.errors import ConfigError
from ockham.online import weighting
from ockham.online.detector import FactDetector
from ockham.online.knowledge import Knowledge
from ockham.online.settings import load_settings


def test_patterns_of_ones_own_stand_before_the_built_in_ones_which_stay(tmp_path):
    mine = tmp_path / "mine.yaml"
    votes = {"name": "votes", "pattern": r"(?P<subject>\w+) votes for (?P<value>\w+)", "relation": "votes_for", "exclusive": True}
    mine.write_text(yaml.safe_dump({"fact_detection": {"more_patterns": [votes]}}), encoding="utf-8")
    detection = load_settings(file=mine).fact_detection
    detector = FactDetector(detection)
    assert detector.detect("Ada votes for Blue.")[1].pattern == "votes"
    assert detector.detect("Tom is my friend.")[1].pattern == "is_relation"
    assert "votes for" in Knowledge(load_settings(file=mine)).memory.functional
    mine.write_text(yaml.safe_dump({"fact_detection": {"more_patterns": [votes | {"name": "owns"}]}}), encoding="utf-8")
    with pytest.raises(ConfigError, match="two patterns are called 'owns'"):
        load_settings(file=mine)


def test_the_page_runs_and_prints_what_it_says(root, tmp_path, monkeypatch, capsys):
    page = (root / "docs" / "how-to" / "extend-the-chat.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    module, *blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(settings, encoding="utf-8")
    (tmp_path / "my_chat.py").write_text(module, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(weighting, "_registered", {})
    names: dict = {}
    for block in blocks:
        exec(compile(block, "extend-the-chat.md", "exec"), names)
    assert capsys.readouterr().out == "".join(re.findall(r"It prints\n\n```\n(.*?)```", page, re.DOTALL))
