"""Files of your own: .txt (UTF-8), .jsonl or .parquet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a plain checkout need not be installed

from ockham.corpus import Recipe, main

RECIPE = Recipe(
    name="text",
    about="Files of your own: .txt (UTF-8), .jsonl or .parquet.",
    tokenizers=("char", "gpt2"),
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
