"""The flags of `ockham chat`, apart from its work: every `ockham` command builds all verbs, and should start at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..arguments import count
from ..errors import ConfigError

EPILOG = """
everything else is a setting, as in config/online/default.yaml: training.learning_rate=1e-4, subject_gate.enabled=true. In the
chat, /help lists the commands. Without a terminal, or with --plain, it reads a message a line: replies go to stdout, the rest to
stderr. Without --base the model of the settings is taken where it is on this machine, else a small one, which a chat in a
terminal offers to make. Exit codes: 0 done, 1 the world lacks something or a replay differs, 2 a usage error or a message that
was refused, 130 interrupted.
"""


def add_chat(verbs: Any) -> None:
    """The verb `chat` and its flags."""
    parser = verbs.add_parser(
        "chat",
        takes_rest=True,
        help="a chat that learns facts as you tell them, and can forget them again",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", metavar="NAME", help="a run of ours, a folder or a hub name of a Hugging Face causal LM")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="folder of what was learned (out-chat); with --replay a new one"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML file with settings")
    parser.add_argument("--preset", metavar="NAME", help="settings from config/online/NAME.yaml, such as spec")
    parser.add_argument("--plain", action="store_true", help="no colours and tables; for pipes")
    parser.add_argument(
        "--fall-back", "--fall_back", action="store_true", help="where the adapter is damaged, go back to the newest whole state"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--exam", type=Path, metavar="FILE", help="teach and ask the facts of a JSONL file, with a state of its own"
    )
    what.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="tell a session.jsonl again and compare every reply; with --state DIR, keep the chat in a new folder",
    )
    what.add_argument("--make-base", "--make_base", action="store_true", help="make the small base, and stop")
    what.add_argument(
        "--export-adapter", "--export_adapter", type=Path, metavar="DIR", help="write what was learned in peft's format, and stop"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="where the exam's results go")
    parser.add_argument(
        "--chat-turns", "--chat_turns", type=count, metavar="N", help="messages of chat between an exam's teaching and asking (0)"
    )
    parser.set_defaults(do=start_chat, parser=parser)


def start_chat(options: argparse.Namespace) -> int:
    """The work, imported once it is asked for. Raises ConfigError for flags that do not go together."""
    if options.json and not options.exam:
        raise ConfigError("--json is where an exam's results go: give --exam FILE, too")
    if options.chat_turns is not None and not options.exam:
        raise ConfigError("--chat-turns belongs to an exam: give --exam FILE, too")
    if options.state and (options.exam or options.make_base):
        raise ConfigError("--state belongs to a chat or to a replay: an exam has a state of its own")
    if options.fall_back and (options.exam or options.replay or options.make_base):
        raise ConfigError("--fall-back belongs to a chat: an exam and a replay have a state of their own")
    unknown = next((arg for arg in options.rest if "=" not in arg and "debug" not in arg), None)
    if unknown is not None:
        raise ConfigError(f"unknown argument {unknown}; a setting is given as key=value; ockham chat --help lists the flags")
    from ..online.program import run

    return run(options)
