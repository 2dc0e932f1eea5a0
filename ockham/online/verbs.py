"""English verbs as far as questions need them: lives → live, teaches → teach, wrote → write, own → owned."""

from __future__ import annotations

import re


def word_set(text: str) -> frozenset[str]:
    """The words of a text that lists them."""
    return frozenset(text.split())


BE = frozenset({"am", "is", "are", "was", "were"})
MODALS = frozenset({"can", "will"})

# base -> (past, participle)
IRREGULAR = {
    "be": ("was", "been"), "become": ("became", "become"), "begin": ("began", "begun"), "bring": ("brought", "brought"),
    "break": ("broke", "broken"), "breed": ("bred", "bred"), "build": ("built", "built"), "buy": ("bought", "bought"),
    "catch": ("caught", "caught"), "choose": ("chose", "chosen"), "come": ("came", "come"), "cost": ("cost", "cost"),
    "cut": ("cut", "cut"), "do": ("did", "done"), "draw": ("drew", "drawn"), "drink": ("drank", "drunk"),
    "drive": ("drove", "driven"), "eat": ("ate", "eaten"), "fall": ("fell", "fallen"), "feed": ("fed", "fed"),
    "fight": ("fought", "fought"), "find": ("found", "found"), "fly": ("flew", "flown"), "forget": ("forgot", "forgotten"),
    "get": ("got", "got"), "give": ("gave", "given"), "go": ("went", "gone"), "grow": ("grew", "grown"),
    "have": ("had", "had"), "hear": ("heard", "heard"), "hide": ("hid", "hidden"), "hit": ("hit", "hit"),
    "hold": ("held", "held"), "keep": ("kept", "kept"), "know": ("knew", "known"), "lead": ("led", "led"),
    "leave": ("left", "left"), "lend": ("lent", "lent"), "lose": ("lost", "lost"), "make": ("made", "made"),
    "mean": ("meant", "meant"), "meet": ("met", "met"), "pay": ("paid", "paid"), "put": ("put", "put"),
    "read": ("read", "read"), "ride": ("rode", "ridden"), "ring": ("rang", "rung"), "rise": ("rose", "risen"),
    "run": ("ran", "run"), "see": ("saw", "seen"), "sell": ("sold", "sold"), "send": ("sent", "sent"), "set": ("set", "set"),
    "shoot": ("shot", "shot"), "sing": ("sang", "sung"), "sit": ("sat", "sat"), "sleep": ("slept", "slept"),
    "speak": ("spoke", "spoken"), "spend": ("spent", "spent"), "stand": ("stood", "stood"), "steal": ("stole", "stolen"),
    "swim": ("swam", "swum"), "take": ("took", "taken"), "teach": ("taught", "taught"), "tell": ("told", "told"),
    "throw": ("threw", "thrown"), "wear": ("wore", "worn"), "win": ("won", "won"), "write": ("wrote", "written"),
}  # fmt: skip
# Regular verbs that end in e, or look as if they did not: what "-ed" and "-es" alone cannot tell.
REGULAR = word_set(
    """accept ache admire adopt adore allow answer arrive ask attend bake bathe believe belong borrow breathe call care carry
    celebrate change chase climb close coach collect compose consider contain continue control cook count create cure cycle
    dance deliver design die direct discover dislike drop edit educate employ end enjoy escape establish examine explore
    fear fix follow found graduate guard guide hate help hike hire hope host hunt import improve include increase inherit
    invent invite join judge juggle jump knit land lie like listen live locate love lower manage march marry measure milk
    miss move name need open operate organise organize own paint pass phone place plan plant play practise practice praise
    prefer prepare produce promise protect publish raise record rely rent repair require rescue retire return rule sail save
    score serve share ship shop skate ski smile smoke solve stage start stay stop store study suffer support survive taste
    tie tour trade train translate travel trust tune type use value visit wake walk want wash waste watch weigh welcome work
    worship"""
)
BASES = REGULAR | frozenset(IRREGULAR)
PAST = {past: base for base, (past, _) in IRREGULAR.items() if base not in ("be", "found")}
SAME_PAST = frozenset(base for base, (past, _) in IRREGULAR.items() if past == base)
ENDS_LIKE_PAST = frozenset(
    {"need", "feed", "breed", "bleed", "speed", "seed", "weed", "heed", "exceed", "succeed", "proceed", "shed"}
)
THIRD = {"has": "have", "does": "do", "goes": "go"}
PLURAL_SUBJECTS = frozenset({"i", "you", "we", "they"})


def analyse(verb: str, subject: str) -> tuple[str, str]:
    """(base, tense) of a verb as said of `subject`; tense is "does", "do" or "did", the auxiliary that a question takes."""
    word = verb.lower()
    if word in THIRD:
        return THIRD[word], "does"
    if word in SAME_PAST:
        return word, "do" if subject.lower() in PLURAL_SUBJECTS else "did"
    if word in PAST and word != "found":
        return PAST[word], "did"
    if word == "found":  # "Ann found a coin"; who says "I found hospitals" means the past too
        return "find", "did"
    if word.endswith("ed") and word not in ENDS_LIKE_PAST:
        return _without_ed(word), "did"
    if word.endswith("s") and not word.endswith("ss"):
        return _without_s(word), "does"
    return word, "do"


def is_verb_of(word: str, subject: str) -> bool:
    """Whether `word` is a known verb in a form that `subject` takes: plays of Nia, play of I, drove of both."""
    base, auxiliary = analyse(word, subject)
    if base not in BASES:
        return False
    return auxiliary == "did" or auxiliary == ("do" if subject.lower() in PLURAL_SUBJECTS else "does")


def third_person(base: str) -> str:
    """The form after he: own → owns, study → studies, teach → teaches, have → has."""
    known = {base_: third for third, base_ in THIRD.items()} | {"be": "is"}
    if base in known:
        return known[base]
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ies"
    return base + ("es" if re.search(r"(?:s|sh|ch|x|z|o)$", base) else "s")


def participle(base: str) -> str:
    """The form of the passive: own → owned, write → written, compose → composed."""
    if base in IRREGULAR:
        return IRREGULAR[base][1]
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ied"
    return base + ("d" if base.endswith("e") else "ed")


def past(base: str) -> str:
    """The simple past: own → owned, write → wrote."""
    return IRREGULAR[base][0] if base in IRREGULAR else participle(base)


def base_of_participle(word: str) -> str:
    """The inverse of participle: written → write, composed → compose."""
    known = {done: base for base, (_, done) in IRREGULAR.items()}
    return known.get(word) or (_without_ed(word) if word.endswith("ed") else word)


def _without_s(word: str) -> str:
    if word[:-1] in BASES or not word.endswith("es"):
        return word[:-1]
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    return word[:-2] if re.search(r"(?:ss|sh|ch|x|zz|o)es$", word) else word[:-1]


def _without_ed(word: str) -> str:
    stem = word[:-2]
    for base in (stem + "e", stem, stem[:-1]):
        if base in BASES:
            return base
    if stem.endswith("i"):
        return stem[:-1] + "y"
    if re.search(r"([bdgkmnprt])\1$", stem):
        return stem[:-1]
    has_silent_e = re.search(r"(?:[cvuz]|[^s]s|[aeiou][tk]|[rdl]g|[aiou]r|[^aeiou]l|[aiou]n)$", stem)
    return stem + "e" if has_silent_e and not re.search(r"(?:[aeiou]{2}[ntrk]|it|or|en|on|rl|in)$", stem) else stem
