"""OpenWebText in GPT-2's byte-pair encoding, streamed from the Hugging Face Hub: about 9 billion tokens, 17 GB."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a plain checkout need not be installed

from ockham.corpus import Recipe, main

RECIPE = Recipe(
    name="openwebtext",
    about="OpenWebText in GPT-2's byte-pair encoding, streamed from the Hugging Face Hub.",
    tokenizers=("gpt2",),
    val_fraction=0.0005,
    hub="Skylion007/openwebtext",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
