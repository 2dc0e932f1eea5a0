"""State folders with made-up turns, for the tests of where `ockham chat` keeps what it knows."""

import hashlib
from pathlib import Path

from ockham.online.session_log import read_log
from ockham.online.state_records import FactRow, Rebuilt, Turn
from ockham.online.store import StateFolder

HEADER = {
    "base": "fables",
    "base_sha256": "a" * 64,
    "config": {"lr": 0.1, "lora": {"rank": 4}},
    "seed": 7,
    "version": "0",
    "threads": 1,
}
CHEAP = {"n": 2, "r": 8, "p": 1, "dklen": 32}  # scrypt, where its cost is not what is tested
SECRETS = ("Zuzanna", "Łukaszów", "quetzal")


def blob(n) -> bytes:
    """The bytes of an adapter; of another one for each n."""
    return hashlib.sha256(str(n).encode()).digest() * 300


def begun(folder, memory=None, **options):
    chat = StateFolder(Path(folder), HEADER, **options)
    if chat.is_new:
        chat.begin(blob(0), memory or {"n": 0})
    return chat


def learned(n, text="Tom is my friend", **more):
    """The turn that learns fact n."""
    row = FactRow(id=n, text=text, record={"steps": 12, "detector": "is_relation"})
    fields = {"facts": [row], "fact": n, "adapter": blob(n), "memory": {"n": n}, "is_learned": True, **more}
    return Turn(text=text, reply="Noted.", kind="fact", reason_code="LEARNED", **fields)


def contents(folder):
    """Every byte in the folder, and every name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def inside(chat):
    """All that the chat is, but for the numbers of its files."""
    return chat.state(), chat.turns(), chat.facts(), chat.tombstones(), chat.previous(), chat.log.read_bytes()


def is_whole(chat):
    """Whether adapter and memory are of one turn, the log is the tables' own, and no file is without owner."""
    state, (_, lines) = chat.state(), read_log(chat.log)
    used = {path.name for path in chat.adapters.folder.iterdir()}
    owned = {chat.adapters.path(number).name for (number,) in map(tuple, chat.tables.all("SELECT number FROM adapters"))}
    partial = [name for name in contents(chat.folder) if name.endswith(".partial")]
    same_log = chat.log.read_bytes() == chat.tables.log_bytes()
    return state.adapter == blob(state.memory["n"]) and len(lines) == chat.turn and same_log and used == owned and not partial


def told(text):
    return any(word.casefold() in text.casefold() for word in SECRETS)


def secretive(folder):
    """A chat in which fact 2 holds the secrets, between two others."""
    chat = begun(folder)
    chat.commit(learned(1))
    chat.commit(learned(2, "Zuzanna lives in Łukaszów", memory={"n": 2, "facts": ["Zuzanna lives in Łukaszów"] * 40}))
    chat.commit(Turn(text="Where does she live?", reply="In Łukaszów.", kind="question", losses={"task": 0.1}))
    chat.commit(learned(3, "Anna owns a boat", memory={"n": 3, "facts": ["Zuzanna lives in Łukaszów", "Anna owns a boat"]}))
    chat.commit(Turn(text="/why 2", reply="You said so.", kind="command", fact=2, metrics={"last": "quetzal"}))
    return chat


def without(chat, *gone):
    kept = [fact for fact in chat.facts() if fact.id not in gone]
    return Rebuilt(adapter=blob("without"), memory={"n": "without"}, facts=kept, metrics={})
