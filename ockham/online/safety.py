"""What may be learned of a message: the user's own words only, and of them what is no personal data and no instruction.

`learnable` takes the rest out, `risks` says why a statement has to wait for /confirm. Both look at shapes, in English, and rather
ask once too often. They are no proof that nothing harmful is learned: the session has its caps, and every fact can be forgotten.
"""

from __future__ import annotations

from typing import Any

from .config import SafetySettings
from .config_checks import compiled
from .folding import cleaned, folded, has_controls, is_disguised, is_foreign, mixes_scripts, views
from .instructions import is_instruction
from .personal_data import personal_codes
from .quotations import is_forged, is_somebody_elses, own_lines, without_quotations

INSTRUCTION = "INSTRUCTION"  # tells the model what to do or to be
MARKUP = "MARKUP"  # mark-up, links, control characters, or signs of a chat template
MIXED_SCRIPT = "MIXED_SCRIPT"  # a word of two alphabets
OTHER_SCRIPT = "OTHER_SCRIPT"  # mostly not in Latin letters: nothing here can judge it
DISGUISED = "DISGUISED"  # letters apart, signs inside words, hidden characters
TOO_LONG = "TOO_LONG"  # longer than a statement may be
MOST_JUDGED = (
    4  # texts of so many times max_fact_chars are not looked at further: patterns take a time that grows faster than the text
)


class Safety:
    """The two filters before the fact detector and behind it."""

    def __init__(self, settings: SafetySettings) -> None:
        """Raises ConfigError for a pattern of the settings that is no regular expression."""
        self.settings = settings
        self._most = MOST_JUDGED * settings.max_fact_chars
        self._personal = {
            f"PERSONAL_{name.upper()}": compiled(pattern, f"safety.personal_patterns ({name})")
            for name, pattern in settings.personal_patterns.items()
        }
        self._instructions = tuple(
            compiled(pattern, f"safety.instruction_patterns[{index}]")
            for index, pattern in enumerate(settings.instruction_patterns)
        )

    def learnable(self, text: str) -> str:
        """The user's own words in a message, '' where there are none. What the model said is not among them: it is never given.

        Taken out are code, pasted lines and sentences with a quotation. Nothing is left of a message that reports what others
        say, holds links, mark-up, control characters or signs of a chat template, or is of more than two lines or
        `max_fact_chars` characters.
        """
        if len(text) > self.settings.max_message_chars:
            return ""
        own = cleaned(text)
        if self.settings.ignore_quotes:
            own = own_lines(own)
            if len(own) > self._most or has_controls(text) or is_somebody_elses(own):
                return ""
            own = without_quotations(own)
        own = own.strip()
        return own if len(own) <= self.settings.max_fact_chars else ""

    def is_own(self, text: str) -> bool:
        """Whether all of the message may be learned as it is: the user's own words, nothing taken out, nothing risky."""
        own = self.learnable(text)
        return own != "" and own == cleaned(text).strip() and not self.risks(text)

    def risks(self, text: str, info: Any = None) -> tuple[str, ...]:
        """Why the statement must not be learned unasked, as codes in alphabetical order; () where it may be.

        `info`: the detector's FactInfo; what it found is judged as well.
        """
        if len(text) > self._most:
            return (TOO_LONG,)
        found = "" if info is None else info.text
        return tuple(sorted(self._codes(text) | (self._codes(found) if found != text else set())))

    def _codes(self, text: str) -> set[str]:
        codes, plain, readings = set[str](), folded(text), views(text)
        if self.settings.confirm_personal:
            codes |= personal_codes(plain, readings)
            codes |= {code for code, pattern in self._personal.items() if pattern.search(plain) or pattern.search(text)}
        if self.settings.confirm_instructions and is_instruction(readings, self._instructions):
            codes.add(INSTRUCTION)
        if is_forged(cleaned(text)):
            codes.add(MARKUP)
        if mixes_scripts(text):
            codes.add(MIXED_SCRIPT)
        if is_foreign(text):
            codes.add(OTHER_SCRIPT)
        if is_disguised(text) or has_controls(text):
            codes.add(DISGUISED)
        return codes
