"""Shapes of personal data: e-mail addresses, telephone and card numbers, keys and what else opens doors.

A shape is enough: whether a number is anybody's is not known here, and a question costs less than a secret in the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

EMAIL, PHONE, CARD, KEY, ADDRESS = (f"PERSONAL_{name}" for name in ("EMAIL", "PHONE", "CARD", "KEY", "ADDRESS"))

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_WORDS = {word: str(digit) for digit, word in enumerate(DIGITS)} | {
    "oh": "0",
    "nought": "0",
    "naught": "0",
    "nil": "0",
    "niner": "9",
}
TENS = r"ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty"
NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(DIGIT_WORDS)}|{TENS}|double|triple|treble)\b")
NUMBER_WORDS_IN_A_ROW = re.compile(rf"(?:{NUMBER_WORD.pattern}[\s,.\-/]{{0,3}}(?:(?:and|then|dash|space|hyphen|dot)\s)?){{5,}}")

# Numbers of everyday life, which are no telephone numbers however long they are.
DAY, MONTH, YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:1[0-9]|20)\d\d"
EVERYDAY = re.compile(
    rf"(?<![\d+(\-/.])(?:{YEAR}-{MONTH}-{DAY}|{DAY}[./-]{MONTH}[./-](?:{YEAR}|\d\d)|{MONTH}[./-]{DAY}[./-](?:{YEAR}|\d\d)"
    rf"|{YEAR}(?:(?:\s?[-/]\s?|, ){YEAR})+|\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d{{1,3}}(?: 000)+|\d+000|\d+\.\d+"
    rf"|\d?\d:\d\d(?::\d\d)?)(?![\d/]|[-.]\d|\s\d)"
)
DIGITS_IN_A_ROW = re.compile(r"\+?\d(?:[\s().\-/_*·,:;|]{0,3}\d){5,}")
LEAST_PHONE, LEAST_SPREAD, LEAST_CARD = 7, 9, 12  # digits: of a number in one piece, all over the message, of a card

PHONE_WORD = r"(?:phone|telephone|mobile|cell|cellphone|fax|whatsapp|signal|telegram)"
PATTERNS: tuple[tuple[str, str], ...] = (
    (EMAIL, r"[\w.+-] ?@ ?[\w-]|\S ?[(\[{<]\s?at\s?[)\]}>] ?\S|[(\[{]\s?dot\s?[)\]}]"),
    (EMAIL, r"\bat\b[\w .-]{1,40}\bdot\b|\bdot (?:com|org|net|edu|gov|io|de|fr|uk|co|info|biz|me)\b"
          r"|\w _?at_? \w+\.[a-z]{2,6}\b"),
    (EMAIL, r"\be-? ?mail(?: address| account| id)?(?: of \w+)? ?(?:is|=|:|was|at)\b|\bmail(?: address)? is\b"),
    (EMAIL, r"\bat \w+ (?:com|org|net)\b"),
    (PHONE, r"\b(?:0|1-?)8\d\d-\w{2,}"),
    (PHONE, rf"\b{PHONE_WORD}(?:'s)? (?:number|no\b|num\b|nr\b)"),
    (PHONE, rf"\b(?:{PHONE_WORD}|call|ring|text|reach|dial)\b.{{0,40}}\d\D{{0,3}}\d\D{{0,3}}\d\D{{0,3}}\d"),
    (CARD, r"\b(?:cvv|cvc|card (?:number|no)|(?:credit|debit|bank) ?cards?\b.{0,40}\d{3}|(?:visa|mastercard"
          r"|amex)\b.{0,30}\d{4})"),
    (KEY, r"\b(?:password|passwd|pass word|passwort|passphrase|pass phrase|passcode|pass code|pwd|passkey)s?\b"),
    (KEY, r"\b(?:pin (?:code|number|no)|pin(?: \w+ \w+)? ?(?:is|=|:|was))\b|\bpin .{0,20}\d{3}"),
    (KEY, r"\b(?:api|access|secret|private|ssh|encryption|licen[cs]e|recovery|wallet|master|auth\w*|bearer|session|security)"
          r"[ _-]?(?:keys?|tokens?|codes?|phrase|secret|pin|number|answer|question)\b"),
    (KEY, r"\bsecret ?(?:is|=|:)|\b(?:token|apikey|credentials?|log-? ?in|username|user name|otp|2fa|mfa)(?: \w+){0,3} ?(?:is"
          r"|are|=|:)"),
    (KEY, r"\b(?:seed|mnemonic|recovery) (?:phrase|words?)\b|\bsocial security\b|\bssn\b|\biban\b|\bbic\b|\bswift code\b"
          r"|\bsort code\b"),
    (KEY, r"\b(?:account|routing|passport|tax|insurance|identity|id|id card|member|customer|patient|policy|driver'?s?|license"
          r"|licence)"
          r" ?(?:number|no\.?|nr|id|licen[cs]e)\b.{0,40}\d"),
    (KEY, r"\b(?:door|gate|alarm|safe|lock|entry|entrance|unlock|vault|garage|locker|wi-?fi|wlan|bike|phone|suitcase|house"
          r"|key ?pad)\W+"
          r"(?:code|combination|key|pin)\b.{0,40}\d|\bcombination\b.{0,40}\d|\bcode (?:to|for|of) .{0,40}\d\D?\d\D?\d"),
    (KEY, r"\b(?:number|no\.?|nr\.?|id|code)(?: of [\w ]{1,30})? ?(?:is|=|:|was) ?#?[a-z]{0,3} ?\d[\d -]{3,}\d"
          r"|\bcard\b.{0,30}(?:expir|valid)"),
    (KEY, r"\b\d{3}[- .]\d{2}[- .]\d{4}\b|\b[a-z]{2}\d{2}(?: ?[a-z0-9]{4}){3,7}(?: ?[a-z0-9]{1,4})?\b"),
    (KEY, r"\b(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|xox[abprs]|akia|asia|aiza|ya29|glpat|hf|npm|eyj)[-_]?[\w-]*\d[\w-]{3,}"),
    (KEY, r"(?:\b|0x)(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{14,}\b|(?:\b[0-9a-f]{2}[\s:.-]){5,}[0-9a-f]{2}\b|-----begin"),
    (KEY, r"(?<!\S)(?=\S*\d)(?=\S*[a-z])[a-z0-9+/=_\-.~]{14,}(?!\S)|\S{32,}|[a-z0-9+/]{10,}={1,2}(?!\S)"),
    (KEY, r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9a-f]{1,4}:){3,}[0-9a-f]{0,4}"),
    (ADDRESS, r"\b(?:home|my|his|her|postal|street|mailing|private|billing|delivery)(?: \w+)? address(?: \w+)? ?(?:is|=|:"
          r"|was)"),
    (ADDRESS, r"\b(?:zip|postal|post)[ -]?codes? ?(?:is|=|:|was|of)"),
    (ADDRESS, r"\blives? (?:at|in|on) (?:no\.? |number )?\d+[a-z]? (?:\w+ ){1,3}?(?:street|st|road|rd|avenue|ave|lane|drive"
          r"|way|court)\b"),
)  # fmt: skip
COMPILED = tuple((code, re.compile(pattern)) for code, pattern in PATTERNS)


def personal_codes(folded: str, readings: Iterable[str] = ()) -> set[str]:
    """The codes of the personal data that a folded text, or another reading of it, has the shape of."""
    codes = {code for code, pattern in COMPILED for text in (folded, *readings) if pattern.search(text)}
    if NUMBER_WORDS_IN_A_ROW.search(folded):
        codes.add(PHONE)
    as_digits = re.sub(rf"\b(?:{'|'.join(DIGIT_WORDS)})\b", lambda word: DIGIT_WORDS[word[0]], folded)
    return codes | _number_codes(EVERYDAY.sub(" # ", as_digits))


def _number_codes(text: str) -> set[str]:
    codes = set()
    for match in DIGITS_IN_A_ROW.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if len(digits) >= LEAST_CARD and has_card_number(digits):
            codes.add(CARD)
        elif len(digits) >= LEAST_PHONE:
            codes.add(PHONE)
    if sum(c.isdigit() for c in text) >= LEAST_SPREAD:
        codes.add(PHONE)
    return codes


def has_card_number(digits: str) -> bool:
    """Whether some 13 to 19 neighbouring digits pass Luhn's check. Source: ISO/IEC 7812-1, annex B."""
    return any(luhn(digits[start : start + size]) for size in range(13, 20) for start in range(min(len(digits) - size + 1, 64)))


def luhn(digits: str) -> bool:
    """Luhn's sum: from the right every second digit doubled, digits of the products added; a multiple of 10."""
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    return sum(d // 10 + d % 10 for d in doubled) % 10 == 0
