"""The plain PyTorch loop of docs/how-to/other-frameworks.md runs, and prints what the page says."""

import re


def test_the_page_s_loop_prints_what_the_page_says(root, capsys):
    page = (root / "docs" / "how-to" / "other-frameworks.md").read_text(encoding="utf-8")
    code, told = re.search(r"```python\n(.*?)```\n\nIt prints\n\n```\n(.*?)```", page, re.DOTALL).groups()
    names: dict = {}
    exec(compile(code, "other-frameworks.md", "exec"), names)
    loss, rate = map(float, re.findall(r"\d+\.\d+", told))
    assert names["metrics"]["task_loss"] < 0.1
    assert abs(names["metrics"]["task_loss"] - loss) < 1e-3
    assert abs(names["host"].context.update_rate - rate) < 0.02
    assert capsys.readouterr().out.startswith("loss ")
