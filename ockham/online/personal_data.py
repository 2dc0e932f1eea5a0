"""Shapes of personal data: e-mail addresses, telephone and card numbers, keys and what else opens doors.

A shape is enough: whether a number is anybody's is not known here, and a question costs less than a secret in the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .number_words import NUMBER_WORD, in_figures, run_together

EMAIL, PHONE, CARD, KEY, ADDRESS = (f"PERSONAL_{name}" for name in ("EMAIL", "PHONE", "CARD", "KEY", "ADDRESS"))

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
LEAST_NAMED = 6  # all over a message that says they are a number

# What opens doors and accounts, and what they are opened with.
OPENER = (
    r"(?:codes?|combination|pattern|pin|puk|key|safe|alarm|door|gate|lock|padlock|key ?pad|vault|locker|strongbox|phone|screen"
    r"|sim|account|bank|login|wi-?fi|wlan|router|hotspot|network|server|terminal)"
)
OWNER = r"(?:my|our|his|her|their|[\w-]+'s)"
IS = r"(?:is|are|was|were|=|:|opens with|unlocks with|reads|(?:is |are )?set to)"
WHERE, SINCE = (
    r"(?: (?:of|to|for|in|at|on) [\w ]{1,30})?",
    r"(?:at|in|on|from|for|since|until|till|by|over|under|about|up|down)\b",
)
PAPER = (
    r"(?:passport|licen[cs]e|driver's|visa|id(?: card)?|identity|plate|insurance|policy|ticket|badge|account|patient|tax"
    r"|member\w*)"
)
NUMBERED = (
    r"(?:cards?|visa|mastercard|amex|iban|account|numbers?|phone|mobile|landline|pin|codes?|combination|passport|ssn|key|token)"
)
MEASURED = (
    r"(?! ?(?:%|percent|per\b|years?|months?|days?|hours?|minutes?|[cmk]?m\b|k?g\b|[gmt]b\b|[km]?hz\b"
    r"|giga\w*|mega\w*|grams?|lit\w+|degrees|rooms|seats"
    r"|books|kilo\w*|met(?:re|er)s?|miles?|feet|foot"
    r"|inch\w*|pounds?|euros?|dollars?|crowns?|coins?|people|times|steps|pages|old\b))"
)
MIXED = (  # letters and figures: hunter2
    r"(?=[^\s.]*\d)(?=[^\s.]*[a-z])(?!\d+(?:st|nd|rd|th|s|am|pm|cm|mm|km|m|kg|g|k|ft|in|x|p|hz|gb|mb|tb|w|v|mph)\b)"
    r"[\w.@#$%&*+/=~^!?-]{4,}"
)
SIGNED = r"\w+(?:[-_@#$%&*+/=~^]+\w+)*[_@#$%&*+/=~^]+\w*|(?:sk|pk|rk|gh[opsu]|glpat|xox[abprs]|hf|npm)[-_]\w{2,}"
SERVICE = (
    r"(?:git ?hub|git ?lab|google|gmail|apple|icloud|microsoft|amazon|aws|azure|openai|netflix|spotify|steam|paypal|facebook"
    r"|insta(?:gram)?|twitter|discord|slack|skype|dropbox|bank|wallet|admin|account)"
)
MAILBOX = r"(?:gmail|googlemail|hotmail|outlook|yahoo|gmx|icloud|proton ?mail|aol|e-? ?mail|web ?mail)"

STREET = r"(?:street|str|road|rd|avenue|ave|lane|drive|way|court|square|boulevard|terrace)\b"
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
    (KEY, r"\b(?:seed|mnemonic) ?(?:is|=|:)(?: \w+){4}"
          r"|\b(?:seed|mnemonic|recovery) (?:phrase|words?)\b|\bsocial security\b|\bssn\b|\biban\b|\bbic\b|\bswift code\b"
          r"|\bsort code\b"),
    (KEY, r"\b(?:account|routing|passport|tax|insurance|identity|id|id card|member|customer|patient|policy|driver'?s?|license"
          r"|licence)"
          r" ?(?:number|no\.?|nr|id|licen[cs]e)\b.{0,40}\d"),
    (KEY, r"\b(?:door|gate|alarm|safe|lock|entry|entrance|unlock|vault|garage|locker|wi-?fi|wlan|bike|phone|suitcase|house"
          r"|key ?pad)\W+"
          r"(?:code|combination|key|pin)\b.{0,40}\d|\bcombination\b.{0,40}\d|\bcode (?:to|for|of) .{0,40}\d\D?\d\D?\d"),
    (KEY, r"\b(?:number|no\.?|nr\.?|id|code)(?: of [\w ]{1,30})? ?(?:is|=|:|was) ?#?[a-z]{0,3} ?\d[\d -]{3,}\d"
          r"|\bcard\b.{0,30}(?:expir|valid)"),
    (EMAIL, rf"\b{OWNER} (?:\w+ )?{MAILBOX}(?: (?:address|account|id|name))? {IS} "),
    (KEY, rf"\b{OWNER} (?:\w+ )?(?:pass|pw|psw|pwd|pword)(?: (?:for|of|to) [\w ]{{1,20}})? {IS} |\b(?:pw|psw|pwd|pword) ?{IS}"),
    (KEY, rf"\b(?:wi-?fi|wlan|hotspot)(?: (?:of|in|at|for) [\w ]{{1,30}})? (?:key |code |name )?{IS} "
          r"(?!(?:in|on|at|of|from|for|by|here|there|an?|the|not|very|too|really|so)\b)\S"),
    (KEY, rf"\b(?:{OPENER}|{PAPER}|{SERVICE}|pass|secret|number){WHERE} {IS} (?:{MIXED}|{SIGNED})"),
    (KEY, rf"\b{PAPER}(?: (?:number|no|nr|id))? {IS} (?:(?!{SINCE})\w{{1,4}} )?(?=\S*\d)\w{{3,}}{MEASURED}"),
    (KEY, rf"\b{OPENER}{WHERE} {IS} (?:(?!{SINCE})[a-z]+ ){{0,2}}\d{{3,}}\b{MEASURED}"),
    (KEY, r"\b(?:unlock\w*|swipe|lock) pattern (?:is|=|:)|\b(?:magic|secret) (?:number|word|phrase|code)s? ?(?:is|are|=|:)"),
    (CARD, rf"\b(?:cards?|visa|mastercard|amex)(?: [a-z]+){{0,4}} \d{{4,}}\b{MEASURED}"),
    (KEY, rf"\b{NUMBERED}(?: \w+){{0,3}} (?:begins?|starts?|ends?|goes on|continues|carries on|finishes|is followed)"
          r" (?:with|in|on|by|as) \D{0,12}\d\d"),
    (KEY, r"\b(?:pin|codes?|combination)(?: \w+){0,2} (?:has|contains|includes|holds)\b\D{0,12}\d\d"),
    (KEY, rf"\b(?:half|part|digits?|numbers?|figures?|quarter|third|rest|remainder|end|beginning|two|three|four) of "
          rf"(?:the |my |our |his |her |\w+'s )?(?:\w+ )?{NUMBERED}\b.{{0,20}}\d"),
    (ADDRESS, rf"\b\d+[a-z]? (?:[\w.-]+ ){{1,3}}?{STREET}|\b[\w.-]+ {STREET} (?:number |no\.? )?\d+"
              r"|\b\d+[a-z]? (?:rue|via|calle)\b"),
    (KEY, r"\b(?:ghp|gho|ghs|ghu|sk|pk|rk|akia|aiza|glpat|xox[abprs]|hf|npm) (?=\w*\d)(?=\w*[a-z])\w{8,}"),
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
NAMED = re.compile(rf"\b{OWNER} (?:\w+ )?(?:numbers?|digits|{PHONE_WORD}|landline) ")
COMPILED = tuple((code, re.compile(pattern)) for code, pattern in PATTERNS)


def personal_codes(folded: str, readings: Iterable[str] = ()) -> set[str]:
    """The codes of the personal data that a folded text, or another reading of it, has the shape of."""
    figures = in_figures(folded)
    unusual = EVERYDAY.sub(" # ", figures)
    texts = dict.fromkeys((folded, *readings, figures, run_together(unusual)))
    codes = {code for code, pattern in COMPILED for text in texts if pattern.search(text)}
    if NUMBER_WORDS_IN_A_ROW.search(folded):
        codes.add(PHONE)
    return codes | _number_codes(unusual)


def _number_codes(text: str) -> set[str]:
    codes = set()
    for match in DIGITS_IN_A_ROW.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if len(digits) >= LEAST_CARD and has_card_number(digits):
            codes.add(CARD)
        elif len(digits) >= LEAST_PHONE:
            codes.add(PHONE)
    if sum(c.isdigit() for c in text) >= (LEAST_NAMED if NAMED.search(text) else LEAST_SPREAD):
        codes.add(PHONE)
    return codes


def has_card_number(digits: str) -> bool:
    """Whether some 13 to 19 neighbouring digits pass Luhn's check. Source: ISO/IEC 7812-1, annex B."""
    return any(luhn(digits[start : start + size]) for size in range(13, 20) for start in range(min(len(digits) - size + 1, 64)))


def luhn(digits: str) -> bool:
    """Luhn's sum: from the right every second digit doubled, digits of the products added; a multiple of 10."""
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    return sum(d // 10 + d % 10 for d in doubled) % 10 == 0
