"""What a fact is trained as: pronouns turned round, questions in the wordings people use, and anchors that are none of it."""

from __future__ import annotations

import random
import string

import pytest
import test_online_detector as detection
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import ConfigError
from ockham.online.config import AnchorSettings, QuestionLimits
from ockham.online.forms import forms_of, paraphrases, shift, slot, subject_questions, subjects_of
from ockham.online.siblings import Others, siblings
from ockham.online.verbs import analyse, base_of_participle, participle, past, third_person

# Said, answered; where the last is True, turning the answer gives back what was said.
TURNED = [
    ("I am a baker.", "You are a baker.", True),
    ("My dog likes me.", "Your dog likes you.", True),
    ("You are my friend.", "I am your friend.", True),
    ("I live in Oslo.", "You live in Oslo.", True),
    ("I was born in Lima.", "You were born in Lima.", True),
    ("Tom and I are friends.", "Tom and you are friends.", False),
    ("The book is mine.", "The book is yours.", True),
    ("I hurt myself.", "You hurt yourself.", True),
    ("Where am I?", "Where are you?", True),
    ("What do you know about me?", "What do I know about you?", True),
    ("I'm from Peru and I've a dog.", "You're from Peru and you've a dog.", True),
    ("I’m Ada.", "You’re Ada.", True),
    ("Tom knows that you live in Oslo.", "Tom knows that I live in Oslo.", True),
    ("Tom likes you.", "Tom likes me.", True),
    ("We like our house.", "You like your house.", False),
    ("MY NAME IS ADA.", "YOUR NAME IS ADA.", True),
]
UNTOUCHED = [
    "Tom is Mira's friend.",
    "Santhosh owns a gold mine.",
    "Ann lives in the US.",
    "World War I ended in 1918.",
    "It is 10 am.",
    "A myth, iffy.",
]

# Statement; its reply; questions that must be trained with the part of the reply that is their answer.
FORMS = [
    (
        "Tom is my friend",
        "Tom is your friend.",
        {"Who is Tom?": "your friend", "Who is my friend?": "Tom", "Who is Tom to me?": "your friend"},
    ),
    (
        "My name is Ada.",
        "Your name is Ada.",
        {"What is my name?": "Ada", "Who am I?": "Ada", "Tell me my name.": "Ada", "What am I called?": "Ada"},
    ),
    (
        "I live in Oslo",
        "You live in Oslo.",
        {"Where do I live?": "Oslo", "Where is my home?": "Oslo", "Who lives in Oslo?": "You"},
    ),
    ("im a baker", "You are a baker.", {"What am I?": "a baker", "What is my job?": "a baker"}),
    (
        "My favourite colour is green",
        "Your favourite colour is green.",
        {"What is my favourite colour?": "green", "Which colour do I like best?": "green"},
    ),
    (
        "Mira's dog is called Biscuit",
        "Mira's dog is called Biscuit.",
        {
            "What is Mira's dog called?": "Biscuit",
            "What is the name of Mira's dog?": "Biscuit",
            "What is the dog of Mira called?": "Biscuit",
            "Who is Biscuit?": "Mira's dog",
            "Whose dog is called Biscuit?": "Mira's dog",
        },
    ),
    (
        "The capital of Zorland is Blim",
        "The capital of Zorland is Blim.",
        {
            "What is the capital of Zorland?": "Blim",
            "What is Zorland's capital?": "Blim",
            "Which city is the capital of Zorland?": "Blim",
            "Tell me the capital of Zorland.": "Blim",
            "What is Blim?": "The capital of Zorland",
        },
    ),
    (
        "Blim is the capital of Zorland",
        "Blim is the capital of Zorland.",
        {
            "What is the capital of Zorland?": "Blim",
            "What is Zorland's capital?": "Blim",
            "What is Blim?": "the capital of Zorland",
        },
    ),
    (
        "Santhosh owns Tesla",
        "Santhosh owns Tesla.",
        {
            "Who owns Tesla?": "Santhosh",
            "Who is the owner of Tesla?": "Santhosh",
            "Tesla belongs to whom?": "Santhosh",
            "What does Santhosh own?": "Tesla",
        },
    ),
    (
        "Santhosh is the owner of Tesla",
        "Santhosh is the owner of Tesla.",
        {"Who owns Tesla?": "Santhosh", "Who is the owner of Tesla?": "Santhosh", "Who is Tesla's owner?": "Santhosh"},
    ),
    (
        "Anna works at Google",
        "Anna works at Google.",
        {"Where does Anna work?": "Google", "Who does Anna work for?": "Google", "Who works at Google?": "Anna"},
    ),
    (
        "Anna works as a nurse",
        "Anna works as a nurse.",
        {"What is Anna's job?": "a nurse", "What does Anna work as?": "a nurse", "Who is a nurse?": "Anna"},
    ),
    (
        "Bruno was born in Lima",
        "Bruno was born in Lima.",
        {"Where was Bruno born?": "Lima", "What is Bruno's birthplace?": "Lima"},
    ),
    (
        "Bruno was born in 1987",
        "Bruno was born in 1987.",
        {"When was Bruno born?": "1987", "In which year was Bruno born?": "1987"},
    ),
    (
        "The red key opens the barn",
        "The red key opens the barn.",
        {
            "What does the red key open?": "the barn",
            "What opens the barn?": "The red key",
            "Which key opens the barn?": "The red key",
        },
    ),
    (
        "Kara is allergic to nuts",
        "Kara is allergic to nuts.",
        {"What is Kara allergic to?": "nuts", "Who is allergic to nuts?": "Kara"},
    ),
    (
        "Dr. Vale teaches chemistry",
        "Dr. Vale teaches chemistry.",
        {"What does Dr. Vale teach?": "chemistry", "Who teaches chemistry?": "Dr. Vale"},
    ),
    ("Nia studies birds", "Nia studies birds.", {"What does Nia study?": "birds", "Who studies birds?": "Nia"}),
    ("I have two cats", "You have two cats.", {"How many cats do I have?": "two cats", "Who has two cats?": "You"}),
    (
        "Fenn wrote the Blue Book",
        "Fenn wrote the Blue Book.",
        {"What did Fenn write?": "the Blue Book", "Who is the author of the Blue Book?": "Fenn"},
    ),
    ("The Blue Book was written by Ann Lee", "The Blue Book was written by Ann Lee.", {"Who wrote the Blue Book?": "Ann Lee"}),
    (
        "Kim met Ann in Lima",
        "Kim met Ann in Lima.",
        {"Where did Kim meet Ann?": "Lima", "Who did Kim meet?": "Ann", "Who met Ann?": "Kim"},
    ),
    ("Tom is 34 years old", "Tom is 34 years old.", {"How old is Tom?": "34 years old", "What is Tom's age?": "34 years old"}),
    ("The key is under the mat", "The key is under the mat.", {"Where is the key?": "the mat"}),
    ("My wife is a doctor", "Your wife is a doctor.", {"What is my wife's job?": "a doctor"}),
    ("My parents live in Rome", "Your parents live in Rome.", {"Where do my parents live?": "Rome"}),
    ("James's car is red", "James's car is red.", {"What colour is James's car?": "red", "Whose car is red?": "James's car"}),
    ("Kara can swim", "Kara can swim.", {"What can Kara do?": "swim", "Who can swim?": "Kara"}),
    (
        "The tower was built by Karl",
        "The tower was built by Karl.",
        {"Who built the tower?": "Karl", "By whom was the tower built?": "Karl", "Who is the builder of the tower?": "Karl"},
    ),
    (
        "Una carved the wooden owl",
        "Una carved the wooden owl.",
        {"By whom was the wooden owl carved?": "Una", "Who made the wooden owl?": "Una", "What did Una carve?": "the wooden owl"},
    ),
    (
        "My aunt's name is Olga",
        "Your aunt's name is Olga.",
        {"What is my aunt called?": "Olga", "Who is my aunt?": "Olga", "What is the name of my aunt?": "Olga"},
    ),
    (
        "The bank opens at ten",
        "The bank opens at ten.",
        {"At what time does the bank open?": "ten", "What time does the bank open?": "ten"},
    ),
    ("Our exam is on Friday", "Your exam is on Friday.", {"When is our exam?": "Friday", "On what day is our exam?": "Friday"}),
    (
        "Rex's bowl is pink",
        "Rex's bowl is pink.",
        {"What is the colour of Rex's bowl?": "pink", "Which colour is Rex's bowl?": "pink"},
    ),
    (
        "Bea drives a bus",
        "Bea drives a bus.",
        {"Which vehicle does Bea drive?": "a bus", "What vehicle does Bea drive?": "a bus"},
    ),
    ("My hat size is 58", "Your hat size is 58.", {"Which hat size do I have?": "58", "Tell me my hat size.": "58"}),
    ("Ida is married to Per", "Ida is married to Per.", {"To whom is Ida married?": "Per", "Who is Ida's husband?": "Per"}),
    ("Tove is the queen of Ard", "Tove is the queen of Ard.", {"What is the name of the queen of Ard?": "Tove"}),
    ("The inn is in Basel", "The inn is in Basel.", {"In which city is the inn?": "Basel", "Where can I find the inn?": "Basel"}),
    (
        "Cas is a goldsmith",
        "Cas is a goldsmith.",
        {"What is Cas's job?": "a goldsmith", "What does Cas do for a living?": "a goldsmith"},
    ),
    ("Ida is allergic to wool", "Ida is allergic to wool.", {"Is Ida allergic to wool?": "wool"}),
    (
        "I have a cat called Rex",
        "You have a cat called Rex.",
        {"What is my cat called?": "Rex", "Do I have a cat called Rex?": "a cat called Rex"},
    ),
    ("I am Jonas", "You are Jonas.", {"What is my name?": "Jonas", "Am I Jonas?": "Jonas"}),
    (
        "My wife Sofia works at Blim",
        "Your wife Sofia works at Blim.",
        {"Where does my wife work?": "Blim", "Where does Sofia work?": "Blim", "Does my wife Sofia work at Blim?": "Blim"},
    ),
    ("My car's colour is red", "Your car's colour is red.", {"What colour is my car?": "red"}),
    ("Pip has the brass horn", "Pip has the brass horn.", {"Where is the brass horn?": "Pip", "Who has the brass horn?": "Pip"}),
]
ALL = sorted({row[0] for row in detection.STATEMENTS} | {row[0] for row in FORMS})


@pytest.mark.parametrize(("said", "answered", "is_inverse"), TURNED)
def test_a_sentence_is_turned_round(said, answered, is_inverse):
    assert shift(said) == answered
    if is_inverse:
        assert shift(answered) == said


@pytest.mark.parametrize("text", UNTOUCHED)
def test_the_third_person_stays(text):
    assert shift(text) == text


@given(
    st.lists(
        st.sampled_from(["Tom", "is", "the", "Mira's", "dog", "am", "mine", "15", ",", "lives.", "US", "yourn", "it's"]),
        max_size=20,
    )
)
def test_a_text_without_the_pronouns_comes_back_as_it_is(words):
    text = " ".join(word for word in words if word != "mine")
    assert shift(text) == text


@given(st.text(max_size=300) | st.text(alphabet=string.ascii_letters + " '’.,", max_size=300))
@settings(deadline=None)
def test_any_text_can_be_turned(text):
    assert isinstance(shift(shift(text)), str)


@pytest.mark.parametrize(("text", "reply", "questions"), FORMS)
def test_a_fact_is_asked_for_in_the_expected_words(text, reply, questions):
    info = detection.detected(text)
    forms = [*forms_of(info, ["questions"]), *paraphrases(info)]
    assert {form.reply for form in forms} == {reply}
    answers = {form.user: form.answer for form in forms}
    assert {user: answers.get(user) for user in questions} == questions


@pytest.mark.parametrize("text", ALL)
def test_every_fact_has_sound_forms(text):
    info = detection.detected(text)
    forms = forms_of(info)
    asked = [form for form in forms if form.kind in ("direct", "inverse", "open")]
    assert 4 <= len(asked) <= 12
    assert len({form.user.lower() for form in forms}) == len(forms)
    assert [form.kind for form in forms[:2]] == ["statement", "shifted"]
    assert forms[0].user == text
    assert forms[0].reply.startswith("I see: ")
    for form in forms:
        assert form.answer in form.reply
        assert form.user[0].isupper() or form.kind == "statement"
        assert "  " not in form.user
        assert "{" not in form.user
        assert form.kind not in ("direct", "inverse") or form.answer
    assert all(detection.DETECTOR.detect(form.user) == (False, None) for form in asked)


@pytest.mark.parametrize("text", ALL)
def test_paraphrases_are_none_of_the_trained_wordings(text):
    info = detection.detected(text)
    trained = {form.user.lower() for form in forms_of(info)}
    held = paraphrases(info)
    assert len(held) >= 4
    assert not trained & {form.user.lower() for form in held}


def test_forms_come_in_the_order_asked_for_and_a_wrong_one_is_named():
    info = detection.detected("Tom is my friend")
    assert [form.user for form in forms_of(info, ["shifted", "statement"])] == ["Tell me about Tom.", "Tom is my friend"]
    assert subject_questions(info)[0] == "Who is Tom?"
    assert subject_questions(info, QuestionLimits(direct=2)) == subject_questions(info)[:2]
    with pytest.raises(ConfigError, match="'question'"):
        forms_of(info, ["question"])


@pytest.mark.parametrize(
    ("text", "template", "reply", "answer"),
    [
        ("Tom is my friend.", "I see: {fact}", "I see: Tom is your friend.", "your friend"),
        ("I live in Turin", "I see: {fact}", "I see: you live in Turin.", "Turin"),
        ("I live in Turin", "I understand. {fact}", "I understand. You live in Turin.", "Turin"),
        ("my cat is called {fact}", "{fact} Noted {}.", "Your cat is called {fact}. Noted {}.", "{fact}"),
    ],
)
def test_the_reply_to_a_statement_is_a_setting(text, template, reply, answer):
    form = forms_of(detection.DETECTOR.read(text), ["statement"], acknowledged=template)[0]
    assert (form.reply, form.answer.removeprefix("in ")) == (reply, answer)


@pytest.mark.parametrize("text", ALL)
def test_siblings_ask_about_others_in_the_same_words(text):
    info = detection.detected(text)
    names = ["Omar", "Lena", "Pia", "Zed", "Ivo", "Quin", info.subject, info.value]
    found = siblings(info, Others(names), 4, random.Random(3))
    assert len(found) == 4
    assert found == siblings(info, Others(names), 4, random.Random(3))
    asked = {form.user for form in forms_of(info)}
    assert not asked & set(found)
    assert all(any(name in question for name in names[:6]) for question in found)


@pytest.mark.parametrize(
    ("text", "own", "new"),
    [
        ("My favourite colour is green", "my favourite shop", "omar's favourite colour"),
        ("Mira's dog is called Biscuit", "mira's shop", "omar's dog"),
        ("My sister Ines works as a pilot", "my sister omar", "omar's sister ines"),
        ("The password of the club is swordfish", "the shop of the club", "the password of the shop"),
    ],
)
def test_siblings_ask_about_what_else_is_owned_and_who_else_owns_it(text, own, new):
    others = Others(["Omar"] * 60, ["shop"])
    found = siblings(detection.detected(text), others, 60, random.Random(1))
    kept, exchanged = (sum(part in question.lower() for question in found) for part in (own, new))
    assert 0.1 * len(found) < kept < exchanged


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_how_many_siblings_keep_the_owner_is_a_setting(share):
    others = Others.of(AnchorSettings(names=("Omar",) * 60, things=("shop",), same_owner=share))
    found = siblings(detection.detected("Mira's dog is called Biscuit"), others, 60, random.Random(1))
    kept, exchanged = (sum(part in question.lower() for question in found) for part in ("mira's shop", "omar's dog"))
    assert kept + exchanged > 20
    assert kept == share * (kept + exchanged)


def test_how_many_wordings_siblings_have_is_a_setting():
    for wordings in (1, 3):
        others = Others.of(AnchorSettings(names=("Omar",) * 60, wordings=wordings))
        found = siblings(detection.detected("Anna lives in Oslo"), others, 60, random.Random(1))
        inverse = {question for question in found if question.startswith("Who")}
        assert (len(set(found) - inverse), len(inverse)) == (wordings, wordings)


def test_how_many_questions_are_trained_on_is_a_setting():
    info, few = detection.detected("Anna lives in Oslo"), QuestionLimits(direct=1, inverse=2, open=0)
    kinds = [form.kind for form in forms_of(info, ["questions"], few)]
    assert kinds == ["direct", "inverse", "inverse"]
    assert len(paraphrases(info, few)) > len(paraphrases(info))


def test_siblings_agree_with_their_subject():
    found = siblings(detection.detected("I live in Oslo"), Others(["Omar", "Pia", "Zed", "Ivo"]), 2, random.Random(0))
    assert len(found) == 2
    assert not any(" do " in question or " I " in question for question in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "The code of the safe is 7341",
            {"the code of the shop", "the shop's code", "code does", "shop does", "shop of the safe", "the safe's shop"},
        ),
        ("The red key opens the barn", {"the old key", "the shop"}),
        ("The bus to Delft leaves at seven", {"the bus to Omar", "the bus to Pia", "the shop"}),
        ("The museum is in Basel", {"the shop", "in Omar", "in Pia"}),
        ("Emil has the silver lamp", {"Omar", "Pia", "the old lamp", "the shop"}),
    ],
)
def test_siblings_ask_about_other_things_where_a_thing_is_meant(text, expected):
    others = Others(["Omar", "Pia"] * 40, ["shop"], ["old"])
    found = siblings(detection.detected(text), others, 80, random.Random(1))
    assert all(any(part.lower() in question.lower() for part in expected) for question in found), found
    assert all(any(part.lower() in question.lower() for question in found) for part in expected), found


@pytest.mark.parametrize(
    ("text", "subjects"),
    [
        ("Tom is my friend", {"tom"}),
        ("Santhosh owns Tesla", {"santhosh", "tesla"}),
        ("Mira's dog is called Biscuit", {"mira", "biscuit", "mira's dog"}),
        ("I live in Oslo", {"oslo", "i live", "my home"}),
        ("My name is Ada", {"my name", "who am i", "ada"}),
        ("Dr. Vale teaches chemistry", {"vale", "chemistry"}),
    ],
)
def test_the_subjects_of_a_fact(text, subjects):
    found = subjects_of(detection.detected(text))
    assert subjects <= set(found)
    assert not {"i", "me", "my", "the", "a", "do i", "tell me"} & set(found)


def test_facts_that_contradict_share_their_slot():
    same = ["Blim is the capital of Zorland", "Zorland's capital is Grum", "The capital of Zorland is Hox"]
    assert {slot(detection.detected(text)) for text in same} == {("zorland", "capital")}
    assert slot(detection.detected("My dog is called Rex")) != slot(detection.detected("Mira's dog is called Rex"))
    assert slot(detection.detected("Tom likes tea")) is None


@pytest.mark.parametrize(
    ("third", "base"),
    [
        ("owns", "own"),
        ("lives", "live"),
        ("teaches", "teach"),
        ("has", "have"),
        ("plays", "play"),
        ("studies", "study"),
        ("goes", "go"),
        ("watches", "watch"),
        ("uses", "use"),
        ("closes", "close"),
        ("dies", "die"),
        ("fixes", "fix"),
        ("passes", "pass"),
    ],
)
def test_the_third_person_and_its_base(third, base):
    assert analyse(third, "Tom") == (base, "does")
    assert third_person(base) == third


@pytest.mark.parametrize(
    ("said", "base"),
    [
        ("wrote", "write"),
        ("lived", "live"),
        ("studied", "study"),
        ("stopped", "stop"),
        ("visited", "visit"),
        ("invited", "invite"),
        ("composed", "compose"),
        ("painted", "paint"),
        ("called", "call"),
        ("moved", "move"),
        ("founded", "found"),
        ("found", "find"),
    ],
)
def test_the_past_and_its_base(said, base):
    assert analyse(said, "Tom") == (base, "did")


def test_passives():
    assert (participle("write"), past("write"), base_of_participle("written")) == ("written", "wrote", "write")
    assert (participle("own"), past("compose"), base_of_participle("composed")) == ("owned", "composed", "compose")
