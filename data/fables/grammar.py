"""The stories of data/fables: toy tales in four bands, from formulaic to random, with questions and answers.

Every choice in them has a known probability and can be read back from the text (teller.py), so -ln p of any text that this
grammar wrote is known exactly. Only letters, space, newline and `',.:?` are used, which Tiny Shakespeare has, too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from teller import Reader, Teller, Writer


def words(text: str) -> list[str]:
    """The words of a line."""
    return text.split()


HE = words("Tobin Oskar Finn Jonas Hugo Rufus Kofi Elio Basil Pip")
SHE = words("Mira Lena Nora Bella Tilda Ivy Sana Greta Wren Dora")
NAMES = [name for pair in zip(SHE, HE, strict=True) for name in pair]
KINDS = words("fox bear mouse frog goat hare crow wolf duck mole cat lamb robin toad badger pony")
COLOURS = words("red blue green golden silver white brown purple")
THINGS = words("lamp drum kite ball book bell boat cup hat key ring shell basket flute mirror pebble")
MOODS = words("little kind clever shy brave sleepy merry quiet hungry lonely proud gentle")
LANDS = words("river hill mill wood farm sea bridge garden well tower meadow village")
AIRS = words("warm cold misty windy golden silent snowy rainy bright dark")
TIMES = ["One day", "One morning", "At dusk", "After the rain", "Before breakfast", "Late in spring"]
TIMES += ["On market day", "In the first snow"]
WINDS = words("wind moon rain river sun fog snow thunder echo fire cloud tide")
DEEDS = words("sang danced whispered crept wandered waited trembled glittered rolled drifted sighed laughed")
WAYS = words("softly slowly boldly sadly gladly alone again forever twice together")
NEAR = words("over under behind beside above beyond")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MORALS = {
    "gift": [
        "a gift warms two hearts",
        "to give is to have twice",
        "small gifts make great friends",
        "kind hands are never empty",
    ],
    "greed": [
        "who keeps all stays alone",
        "a closed hand catches no friend",
        "what is not shared grows cold",
        "a full house can be empty",
    ],
    "trade": [
        "a fair trade makes no loser",
        "new things make new eyes",
        "each loves what the other has",
        "trade with a smile",
    ],
    "play": [
        "play is the best treasure",
        "two can do what one can not",
        "friends are better than things",
        "the day is long enough for joy",
    ],
    "honest": [
        "honest feet walk lightly",
        "lost things know the way home",
        "who helps is never lost",
        "a true friend looks twice",
    ],
    "hidden": [
        "a stolen song has no tune",
        "secrets are heavy to carry",
        "the truth floats like a cork",
        "a hidden thing weighs the most",
    ],
    "broken": [
        "lend only what you can lose",
        "a promise is a kind of debt",
        "trust breaks more easily than glass",
        "the borrower forgets first",
    ],
    "kept": [
        "a promise kept is a friend made",
        "trust grows when it is used",
        "bring back what you borrow",
        "good friends keep good time",
    ],
}


@dataclass
class World:
    """Who is what, and who owns and has what, at this point of a story."""

    kinds: dict[str, str] = field(default_factory=dict)  # name → kind
    owner: dict[str, str] = field(default_factory=dict)  # item → name
    holder: dict[str, str] = field(default_factory=dict)

    def questions(self) -> dict[str, tuple[str, float]]:
        """Every question that the story has answered, with its answer and its weight."""
        asked = {f"Who has the {item}?": (f"{who} has the {item}.", 3.0) for item, who in self.holder.items()}
        asked |= {f"Who owns the {item}?": (f"{who} owns the {item}.", 3.0) for item, who in self.owner.items()}
        asked |= {f"What is {name}?": (f"{name} is a {kind}.", 1.0) for name, kind in self.kinds.items()}
        return asked | {f"Who is the {kind}?": (f"{name} is the {kind}.", 1.0) for name, kind in self.kinds.items()}


def ask(t: Teller, world: World, count: int) -> None:
    """`count` different questions; the answers follow from the story and cost nothing. Ends the document."""
    questions = world.questions()
    for _ in range(count):
        options = [f"Q: {q}\n" for q in questions]
        question = t.choose(options, [weight for _, weight in questions.values()])
        answer, _ = questions.pop(question[3:-1])
        t.say(f"A: {answer}\n")
    t.say("\n")


def fresh(t: Teller, pool: Sequence[str], used: Sequence[str] = ()) -> str:
    """A word of `pool` that this story has not used."""
    return t.choose([word for word in pool if word not in used])


def item_of(t: Teller, used: Sequence[str] = (), colours: Sequence[str] = COLOURS, things: Sequence[str] = THINGS) -> str:
    """A colour and a thing; no two items of a story are the same kind of thing."""
    colour = t.choose(colours)
    t.say(" ")
    return f"{colour} {fresh(t, things, [item.split()[1] for item in used])}"


def easy(t: Teller) -> None:
    """One fixed form and few words: who is what, who has what."""
    world = World()
    t.say("Once there was a ")
    kind = t.choose(KINDS[:8])
    t.say(" named ")
    name = t.choose(NAMES[:8])
    verb = "had" if t.choose([" who had a ", " who owned a "]) == " who had a " else "owned"
    item = item_of(t, colours=COLOURS[:4], things=THINGS[:8])
    thing = item.split()[1]
    t.say(f". {name} loved the {thing}, and the {thing} was always near {name}.\n")
    world.kinds[name] = kind
    (world.holder if verb == "had" else world.owner)[item] = name
    ask(t, world, 1)


def medium(t: Teller) -> None:
    """Two animals, one or two things, one turn of events, a moral, a question."""
    world = World()
    t.choose(["Once upon a time a ", "Long ago a ", "In a far land a ", "Every child knows that a "])
    a, article = introduce(t, world, " named "), "She" if world_is_she(world) else "He"
    t.choose([" lived by the ", " slept near the ", " worked at the "])
    t.choose(AIRS)
    t.say(" ")
    t.choose(LANDS)
    t.say(f". {article} had a ")
    mine = item_of(t)
    world.holder[mine] = a
    t.say(".\n")
    t.choose(TIMES)
    t.say(f" {a} met a ")
    b = introduce(t, world, " called ")
    turn = t.choose([" who had nothing.", " who had a ", " who had lost a ", f" who liked the {mine.split()[1]}."])
    PLOTS[turn if turn in PLOTS else " who liked it."](t, world, a, b, mine)
    t.say("\n")
    ask(t, world, 1)


def introduce(t: Teller, world: World, named: str) -> str:
    """'clever fox named Mira': a new animal; returns its name."""
    t.choose(MOODS)
    t.say(" ")
    kind = fresh(t, KINDS, list(world.kinds.values()))
    t.say(named)
    name = fresh(t, NAMES, list(world.kinds))
    world.kinds[name] = kind
    return name


def world_is_she(world: World) -> bool:
    """Whether the latest animal is a she."""
    return list(world.kinds)[-1] in SHE


def plot_nothing(t: Teller, world: World, a: str, b: str, mine: str) -> None:
    """b has nothing: a gives, or keeps."""
    if t.choose([f" {a} gave the {mine} to {b}.", f" {a} kept the {mine} and went home."]).endswith(f"{b}."):
        world.holder[mine] = b
        thank(t, b)
        moral(t, "gift")
    else:
        t.choose([f" {b} cried.", f" {b} said nothing.", f" That night {a} could not sleep.", f" So {a} played alone."])
        moral(t, "greed")


def plot_trade(t: Teller, world: World, a: str, b: str, mine: str) -> None:
    """b has a thing, too: they trade, or they play."""
    theirs = item_of(t, [mine])
    world.holder[theirs] = b
    t.say(".")
    if t.choose([f" {a} took the {theirs}, and {b} took the {mine}.", " They played until the stars came out."]).startswith(
        f" {a}"
    ):
        world.holder |= {mine: b, theirs: a}
        thank(t, b)
        moral(t, "trade")
    else:
        moral(t, "play")


def plot_lost(t: Teller, world: World, a: str, b: str, mine: str) -> None:
    """b has lost a thing: a finds it, and gives it back or not."""
    theirs = item_of(t, [mine])
    t.say(f". {a} found the {theirs} ")
    t.choose(NEAR)
    t.say(" a ")
    t.choose(["stone", "fence", "log", "rose", "nest", "wall"])
    end = t.choose([f" and brought it back to {b}.", " and hid it away.", " and sold it to a "])
    world.holder[theirs] = b if end.endswith(f"{b}.") else a
    if end.endswith(" to a "):
        world.holder[theirs] = c = introduce(t, world, " named ")
        t.say(f". {c} knew nothing of it.")
    if world.holder[theirs] == b:
        thank(t, b)
        moral(t, "honest")
    else:
        moral(t, "hidden")


def plot_borrow(t: Teller, world: World, a: str, b: str, mine: str) -> None:
    """b likes what a has: borrows it, and brings it back or not."""
    t.say(f" {b} asked to borrow it,")
    if t.choose([" and never brought it back.", " and brought it back the next day."]).startswith(" and never"):
        world.holder[mine] = b
        t.choose([f" {a} was angry.", f" {a} forgave {b}.", f" {a} waited for a year.", f" {a} learned to do without."])
        moral(t, "broken")
    else:
        thank(t, b)
        moral(t, "kept")


PLOTS: dict[str, Callable[[Teller, World, str, str, str], None]] = {
    " who had nothing.": plot_nothing,
    " who had a ": plot_trade,
    " who had lost a ": plot_lost,
    " who liked it.": plot_borrow,
}


def thank(t: Teller, name: str) -> None:
    """A happy sentence about `name`."""
    t.choose(
        [
            f" {name} smiled.",
            f" 'Thank you,' said {name}.",
            f" {name} danced for joy.",
            f" {name} laughed aloud.",
            f" 'How kind,' said {name}.",
        ]
    )


def moral(t: Teller, turn: str) -> None:
    """One of the morals that fit."""
    t.say(" So ")
    t.choose(MORALS[turn])
    t.say(".")


def hard(t: Teller) -> None:
    """Three animals and three things that change hands by gift, loan and trade, told with many free words; two questions."""
    world = World()
    describe(t)
    for _ in range(3):
        t.say(" A ")
        name = introduce(t, world, " named ")
        t.say(" owned a ")
        item = item_of(t, list(world.owner))
        world.owner[item] = world.holder[item] = name
        t.say(".")
    t.say("\n")
    t.choose(TIMES)
    happen(t, world)
    while t.choose(["\n", *(f" {time}" for time in TIMES)], [4.0] + [1.0] * len(TIMES)) != "\n":
        happen(t, world)
    ask(t, world, 2)


def happen(t: Teller, world: World) -> None:
    """One thing changes hands. Only what one owns and has can be given, lent or traded; a loan can be given back."""
    moves: dict[str, dict[str, tuple[str, str]]] = {}  # sentence → item → (owner, holder) after it
    at_home = {item: who for item, who in world.holder.items() if world.owner[item] == who}
    for item, who in world.holder.items():
        if item not in at_home:
            moves[f"{who} gave the {item} back to {world.owner[item]}."] = {item: (world.owner[item],) * 2}
            continue
        for other in world.kinds:
            if other != who:
                moves[f"{who} gave the {item} to {other}."] = {item: (other, other)}
                moves[f"{who} lent the {item} to {other}."] = {item: (who, other)}
        for theirs, other in at_home.items():
            if other != who:
                moves[f"{who} traded the {item} for the {theirs} of {other}."] = {item: (other, other), theirs: (who, who)}
    t.say(" ")
    move = t.choose(list(moves), [4.0 if " back " in sentence else 1.0 for sentence in moves])
    for item, (owner, holder) in moves[move].items():
        world.owner[item], world.holder[item] = owner, holder
    t.say(" ")
    describe(t)


def describe(t: Teller) -> None:
    """'The misty wind danced softly over the golden hill.'"""
    t.say("The ")
    for words, after in ((AIRS, " "), (WINDS, " "), (DEEDS, " "), (WAYS, " "), (NEAR, " the "), (AIRS, " "), (LANDS, ".")):
        t.choose(words)
        t.say(after)


def noise(t: Teller) -> None:
    """Four lines of six words of random letters: a word ends after each letter with probability 1/5."""
    weights = [0.8 / 26] * 26 + [0.2]
    for _ in range(4):
        for end in (" ",) * 5 + ("\n",):
            t.choose(LETTERS)
            while t.choose([*LETTERS, end], weights) != end:
                pass
    t.say("\n")


@dataclass(frozen=True)
class Band:
    """A kind of document and its part of the corpus, by characters."""

    program: Callable[[Teller], None]
    share: float


BANDS = {"easy": Band(easy, 0.25), "medium": Band(medium, 0.35), "hard": Band(hard, 0.32), "noise": Band(noise, 0.08)}


@dataclass(frozen=True)
class Section:
    """A stretch of one band inside a split: characters [start, end) and -ln p of them, in nats."""

    band: str
    start: int
    end: int
    nats: float


def generate(size: int, rng: random.Random) -> tuple[str, list[Section]]:
    """A split of about `size` characters: the bands in order, each of whole documents until its share is reached.

    Where a section ends is decided by its text, so -ln p of the split is the sum over its documents.
    """
    parts: list[str] = []
    sections: list[Section] = []
    at = 0
    for name, band in BANDS.items():
        start, costs = at, []
        while at - start < band.share * size:
            writer = Writer(rng)
            band.program(writer)
            document = "".join(writer.told)
            parts.append(document)
            costs.append(writer.nats)
            at += len(document)
        sections.append(Section(name, start, at, math.fsum(costs)))
    return "".join(parts), sections


def costs(text: str, band: str) -> list[float]:
    """-ln p of each character of a text made of whole documents of `band`, found by parsing it. Raises Mismatch."""
    found: list[float] = []
    at = 0
    while at < len(text):
        reader = Reader(text, at)
        BANDS[band].program(reader)
        found += reader.costs
        at = reader.at
    return found


def score(text: str, band: str) -> float:
    """-ln p of a text made of whole documents of `band`, in nats, found by parsing it. Raises Mismatch."""
    return math.fsum(costs(text, band))
