"""The chat itself: reads a line, gives the reply, says what was learned and why."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from ..errors import ConfigError, OckhamError, nearest
from .chat_lines import counted, fact_line, metric_line, told_lines, untaken_line, waiting_line, why_lines
from .session import Session
from .trainer import Turn

HELP = (
    ("/facts", "what is known, and what waits for your word"),
    ("/why ID", "where a fact comes from, and what learning it did; /why ID TEXT: whether TEXT is what was forgotten"),
    ("/confirm [ID]", "learn a fact that waits; /reject ID drops it"),
    ("/learn TEXT", "learn a statement, whatever it looks like"),
    ("/undo", "back to before the last fact, byte for byte"),
    ("/forget ID", "rebuild everything without a fact; nothing of it stays"),
    ("/exam [FILE]", "ask all that was learned; with FILE an exam, beside this chat"),
    ("/metrics", "stability, plasticity and forgetting so far"),
    ("/export FILE", "all facts as JSON lines"),
    ("/save DIR", "a copy of the whole state"),
    ("/quit", "end; so does Ctrl-D; Ctrl-C drops the line, or the message that is being taken"),
)
TAKEN = ("/confirm", "/reject", "/learn", "/undo")  # by the session itself
WIDE = 1000  # columns; no row of figures is so long
ENDS = ("/quit", "/exit")
ALONE = ("/help", "/facts", "/metrics", "/undo", *ENDS)  # commands that stand alone in their line


class Chat:
    """A chat in a terminal (rich), or over pipes (`is_plain`: replies on stdout, all else on stderr)."""

    def __init__(self, session: Session, is_plain: bool):
        self.session, self.is_plain = session, is_plain
        self.console = Console(stderr=is_plain, no_color=is_plain, highlight=False, soft_wrap=True)
        self.commands: dict[str, Callable[[str], None]] = {
            "/help": self._help, "/facts": self._facts, "/why": self._why, "/forget": self._forget, "/exam": self._exam,
            "/metrics": self._metrics, "/export": self._export, "/save": self._save,
        }  # fmt: skip
        self.code = 0
        self._past: Any = None  # what the arrow keys bring back; nothing after a /forget or a /reject

    def run(self) -> int:
        """Until the end of the input or /quit; the exit code: over pipes that of the first message that was refused, else 0."""
        for line in self.session.recovered:
            self._note(line)
        active, waiting = self._counts()
        self._note(f"{counted(active, 'fact')} known, {waiting} waiting; /help lists the commands")
        for text in self._lines():
            if text.strip() in ENDS:
                break
            try:
                self._take(text)
            except OckhamError as error:
                self.code = self.code or (error.exit_code if self.is_plain else 0)
                self._note(f"error: {' '.join(str(error).split())}", style="red")
            except KeyboardInterrupt:
                if self.is_plain:
                    raise
                self._note("interrupted; the message was not taken")
        return self.code

    def _lines(self) -> Iterator[str]:
        if self.is_plain:
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")  # what is no text is refused
            yield from (line.removesuffix("\n").removesuffix("\r") for line in sys.stdin if line.strip())
            return
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import InMemoryHistory

        words = [usage.split()[0] for usage, _ in HELP] + ["/reject"]
        completer = WordCompleter(words, sentence=True)
        while True:
            if self._past is None:
                self._past = InMemoryHistory()
            prompt: PromptSession[str] = PromptSession("you: ", completer=completer, history=self._past)
            try:
                if (text := prompt.prompt()).strip():
                    yield text
            except KeyboardInterrupt:
                continue
            except EOFError:
                return

    def _take(self, text: str) -> None:
        verb, _, rest = text.strip().replace("\t", " ").partition(" ")
        if verb in ALONE and rest.strip():
            raise ConfigError(f"{verb} takes nothing behind it, got {rest.strip()[:40]!r}; type {verb} alone")
        if verb in self.commands:
            self.commands[verb](rest.strip())
        elif verb.startswith("/") and verb not in TAKEN:
            raise ConfigError(f"unknown command {verb}{nearest(verb, [*self.commands, *TAKEN, *ENDS])}; /help lists them")
        else:
            self._show(self.session.say(text))
            self._past = None if verb == "/reject" else self._past

    def _show(self, turn: Turn) -> None:
        if turn.reply and self.is_plain:
            print(turn.reply, flush=True)
        elif turn.reply:
            self.console.print(f"[bold]model:[/bold] {escape(turn.reply)}")
        elif self.is_plain and turn.kind not in ("command",):
            print(flush=True)
        for record in turn.facts:
            self._note(told_lines(record))
        for entry in turn.waiting:
            self._note(waiting_line(entry), style="yellow")
        for note in turn.notes:
            self._note(note)
        self._note(untaken_line(turn))
        self._note(metric_line(turn))

    def _note(self, text: str, style: str = "dim") -> None:
        if text:
            self.console.print(escape(text), style=None if self.is_plain else style)

    def _counts(self) -> tuple[int, int]:
        return len(self._in_state("active")), len(self._in_state("pending"))

    def _in_state(self, state: str) -> set[int]:
        return {row.id for row in self.session.facts() if row.state == state}

    # commands -----------------------------------------------------------------------------------------------------------
    def _help(self, rest: str) -> None:
        for usage, about in HELP:
            self._note(f"{usage:<14} {about}")

    def _facts(self, rest: str) -> None:
        rows = self.session.facts()
        if not rows:
            self._note("no facts yet: tell one, as in Tom is my friend.")
        for row in rows:
            self._note(fact_line(row))

    def _why(self, rest: str) -> None:
        if not rest:
            raise ConfigError("/why needs an id, as /facts shows it: /why f1")
        id, _, text = rest.partition(" ")
        if text.strip():
            is_it = self.session.was_forgotten(id, text)
            self._note(f"{id}: this is what was forgotten" if is_it else f"{id}: that is not it, or in other words")
            return
        for line in why_lines(self.session.why(id)):
            self._note(line)

    def _forget(self, rest: str) -> None:
        if not rest:
            raise ConfigError("/forget needs an id, as /facts shows it: /forget f1")
        self.session.why(rest)  # raises for an unknown id
        self._note("rebuilding without it ...")
        before = self._in_state("pending")
        self._past = None
        done = self.session.forget(rest)
        gone = f"{counted(len(done.turns), 'turn')} that told or mentioned it {'is' if len(done.turns) == 1 else 'are'}"
        self._note(f"forgotten: {rest}; {gone} gone from the log")
        for id in self._in_state("pending") - before:
            self._note(f"f{id} was not learned again without it, and waits: /confirm f{id} tries once more", style="yellow")
        for copy in done.copies:
            self._note(f"the copy in {copy} still has it", style="yellow")

    def _exam(self, rest: str) -> None:
        from .quiz import file_exam, quiz

        for line in file_exam(self.session, Path(rest), self._note) if rest else quiz(self.session):
            self._note(line)

    def _metrics(self, rest: str) -> None:
        summary = self.session.trainer.metrics_now().summary()
        if self.is_plain:
            for name, row in summary.items():
                self._note(f"{name}: last {row['last']:.4g}, mean {row['mean']:.4g}, {row['min']:.4g} to {row['max']:.4g}")
            return
        table = Table("figure", "last", "mean", "min", "max")  # as wide as it is: a terminal wraps it, nothing is cut
        for name, row in summary.items():
            table.add_row(name, *(f"{row[key]:.4g}" for key in ("last", "mean", "min", "max")))
        table.width = Measurement.get(self.console, self.console.options.update(max_width=WIDE), table).maximum
        self.console.print(table, crop=False)

    def _export(self, rest: str) -> None:
        if not rest:
            raise ConfigError("/export needs a file: /export facts.jsonl")
        self._note(f"{counted(self.session.export(Path(rest)), 'fact')} in {rest}")

    def _save(self, rest: str) -> None:
        if not rest:
            raise ConfigError("/save needs a new folder: /save my-chat")
        self.session.save(Path(rest))
        self._note(f"saved in {rest}; ockham chat --state {rest} goes on from there")
