"""What a noun phrase tells about itself: its owner, and whether it means a person, a place, a time or a number."""

from __future__ import annotations

import re

from .verbs import word_set

OWNERS = {"my": "I", "our": "we", "your": "you", "his": "he", "her": "she", "their": "they", "its": "it"}
POSSESSIVES = {pronoun.lower(): word for word, pronoun in OWNERS.items()}
OBJECTS = {"i": "me", "we": "us", "you": "you", "he": "him", "she": "her", "they": "them"}
DETERMINERS = frozenset({"the", "a", "an", "this", "that", "these", "those", "some", "all", "every", "each", *OWNERS})
PERSON_NOUNS = word_set(
    """friend bestfriend buddy pal mate enemy rival brother sister sibling twin mother father mum mom mummy dad daddy parent
    son daughter child kid baby wife husband spouse partner fiance fiancé fiancée boyfriend girlfriend uncle aunt auntie
    cousin nephew niece grandmother grandfather grandma grandpa granny grandson granddaughter godmother godfather boss chief
    head ceo chair owner founder author king queen prince princess emperor empress president minister mayor captain
    colleague coworker neighbour neighbor roommate flatmate tenant landlord landlady guest host chef cook nurse coach guide
    judge pilot spy thief saint monk nun poet priest witch smith architect mechanic electrician physicist scientist student
    apprentice assistant accountant expert hero heir widow man woman boy girl person guy lady gentleman people client
    patient surgeon carpenter fisherman clerk vet maid secretary detective soldier sheriff knight wizard bishop pope athlete
    acrobat diplomat attorney barista"""
)
NOT_PERSONS = word_set(
    """computer printer river tower water paper number letter flower summer winter color colour sugar car guitar star motor
    tiger spider chapter order power river computer dinner butter silver leader-board quarter butter calendar floor door
    mirror harbour harbor hour flavour flavor father-in-law-house list waist fist tractor anniversary sister-city address
    business fitness princess-dress chest crater shower meter corner answer password soccer year weather cellar pepper
    ginger beer deer lever cover ladder drawer fever"""
)
THINGS = word_set(
    """capital colour color currency language city river name password code number address hobby subject sport food"""
)
TITLE_NOUNS = word_set("""king queen mayor president ceo emperor empress prince princess head chief captain minister leader""")
ROLE = re.compile(r"[a-z]{2,}(?:er|or|[iy]st|ian|man|woman|ress|eer|ant|smith|wright|herd|naut|monger)")
COLOURS = word_set(
    """red green blue yellow orange purple pink brown black white grey gray violet turquoise gold silver beige crimson scarlet"""
)
NUMBER = (
    r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fifteen"
    r"|twenty|thirty|forty|fifty|\w+ty-\w+)"
)
MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
TIME = re.compile(
    rf"\b(?:1\d{{3}}|20\d\d|{MONTHS}|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|noon|midnight|(?:mid)?summer|winter|spring|autumn"
    rf"|dawn|dusk|tomorrow|yesterday|today|tonight|mornings?|evenings?|afternoons?|christmas|easter|o['’]clock|{NUMBER}\s?(?:am|pm)|\d\d?:\d\d"
    r"|(?:\d+\w*|last|this|next) (?:century|year|month|week))\b",
    re.IGNORECASE,
)
TITLE = re.compile(r"(?:Dr|Mr|Mrs|Ms|Prof|St|Sir|Lady|Lord|King|Queen)\b\.?")
NAME = re.compile(
    r"(?<![\w'’-])(?:Dr|Mr|Mrs|Ms|Prof|St)\. [^\W\d_a-z][\w-]*|(?<![\w'’-])[^\W\d_a-z][\w-]*(?:['’](?!s\b)\w+)*"
)  # a word with a capital


def lowered(phrase: str) -> str:
    """`phrase` as it stands inside a sentence: a capital stays on names and I, not on determiners."""
    first, space, rest = phrase.partition(" ")
    return first.lower() + space + rest if first.lower() in DETERMINERS else phrase


def undetermined(phrase: str) -> str:
    """`phrase` without the determiner at its head: "my friend" → "friend"."""
    first, _, rest = phrase.partition(" ")
    return rest if rest and first.lower() in DETERMINERS else phrase


def without_article(phrase: str) -> str:
    """`phrase` without an article; whose it is stays: "The shop" → "shop", "my cat" → "my cat"."""
    return re.sub(r"^(?:the|an?) ", "", phrase, flags=re.IGNORECASE)


def head(phrase: str) -> str:
    """The word that says what it is, lower-cased and singular: "the owner of Tesla" → "owner", "my best friends" → "friend"."""
    words = re.split(r" (?:of|in|at|from|to|with|for|on) ", undetermined(phrase))[0].lower().split()
    word = words[-1] if words else ""
    return word[:-1] if word.endswith("s") and word[:-1] in PERSON_NOUNS else word


def names_in(phrase: str) -> list[str]:
    """The words with a capital, runs of them together, no pronouns: "the port of New Zorland" → ["New Zorland"]."""
    found: list[str] = []
    end = -1
    for match in NAME.finditer(phrase):
        if match.group().lower() in DETERMINERS or match.group() in ("I", "We", "You", "It", "He", "She", "They"):
            continue
        if found and phrase[end : match.start()] == " ":
            found[-1] += " " + match.group()
        else:
            found.append(match.group())
        end = match.end()
    return found


def owned(phrase: str) -> tuple[str, str] | None:
    """(owner, thing) of "Mira's dog", "the dog of Mira" and "my dog" (its owner is "I"); None where nobody owns it.

    The nearest owner counts: "my aunt's dog" is my aunt's.
    """
    if found := re.fullmatch(r"(.+)(?:['’]s|(?<=s)['’]) (.+)", phrase):
        return found[1], found[2]
    if found := re.fullmatch(rf"({'|'.join(OWNERS)}) (.+)", phrase, re.IGNORECASE):
        return OWNERS[found[1].lower()], found[2]
    if found := re.fullmatch(r"the (.+?) of (.+)", phrase, re.IGNORECASE):
        return found[2], found[1]
    return None


def possessive(owner: str) -> str:
    """ "Mira" → "Mira's", "I" → "my", "James" → "James's"."""
    is_plural = re.search(r"[^s]s$", owner) is not None and owner.split()[-1].islower()
    return POSSESSIVES.get(owner.lower()) or lowered(owner) + ("'" if is_plural else "'s")


def ways_to_own(phrase: str) -> list[str]:
    """`phrase` as said, then with its owner on the other side: "Mira's dog" → ["Mira's dog", "the dog of Mira"]."""
    parts = owned(phrase)
    if parts is None or parts[0].lower() in POSSESSIVES or names_in(parts[1]):  # "my sister Ann" is no "sister Ann of me"
        return [lowered(phrase)]
    owner, thing = parts
    both = [f"{possessive(owner)} {thing}", f"the {thing} of {lowered(owner)}"]
    return [lowered(phrase), *(way for way in both if way.lower() != phrase.lower())][:2]


def is_role(phrase: str) -> bool:
    """Whether the phrase says what somebody is: "a baker", "my sister", "the founder of Blim"."""
    noun = head(phrase)
    return noun not in NOT_PERSONS and (noun in PERSON_NOUNS or ROLE.fullmatch(noun) is not None)


def is_time(phrase: str) -> bool:
    """Whether the phrase names a time: a year, a month, a day, an hour."""
    return TIME.search(phrase) is not None


def counted(phrase: str) -> str:
    """The thing that is counted: "three children" → "children"; "" where nothing is."""
    found = re.fullmatch(rf"{NUMBER} ((?:\w+ ?){{1,3}})", phrase, re.IGNORECASE)
    return found[1] if found else ""
