"""The code in the how-to pages runs, and their links lead somewhere."""

import re

import pytest

PAGES = ["docs/how-to/use-as-a-library.md"]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run_in_order(root, page, capsys):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (root / page).read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block.replace("range(100)", "range(3)"), page, "exec"), names)
    assert names["host"].context.updated in (True, False)
    assert capsys.readouterr().out


def test_relative_links_lead_somewhere(root):
    broken = []
    for page in [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("data/*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http") and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(root)}: {target}")
    assert broken == []
