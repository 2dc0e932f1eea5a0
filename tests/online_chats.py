"""Quick settings, trainers and sessions on tiny bases, for the tests of ockham chat."""

import json
from contextlib import contextmanager
from pathlib import Path

import torch
from online_bases import tiny_ours

from ockham.online.bases import load_base
from ockham.online.retelling import replay
from ockham.online.session import Session, make_trainer
from ockham.online.settings import load_settings

# Tiny random bases learn little in three steps: the gate lets all of it through unless a test says otherwise.
QUICK = (
    "commit.kl_budget=null",
    "commit.min_prob=0",
    "training.iterations_per_fact=2",
    "training.supersede_iterations=2",
    "training.forms_per_step=2",
    "anchors.per_step=2",
    "anchors.siblings=1",
    "fact_memory.replay_batch=1",
    "fact_memory.replay_steps=1",
    "training.learning_rate=1e-3",
    'anchors.prompts=["Hello.", "Who is Alan?"]',
    "generation.max_new_tokens=8",
)

SHORT = "fact_memory.replay_interval=3"


def lively(folder):
    """A random GPT of ours whose logits can be large, so that an adapter can teach it; tiny_ours stays near uniform."""
    base = tiny_ours(folder)
    saved = torch.load(base / "ckpt.pt", weights_only=True)
    for name in ("transformer.wte.weight", "lm_head.weight"):
        saved["model"][name] = saved["model"][name] * 20
    torch.save(saved, base / "ckpt.pt")
    return base


def settings(base, *more):
    return load_settings(None, None, [f"model.base_model_name={base}", *QUICK, *more])


def load(config):
    return load_base(config.model)


def trainer(base, *more):
    config = settings(base, *more)
    return make_trainer(load(config), config)


def session(folder, base, *more, asked_for=None, **options):
    return Session(Path(folder), settings(base, *more), load, base=asked_for, **options)


@contextmanager
def sessions(folder, base):
    """A function that opens a session in a folder of this name; all are closed in the end."""
    opened = []

    def make(name="chat", *more, **options):
        opened.append(session(folder / name, base, *more, **options))
        return opened[-1]

    yield make
    for chat in opened:
        chat.store.close()


def sha(chat):
    """Of a trainer's or a session's adapter."""
    return getattr(chat, "trainer", chat).adapter.sha256()


def tell(chat, *texts):
    """Each text in order; the last turn."""
    say = getattr(chat, "say", None) or chat.take
    return [say(text) for text in texts][-1]


def contents(folder):
    """Every byte in a folder."""
    return b"".join(path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file())


def write_exam(path, facts):
    """An exam of (fact, question, answer)."""
    lines = [
        {"fact": fact, "question": question, "answer": answer, "paraphrases": [question + " "], "unrelated": ["Who is Zoe?"]}
        for fact, question, answer in facts
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def differences(folder):
    """What a replay of the folder's log does otherwise."""
    return [(line["turn"], found) for line, _, found in replay(folder / "session.jsonl", load) if found]


def raising(error):
    def fail(*args, **options):
        raise error

    return fail
