"""docs/how-to/extend-the-chat.md: its settings and its Python run as they stand there, and print what the page says."""

import re

from ockham.online import weighting


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
