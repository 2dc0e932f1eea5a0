"""The training pairs of a fact: the statement, its turned form, and the questions that it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

from ..errors import ConfigError
from . import phrases
from .clause import clause_of
from .config import QuestionLimits
from .facts import FactInfo, Form
from .pronouns import sentence, shift
from .questions import Wording, wordings
from .verbs import word_set

__all__ = [
    "ACKNOWLEDGED",
    "KINDS",
    "forms_of",
    "paraphrases",
    "sentence",
    "shift",
    "slot",
    "subject_questions",
    "subjects_of",
]

ACKNOWLEDGED = "I see: {fact}"  # the reply to a statement; generation.acknowledged takes another
SENTENCE_ENDS = ("", ".", "!", "?")  # what follows one of these, or nothing, begins a sentence
ABOUT = "Tell me about {}."
KINDS = ("statement", "shifted", "questions")
LIMITS = QuestionLimits()
# "the N of Y" where Y has one N at a time.
SINGLE = word_set(
    """owner capital ceo president king queen boss head leader mayor captain director manager husband wife mother father
    birthplace birthday password name code chief emperor empress author founder inventor colour color address age job
    currency language"""
)


def forms_of(
    info: FactInfo, kinds: Iterable[str] = KINDS, limits: QuestionLimits = LIMITS, acknowledged: str = ACKNOWLEDGED
) -> list[Form]:
    """The training pairs of `kinds`, in their order. The reply is always the one turned sentence, so there is one thing to learn.

    statement: the user says it, the reply is `acknowledged` with the sentence in place of {fact}. shifted: the user asks to be
    told about the subject. questions: direct, inverse and open questions; Form.kind says which. Raises ConfigError for a kind
    that is not one.
    """
    makers: dict[str, Callable[[FactInfo], list[Form]]] = {
        "statement": partial(_statement, acknowledged=acknowledged),
        "shifted": _shifted,
        "questions": partial(_questions, limits=limits),
    }
    for kind in (kinds := tuple(kinds)):
        if kind not in makers:
            raise ConfigError(f"training.forms has {kind!r}; the forms are {', '.join(KINDS)}")
    return [form for kind in kinds for form in makers[kind](info)]


def subject_questions(info: FactInfo, limits: QuestionLimits = LIMITS) -> list[str]:
    """The direct questions that are trained on, the plainest first: "Where does Anna live?"."""
    return [w.text for w in _chosen(info, limits) if w.kind == "direct"]


def paraphrases(info: FactInfo, limits: QuestionLimits = LIMITS) -> list[Form]:
    """Pairs with wordings that forms_of does not have: for exams, never for training. Open questions are left out."""
    trained = {w.text.lower() for w in _chosen(info, limits)}
    return [_form(info, w) for w in wordings(info) if w.kind != "open" and w.text.lower() not in trained]


def subjects_of(info: FactInfo) -> tuple[str, ...]:
    """What a message must mention one of, as whole words without regard to case, for the subject gate: case-folded, no repeats.

    The subject, its owner, the names in the value; the value itself where it has none. For facts about the user, whose subject is
    in every second message, the pronoun with the word beside it as the fact's questions have them: "i live", "my home".
    """
    c = clause_of(info)
    parts = phrases.owned(info.subject)
    found = [*phrases.names_in(info.value), *phrases.names_in(info.subject)]
    if info.subject.lower() not in phrases.OBJECTS:
        found += [phrases.undetermined(info.subject)]
    if parts and parts[0].lower() not in phrases.POSSESSIVES:
        found += [phrases.undetermined(parts[0])]
    if not phrases.names_in(info.value):
        found.append(phrases.undetermined(info.value))
    if c.is_first_or_second or (parts and parts[0].lower() in phrases.OBJECTS):
        found += _pronoun_phrases([w.text for w in wordings(info) if w.kind == "direct"])
    found += [name.split()[-1] for name in found if phrases.TITLE.match(name)]
    return tuple(dict.fromkeys(text.casefold() for text in found if text))


def slot(info: FactInfo) -> tuple[str, str] | None:
    """(of what, which property): two facts with one slot contradict each other. None where several values may stand side by side.

    "Blim is the capital of Zorland" and "Zorland's capital is Grum" share ("zorland", "capital").
    """
    subject = phrases.without_article(info.subject).casefold()
    if info.relation == "is_colour":
        return (subject, "colour")
    plain = (subject, info.relation)
    if info.verb.lower() not in ("is", "are", "am"):
        return plain if info.exclusive else None
    if info.particle in ("called", "named"):
        return (subject, "name")
    if info.particle or info.relation in ("is_a", "is_colour", "is_at"):
        return plain if info.exclusive else None
    if parts := phrases.owned(info.subject):
        return (phrases.without_article(parts[0]).casefold(), parts[1].casefold())
    parts = phrases.owned(info.value)
    if parts and (phrases.head(parts[1]) in SINGLE or parts[1].lower().startswith(("favourite ", "favorite "))):
        return (phrases.without_article(parts[0]).casefold(), parts[1].casefold())
    return plain if info.exclusive and not parts else None


def _statement(info: FactInfo, acknowledged: str) -> list[Form]:
    said = _reply(info)
    if acknowledged.partition("{fact}")[0].rstrip()[-1:] not in SENTENCE_ENDS:
        said = phrases.lowered(said)
        said = "you" + said[3:] if said.startswith("You ") else said
    return [Form(info.text, acknowledged.replace("{fact}", said), _part(info.value, said), "statement")]


def _shifted(info: FactInfo) -> list[Form]:
    subject = phrases.lowered(info.subject)
    subject = "myself" if subject == "I" else phrases.OBJECTS.get(subject.lower(), subject)
    return [Form(ABOUT.format(subject), _reply(info), "", "shifted")]


def _questions(info: FactInfo, limits: QuestionLimits) -> list[Form]:
    return [_form(info, wording) for wording in _chosen(info, limits)]


def _chosen(info: FactInfo, limits: QuestionLimits) -> list[Wording]:
    """The first wordings of each kind, up to its limit."""
    found = [w for w in wordings(info) if not w.is_held]
    most = {"direct": limits.direct, "inverse": limits.inverse, "open": limits.open}
    return [w for kind, limit in most.items() for w in [w for w in found if w.kind == kind][:limit]]


def _form(info: FactInfo, wording: Wording) -> Form:
    reply = _reply(info)
    return Form(wording.text, reply, _part(wording.answer, reply), wording.kind)


def _reply(info: FactInfo) -> str:
    """The statement's parts turned round, so that "I'm a baker" and "i am a baker!" have one reply."""
    return sentence(shift(" ".join(part for part in (info.subject, info.verb, info.particle, info.value) if part)))


def _part(said: str, reply: str) -> str:
    """What of `reply` says `said`, pronouns turned; "" where it cannot be found."""
    found = re.search(re.escape(shift(said)), reply, re.IGNORECASE) if said else None
    return found.group() if found else ""


def _pronoun_phrases(texts: Iterable[str]) -> list[str]:
    """The first person in each text with the word after it, or with the two before it where it stands last."""
    found = []
    for text in texts:
        plain = re.sub(r"^(?:(?:please )?(?:can you )?(?:tell|remind) me|i would like to know)\b", "", text.rstrip("?.").lower())
        found += re.findall(r"\b(?:i|my|our|we) \w+", plain) or re.findall(r"\w+ \w+ (?:i|me|we|us)$", plain)
    return found
