"""TinyStories from the Hugging Face Hub or from files, in GPT-2's byte-pair encoding or one token per character."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a plain checkout need not be installed

from ockham.corpus import Recipe, main

RECIPE = Recipe(
    name="tinystories",
    about="TinyStories (Eldan and Li, 2023), from the Hugging Face Hub or from files.",
    tokenizers=("gpt2", "char"),
    hub="roneneldan/TinyStories",
    hub_val="validation",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
