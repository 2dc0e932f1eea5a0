"""Text as it looks: hidden characters taken out, look-alike letters as the ones they stand for, disguised words as they are read.

Only for judging what was said; `cleaned` alone is also what may be learned.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

LINE_BREAKS = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Characters without a shape that are not of category Cf: fillers and selectors of shape.
BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Characters that terminals act on, and marks that turn the reading direction of what follows.
CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")
APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼʹ′´`ʻ", "'"))
COLONS = str.maketrans(dict.fromkeys("∶꞉ːˑ׃", ":"))
# Letters of other scripts that look like Latin ones, and small capitals: the common part of Unicode's confusables.txt.
LOOK_ALIKE = dict(
    [
        *zip("авсԁеһніјкморԛѕтухԝгп", "abcdehhijkmopqstyxwrn", strict=True),  # Cyrillic
        *zip("αβεηικνορτυχγωσς", "abenikvoptuxywos", strict=True),  # Greek
        *zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɡɑıł", "abcdefghijklmnoprstuvwyzgail", strict=True),
    ]
)
LEET = [str.maketrans("0134578@$!|+", f"o{one}eastbasi{one}t") for one in "il"]  # 1 is read as i and as l
LEET_WORD = re.compile(r"\S*[a-z]\S*")
SPACED_LETTERS = re.compile(r"(?<![a-z0-9'])(?:[a-z][\s.\-_*·,/]{1,3}){4,}[a-z](?![a-z0-9])")
DIGITS = range(10)
STARRED = re.compile(r"[a-z][*_~^|#]+[a-z]")


def cleaned(text: str) -> str:
    """The text in Unicode's form NFKC with one kind of line break, and without characters that nobody sees."""
    text = LINE_BREAKS.sub("\n", unicodedata.normalize("NFKC", text))
    return "".join(c for c in text if c in "\n\t" or _is_seen(c))


@cache
def _is_seen(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Cn") and character not in BLANKS and not is_selector


def folded(text: str) -> str:
    """The text as it looks, in small Latin letters without accents, digits of every script as 0 to 9, blanks as one space."""
    text = cleaned(text).translate(APOSTROPHES).translate(COLONS).casefold()
    text = "".join(map(_plain_letter, unicodedata.normalize("NFKD", text)))
    return re.sub(r"[^\S\n]+", " ", text).strip()


@cache
def _plain_letter(character: str) -> str:
    if character.isascii():
        return character
    if unicodedata.category(character) in ("Mn", "Me"):
        return ""
    if "\U0001f1e6" <= character <= "\U0001f1ff":  # letters of flags
        return chr(ord("a") + ord(character) - 0x1F1E6)
    if (value := unicodedata.numeric(character, -1)) in DIGITS:  # 五 and 〇 are no decimals
        return str(int(value))
    return LOOK_ALIKE.get(character, character)


def views(text: str) -> tuple[str, ...]:
    """The ways a text can be read: as it looks, digits for letters, words torn or run together, letters repeated."""
    plain = folded(text)
    found = [plain, folded(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cleaned(text)))]
    found += [LEET_WORD.sub(lambda word, table=table: _unleet(word[0], table), plain) for table in LEET]  # type: ignore[misc]
    found.append(re.sub(r"(?<=[a-z])[-_.*·~^|]+(?=[a-z])", "", plain))
    found.append(re.sub(r"([a-z])\1{2,}", r"\1", plain))
    return tuple(dict.fromkeys(found))


def _unleet(word: str, table: dict[int, int]) -> str:
    core = word.rstrip("!?.,;:)")
    return core.translate(table) + word[len(core) :]


def has_controls(text: str) -> bool:
    """Whether a terminal would not show the text as it is stored."""
    return CONTROLS.search(text) is not None


def is_disguised(text: str) -> bool:
    """Whether letters stand apart (i g n o r e) or have signs between them (ign*re)."""
    plain = folded(text)
    return SPACED_LETTERS.search(plain) is not None or STARRED.search(plain) is not None


def mixes_scripts(text: str) -> bool:
    """Whether a word has letters of two alphabets, or is of look-alikes only in a text that has Latin words."""
    words = re.findall(r"[^\W\d_]+", cleaned(text))
    scripts = [{_script(letter) for letter in word} for word in words]
    if any(len(found) > 1 for found in scripts):
        return True
    has_latin = any(found == {"LATIN"} for found in scripts)
    return has_latin and any(
        "LATIN" not in found and all(letter in LOOK_ALIKE for letter in word.casefold())
        for word, found in zip(words, scripts, strict=True)
    )


def is_foreign(text: str) -> bool:
    """Whether most of the letters are of another alphabet than the Latin one."""
    letters = [letter for letter in cleaned(text) if letter.isalpha()]
    return 2 * sum(_script(letter) != "LATIN" for letter in letters) > len(letters)


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN")
    if name.startswith(("LATIN LETTER SMALL CAPITAL", "LATIN SMALL LETTER ALPHA", "LATIN SMALL LETTER SCRIPT")):
        return "LATIN LOOK-ALIKE"
    script = name.split()[0]
    return "LATIN" if script in ("FEMININE", "MASCULINE", "MODIFIER") else "JAPANESE" if script in CJK else script


CJK = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")  # Japanese writes a word in several of them
