"""Reported speech: sentences that say what somebody says, writes or thinks, not how the world is.

The laws are about how such sentences are built, so the list of verbs may grow without them. What the user says of himself ("I
think that", "in my words") is his own.
"""

from __future__ import annotations

import re
from collections.abc import Set

from .verbs import past, third_person, word_set

# Verbs of saying, writing and holding true, in their base forms.
VERBS = word_set(
    """acknowledge add admit advise affirm agree allege announce answer argue assert assume assure attest babble bark beep bellow
    bet blab blog blurt boast brag broadcast cable cackle caution certify chant chat chatter cheer chime chirp chuckle cite
    claim clarify coax comment communicate complain concede conclude confess confide confirm conjecture contend convey convince
    croak crow cry deadpan declaim declare deduce deem demonstrate deny depose dictate disclose divulge dm drawl echo email
    e-mail emphasise emphasize estimate exclaim explain express fancy fax figure forecast foretell gasp gather giggle gossip
    groan growl grumble grunt guess gush hear highlight hint hiss holler hoot howl hum imagine imply indicate infer inform
    insinuate insist instruct interject interrupt intimate intone jest joke judge know lament laugh lecture lie maintain marvel
    mention message moan mumble murmur mutter nag narrate note notify object observe opine phone pledge plead point ponder post
    posit postulate praise pray preach predict proclaim profess promise pronounce prophesy propose protest prove publish quip
    quote ramble rant rave realise realize reason reassure recall recite reckon recount reiterate relate relay remark remember
    remind repeat reply report respond retort reveal roar scoff scold scrawl scream screech scribble shout shriek shrug sigh
    signal sigh slur smirk snap snarl sneer snort sob speculate splutter sputter squeak squeal stammer state stipulate stress
    stutter submit suggest sulk suppose surmise suspect tease testify text theorise theorize thunder tweet type underline urge
    utter vent verify voice volunteer vow wager wail warn wheeze whimper whine whisper whoop wire worry yap yell yelp"""
)
IRREGULAR = word_set(
    "says said tells told writes wrote thinks thought believes believed knows knew swears swore feels felt hears heard quoth"
)
# Verbs that say something only with a clause behind them: of "Nora, my aunt, teaches" nobody is quoted.
WITH_CLAUSE = word_set(
    """finds found means meant teaches taught understands understood holds held shows showed sees saw foresees foresaw foretold
    dreams dreamt learns learnt learned overhears overheard"""
)


def _forms(base: str) -> set[str]:
    """He says, he said; a last consonant may be doubled: quip → quipped."""
    doubled = {base + base[-1] + "ed"} if re.search(r"(?:[^aeiou]|qu)[aeiou][bdgmnpt]$", base) else set()
    return {third_person(base), past(base)} | doubled


def _any(words: Set[str]) -> str:
    return rf"(?:{'|'.join(sorted(map(re.escape, words), reverse=True))})"


SPOKEN = IRREGULAR.union(*map(_forms, VERBS))
SAYS, STATES = _any(SPOKEN), _any(SPOKEN | WITH_CLAUSE)
SAY = _any(VERBS | {"say", "tell", "write", "think", "believe", "swear", "feel", "find", "mean", "teach", "hold", "understand"})
SAID = _any(SPOKEN | word_set("written sworn known spoken put"))
SAYING = _any({base.removesuffix("e") + "ing" for base in VERBS} | word_set("saying telling writing thinking believing swearing"))
# The verb of the sentence that is reported: what follows the verb of saying is a clause only where it has one of its own.
FINITE = (
    r"(?:is|are|was|were|am|has|have|had|isn't|aren't|wasn't|will|won't|would|can|can't|could|may|might|must|shall|should|does"
    r"|do|did|owns?|likes?|loves?|hates?|lives?|works?|plays?|speaks?|eats?|drinks?|knows?|wants?|needs?|makes?|sells?|teaches"
    r"|studies|comes?|belongs?|leaves?|costs?|looks|seems?|stands?|lies|sits|sleeps|drives?|wears|keeps?|writes|reads|runs|goes"
    r"|rules|leads|fears|collects|owned|lived|worked|wrote|built|founded|invented|made|bought|sold|stole|won|married|became)"
)
# Up to six words without a comma, a conjunction or a relative, which would begin another clause.
WORD = r"(?!(?:and|or|but|nor|that|which|who|whom|whose|when|where|while|because|since|if|as|than)\b)[\w'’.-]+"
PREPOSITION = r"(?:about|on|of|in|into|at|to|for|from|with|by|over|under|near|behind|after|before|until|through|up|out|down|off)"
PERFECT = r"(?:has|have|had|has been|had been)"
ASIDE = r"(?:(?:to |with )?(?:me|us|him|her|them) )?"
REPORTED_CLAUSE = rf"{ASIDE}(?:that )?(?!{PREPOSITION}\b)(?:{WORD} ){{1,6}}?{FINITE}\b(?! [a-z]+ing\b)"
ADVERB = r"(?:\w+ly |once |just |also |then |later |often |always |never |still |even )?"
# Somebody else, and no noun: "my note on the door is new".
SUBJECT = (
    r"(?<=[\w,;:] )(?<!\bi )(?<!\bwe )(?<!\bthe )(?<!\bmy )(?<!\ba )(?<!\ban )(?<!\bhis )(?<!\bher )"
    r"(?<!\bour )(?<!\btheir )(?<!'s )"
)
BREAK = r"(?:[,;–—(] ?|(?<=\s)- )"  # no hyphen: "my sister-in-law writes"
OTHERS = r"(?!i\b|we\b|my own\b|our own\b|and\b|or\b|but\b|so\b)"
SOMEBODY = rf"{OTHERS}(?:{WORD} ){{1,4}}?"
END = r"(?=\s*(?:[,.!?;)]|$))"
ACCOUNT = r"(?:words?|opinion|view|telling|account|version|estimation|judge?ment|mind|phrase|terms|belief|reading|wording)"

LAWS = (
    rf"{SUBJECT}\b{STATES},? {REPORTED_CLAUSE}",  # Ann texted me Tom is my friend
    rf"\b(?:they|people|folks?|others|many|most|some|all|experts|[\w']{{2,}} and \w+|(?:my|the|his|her|our|their) \w+s) {ADVERB}"
    rf"{SAY} {REPORTED_CLAUSE}",  # the neighbours whisper Tom is my friend
    rf"\b(?:keeps?|kept|is|was|are|were|went|goes on|starts|started) (?:on )?{SAYING} {REPORTED_CLAUSE}",
    rf"\b{PERFECT} (?:once |just |already |always |often )?(?:{SAID}|{SAYING}) {REPORTED_CLAUSE}",
    rf"\bgoes,? (?:my|the|a|an|he|she|they|(?-i:[A-Z])\w+) (?:\w+ )?{FINITE}\b",
    rf"{SUBJECT}\b{STATES} (?:{ASIDE}|(?:to )?\w+ )that\b(?! (?:one|way|day|night|time|much|song|book|tune|piece)\b)",
    rf"{BREAK}(?:{SOMEBODY}{ADVERB}{SAYS}|{SOMEBODY}{PERFECT} {ADVERB}{SAID}|{SOMEBODY}{ADVERB}puts?|{WORD} and {SOMEBODY}{SAY})"
    rf"(?: (?:\w+ly|it|so|once|again|today|yesterday|now|then|aloud|"
    rf"{PREPOSITION} (?:{WORD} ?){{1,4}}|me|us|him|her|them)){{0,3}}{END}",  # Tom is my friend, Ann wrote
    rf"{BREAK}{SOMEBODY}(?:keeps?|kept|is|was|went|goes on|likes?|loves?|used|wants?|tends?|seems?) (?:on |to )?"
    rf"(?:{SAYING}|{SAY}){END}",
    rf"{BREAK}{SAYS} (?:(?-i:[A-Z])[\w.]*|he|she|they|(?:my|the|his|her|our|their) \w+)(?: (?-i:[A-Z])\w*)?{END}",
    rf"\b(?:as|like|how) {SOMEBODY}(?:(?:once |always |often |would |has |had |used to )?(?:puts?|has|had|sees|saw|calls"
    rf"|tells?|told|phrased?s?|framed|worded|formulated) (?:it|this|that)\b|{ADVERB}{SAYS}{END})",  # as Ann put it
    r"\bas (?:stated|told|written|reported|said|claimed|noted|described|quoted|explained|announced|published|related"
    r"|recounted|confirmed|believed) (?:by|in|on|to)\b",
    rf"\bin (?!my\b|our\b)(?:[\w.-]+(?: [\w.-]+){{0,3}}['’]s?|his|her|their|its|somebody's) (?:own |humble |considered )?"
    rf"(?:(?:{ACCOUNT}|eyes|book){END}|(?:opinion|view|words)\b)",  # in Ann's words
    rf"\b(?:in|to|by|on) (?:the |an? )?(?:\w+ )?{ACCOUNT} of (?!mine\b|ours\b)\w",
    r"\bby (?!my\b|our\b)[\w'’ .-]{1,40} (?:account|admission|telling|reckoning)\b",
    r"\baccording to (?!me\b|plan\b)\w|(?:^|[,.;:(–—-] ?)per (?!cent\b|hour\b|day\b|week\b|month\b|year\b|person\b|kilo\b)\w"
    r"|\bper (?-i:[A-Z])\w|\bas per\b|(?:\(c\)|©|\b(?:courtesy|property|copyright) of\b|\b(?:quoting|citing)) ?\w",
    r"\b(?:is|was|are|were|seems|became) (?:of the (?:opinion|view|belief|conviction)|under the impression) that\b",
    rf"\b(?!i\b|we\b)\w+ (?:is|was|are|were|seems) (?:\w+ly |quite |very |so )?(?:sure|certain|convinced|adamant|positive"
    rf"|confident|persuaded|aware)(?: that\b| {REPORTED_CLAUSE})",
    r"(?:'s|s'|\bhis|\bher|\btheir|\bthe|\ba|\bone|\bpopular) (?:\w+ )?(?:claim|view|opinion|belief|theory|statement|message"
    r"|impression|understanding|conviction|guess|argument|contention|allegation|report|remark|comment|lie"
    r") (?:is|was|goes|has it)(?: that\b|[,:])",
    rf"\bif (?:\w+ (?:is|was) (?:right|correct|to be (?:believed|trusted))|(?:{WORD} ){{1,3}}(?:is|are) (?:right|correct|to be"
    r" (?:believed|trusted)))",
    r"\b(?:is|are|was|were) (?:\w+ly )?(?:believed|thought|considered|reported|assumed|understood|alleged|claimed|reckoned"
    r"|rumou?red|deemed|whispered|presumed|purported) (?:to (?:be|have)\b|that\b)",
    r"^(?-i:[A-Z]{3,}[A-Z ]{0,20}), [^.!?\n]{1,30} [-–—] ",  # the dateline of a report
    rf"\bor so {SOMEBODY}(?:{SAYS}|{SAY})\b",
)  # fmt: skip
COMPILED = tuple(re.compile(law, re.IGNORECASE | re.MULTILINE) for law in LAWS)


def is_reported(text: str) -> bool:
    """Whether a sentence of the text has the build of reported speech."""
    return any(law.search(text) for law in COMPILED)
