"""Turning a sentence round between the one who says it and the one who answers: my → your, I am → you are, you are → I am."""

from __future__ import annotations

import re

from .verbs import BASES, word_set

# Said -> answered, for the words that do not depend on what is beside them.
TURNED = {
    "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "your": "my", "yours": "mine", "yourself": "myself",
    "we": "you", "us": "you", "our": "your", "ours": "yours", "ourselves": "yourselves", "yourselves": "ourselves",
}  # fmt: skip
AFTER_I = {"am": "are", "was": "were", "wasn't": "weren't", "'m": "'re"}
AFTER_YOU = {said: turned for turned, said in AFTER_I.items()}
CLITICS = ("m", "re", "ve", "d", "ll")
AUXILIARIES = word_set("am are was were do did have had can could will would shall should may might must")
# What stands right before a "you" that is a subject.
BEFORE_SUBJECT = AUXILIARIES | word_set(
    """that if because when where what who whom which how why while since and but or so than whether as don't didn't aren't"""
)
BEFORE_MINE = word_set("is are was were am be of not than like and")
AFTER_SUBJECT = (
    AUXILIARIES | BASES | {"always", "never", "also", "often", "still", "really", "once", "aren't", "weren't", "don't"}
)
ADVERB = r"(?:always|never|also|often|still|really|once|now)"
NUMBERED = re.compile(r"(?:World War|(?:King|Queen|Pope|Emperor|Tsar)\s\w+|Elizabeth|Napoleon|Part|Type|Vitamin)\s$")
WORD = re.compile(r"[^\W\d_]+")
# A pronoun with the form of "to be" beside it, before or after, and its clitic.
PRONOUN = re.compile(
    rf"""(?<![\w'’-])
    (?: (?P<before>am|are|was|were|aren't|weren't|wasn't)(?P<gap>\s+)(?P<after_be>I|you)(?![\w'’-])
      | (?P<pronoun>I|you|we)(?P<clitic>['’](?:{"|".join(CLITICS)}))(?![\w'’-])
      | (?P<subject>I|you)(?P<middle>(?:\s+{ADVERB})?\s+)(?P<verb>am|are|was|were|wasn't|weren't)(?![\w'’-])
      | (?P<alone>I|you|we|{"|".join(TURNED)})(?![\w'’]|-\w)
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def shift(text: str) -> str:
    """`text` with first and second person exchanged and the verb beside them agreeing; capitals stay where they were.

    shift("My dog likes me.") == "Your dog likes you."; text in the third person comes back as it is. Linear in len(text).
    """
    return PRONOUN.sub(_turned, text)


def sentence(text: str) -> str:
    """`text` as one sentence: a capital at the start, one full stop at the end."""
    body = text.strip().rstrip(".!,;: ")
    return body[:1].upper() + body[1:] + "."


def _turned(match: re.Match[str]) -> str:
    word = match.group()
    if match["before"]:
        is_i = match["after_be"].lower() == "i"
        verb = _other(match["before"], AFTER_I if is_i else AFTER_YOU)
        return _cased(verb, match["before"]) + match["gap"] + ("you" if is_i else "I")
    if match["pronoun"]:
        return _pronoun(match, match["pronoun"], True) + _other(
            match["clitic"], AFTER_I if match["pronoun"] in "iI" else _clitics(match)
        )
    if match["subject"]:
        if _is_numeral(match, match["subject"]):
            return word
        verb = _other(match["verb"], AFTER_I if match["subject"].lower() == "i" else AFTER_YOU)
        return _pronoun(match, match["subject"], True) + match["middle"] + verb
    return _alone(match, word)


def _alone(match: re.Match[str], word: str) -> str:
    low = word.lower()
    if low == "i":
        return word if _is_numeral(match, word) else _pronoun(match, word, True)
    if low == "you":
        return _pronoun(match, word, _is_subject(match))
    if word == "US" or (low == "mine" and not _is_mine(match)):
        return word
    return _cased(TURNED[low], word)


def _pronoun(match: re.Match[str], word: str, is_subject: bool) -> str:
    """The other one's pronoun, with the capital that its place asks for."""
    if word.lower() == "you":
        return "I" if is_subject else _cased("me", word)
    starts = _before(match)[1] or (word.lower() == "we" and word[0].isupper())
    return "You" if starts and word[0].isupper() else "you"


def _clitics(match: re.Match[str]) -> dict[str, str]:
    return {} if match["pronoun"].lower() == "we" else AFTER_YOU


def _other(word: str, table: dict[str, str]) -> str:
    straight = word.lower().replace("’", "'")
    return table.get(straight, word).replace("'", "’" if "’" in word else "'")


def _before(match: re.Match[str]) -> tuple[str, bool]:
    """(the word before, whether a sentence starts here). Looks back a bounded way, so that a long text stays linear."""
    back = match.string[max(0, match.start() - 40) : match.start()].rstrip()
    if not back or back[-1] in '.!?:;"“(\n':
        return "", True
    return re.split(r"[\s,]", back)[-1], False


def _after(match: re.Match[str]) -> str:
    found = WORD.search(match.string[match.end() : match.end() + 40])
    return found.group().lower() if found else ""


def _is_subject(match: re.Match[str]) -> bool:
    before, starts = _before(match)
    return starts or not before or before.lower() in BEFORE_SUBJECT or _after(match) in AFTER_SUBJECT


def _is_mine(match: re.Match[str]) -> bool:
    """Whether "mine" is the pronoun, not a hole in the ground."""
    before, starts = _before(match)
    return before.lower() in BEFORE_MINE or (starts and _after(match) in ("is", "are", "was", "were"))


def _is_numeral(match: re.Match[str], word: str) -> bool:
    """Whether "I" counts kings and wars."""
    return word == "I" and NUMBERED.search(match.string[max(0, match.start() - 40) : match.start()]) is not None


def _cased(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
