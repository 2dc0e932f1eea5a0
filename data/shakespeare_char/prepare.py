"""Tiny Shakespeare, one token per character: 1,003,854 train and 111,540 val."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a plain checkout need not be installed

from ockham.corpus import Recipe, main

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
RECIPE = Recipe(
    name="shakespeare_char",
    about="Tiny Shakespeare, one token per character.",
    url=URL,
    sha256=SHA256,
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
