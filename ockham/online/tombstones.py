"""What is left of a forgotten fact: enough for one who knows it to check that it was forgotten, nothing for anyone else."""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from dataclasses import dataclass

SALT_BYTES = 16
# Facts are easy to guess ("X is my friend"), so each guess is made to cost about a quarter of a second and 32 MiB.
# Source: OWASP password storage cheat sheet, scrypt: N = 2^15, r = 8, p = 3.
SCRYPT = {"n": 2**15, "r": 8, "p": 3, "maxmem": 2**26, "dklen": 32}


@dataclass(frozen=True)
class Tombstone:
    """A forgotten fact: its id, the turn and the time (seconds since 1970, UTC) of the forgetting, salt, stretched digest."""

    id: int
    turn: int
    time: float
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, fact_id: int, text: str, turn: int, time: float) -> Tombstone:
        """For the fact that says `text`; its salt is new."""
        salt = os.urandom(SALT_BYTES)
        return cls(fact_id, turn, time, salt, _digest(text, salt))

    def is_of(self, text: str) -> bool:
        """Whether this fact was forgotten here; case, spaces, forms of letters and the end's punctuation do not count."""
        return hmac.compare_digest(_digest(text, self.salt), self.digest)


def fold(text: str) -> str:
    """The text as it is compared: NFKC, without case, single spaces, no punctuation at its end."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!?;,… ")


def _digest(text: str, salt: bytes) -> bytes:
    """scrypt of the SHA-256 of the folded text."""
    return hashlib.scrypt(hashlib.sha256(fold(text).encode()).digest(), salt=salt, **SCRYPT)
