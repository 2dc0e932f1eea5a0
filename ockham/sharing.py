"""Sharing presets: `pack` makes one YAML that says who made it and what it holds, `install` checks such a file and keeps it.

A packed preset is a preset with a `package:` block: author, tested_with (versions), needs (packages of plugins that are not
ours) and sha256, the hash of everything else in the file as canonical JSON. The hash tells damage and edits from the original;
who made it, only a hash that came by another way can tell (`--sha256`). Nothing in the file is run.
"""

from __future__ import annotations

import copy
import hashlib
import http.client
import json
import queue
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import yaml

from . import presets
from .document import MAX_BYTES, Document, shown
from .errors import PresetError, UsageError, WorldError
from .files import write_whole
from .plugins import PLUGINS
from .plugins.entry import distribution_of

TESTED_WITH = ("nanogpt-ockham", "torch")
TIMEOUT_S = 20.0  # of one read
TOTAL_S = 30.0  # of the whole download, redirects included
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def content_sha256(content: Mapping[str, Any]) -> str:
    """sha256 of a preset's values as canonical JSON (keys sorted, no blanks, ASCII), package.sha256 itself left out."""
    plain = copy.deepcopy(dict(content))
    if isinstance(plain.get("package"), dict):
        plain["package"].pop("sha256", None)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def pack(
    preset: presets.Preset, author: str = "", description: str | None = None, tags: Sequence[str] | None = None
) -> tuple[str, str]:
    """The packed preset's text, and its sha256. Raises PresetError."""
    content = dict(Document(preset.path).content)
    if description is not None:
        content["description"] = description
    if tags is not None:
        content["tags"] = list(tags)
    needs = {kind: distribution_of(kind) or "" for kind in foreign_types(preset)}
    tested_with = {name: found for name in TESTED_WITH if (found := _version(name))}
    content["package"] = {"author": author, "tested_with": tested_with, **({"needs": needs} if needs else {})}
    packed = Document(Path(f"{preset.name}.yaml"), _dump(content).encode())  # as it will be read
    digest = content_sha256(packed.content)
    content["package"]["sha256"] = digest
    presets.read_preset(Document(packed.path, _dump(content).encode()))
    return _dump(content), digest


def foreign_types(preset: presets.Preset) -> list[str]:
    """The plugin types that come from other packages."""
    return sorted({spec["type"] for spec in preset.specs if spec["type"] not in PLUGINS})


def check_hash(document: Document, wanted: str | None = None) -> bool:
    """Whether the document carries a hash or was given one, which then fits. Raises PresetError where it does not."""
    package = document.content.get("package") if isinstance(document.content, dict) else None
    carried = package.get("sha256") if isinstance(package, dict) else None
    for stated, source in ((carried, "package.sha256"), (wanted and wanted.lower(), "--sha256")):
        if stated is not None and stated != (found := content_sha256(document.content)):
            path = ("package", "sha256") if source == "package.sha256" else ()
            document.fail(path, f"changed since it was packed: {source} is {stated}, the content's is {found}; get it again")
    return carried is not None or wanted is not None


def install(source: str, name: str | None = None, sha256: str | None = None, force: bool = False) -> tuple[Path, presets.Preset]:
    """Checks the preset in a file or at an https URL and writes it, byte for byte, to presets/NAME.yaml.

    From a URL it must carry its hash or be given one. Raises UsageError, PresetError; WorldError when it cannot be fetched.
    """
    is_url = "://" in source
    if is_url:
        check_url(source)
    name = name or Path(urlsplit(source).path if is_url else source).stem
    check_name(name, "--as NAME")
    target = presets.PRESETS_DIR / f"{name}.yaml"
    if (target.exists() or target.is_symlink()) and not force:
        raise UsageError(f"{shown(target)} exists; give another name (--as NAME), or replace it (--force)")
    document = Document(Path(source), fetch(source) if is_url else None)
    preset = readable(document)
    if not check_hash(document, sha256) and is_url:
        raise PresetError(
            f"{source} was not packed (no package.sha256), so a damaged copy would not show; pack it, or give --sha256="
            f"HASH if you know it to be {content_sha256(document.content)}"
        )
    target.unlink(missing_ok=True)  # a link would lead elsewhere
    write_whole(target, document.raw)
    return target, preset


def check_url(url: str) -> None:
    """Raises UsageError for any scheme but https."""
    if urlsplit(url).scheme.lower() != "https":
        raise UsageError(f"a preset is installed from a file or an https URL, got {url}")


def check_name(name: str, given_by: str) -> None:
    """Raises UsageError for a name that a preset cannot have, or that --preset would take for another one."""
    if not NAME.fullmatch(name):
        raise UsageError(f"a preset's name is letters, digits, '_', '-' and '.', got {name!r}; give another: {given_by}")
    if name.lower() == "none":
        raise UsageError(f"a preset cannot be called {name!r}: --preset=none means no rack; give another name: {given_by}")
    if name.lower().endswith((".yaml", ".yml")):
        raise UsageError(f"a preset's name is without .yaml, got {name!r}; give another: {given_by}")


def readable(document: Document) -> presets.Preset:
    """The preset, strictly checked; a plugin type that is not installed is told with the package that has it."""
    try:
        return presets.read_preset(document)
    except PresetError as error:
        package = document.content.get("package") if isinstance(document.content, dict) else None
        needs = package.get("needs") if isinstance(package, dict) else None
        for kind, source in needs.items() if isinstance(needs, dict) else ():
            if f"unknown plugin type {kind!r}" in str(error):
                raise PresetError(f"{error}; it comes from the package {source}: install that first") from error
        raise


def version_notes(preset: presets.Preset) -> list[str]:
    """'tested with torch 2.12.0, here is 2.13.0' for each version that differs."""
    tested = (preset.package or {}).get("tested_with", {})
    return [f"tested with {n} {v}, here is {_version(n) or 'none'}" for n, v in tested.items() if v != _version(n)]


# ------------------------------------------------------------------------------------------------------------- the network


def fetch(url: str) -> bytes:
    """What the https URL gives, at most MAX_BYTES within TOTAL_S. Raises UsageError for another scheme, WorldError when it fails.

    A timeout of sockets holds for each read, so a host that sends byte by byte would hold us for days: a thread reads.
    """
    check_url(url)
    answers: queue.SimpleQueue[bytes | WorldError] = queue.SimpleQueue()
    threading.Thread(target=_download, args=(url, answers), daemon=True).start()
    try:
        raw = answers.get(timeout=TOTAL_S)
    except queue.Empty:
        raise WorldError(f"cannot fetch {url}: it is not here after {TOTAL_S:g} s; try again, or install a file") from None
    if isinstance(raw, WorldError):
        raise raw
    if len(raw) > MAX_BYTES:
        raise PresetError(f"{url} is larger than {MAX_BYTES} bytes, the most a preset may have")
    return raw


def _download(url: str, answers: queue.SimpleQueue[bytes | WorldError]) -> None:
    """Puts what the URL gives, or why it gives nothing."""
    try:
        with opener().open(url, timeout=TIMEOUT_S) as answer:
            answers.put(answer.read(MAX_BYTES + 1))
    except WorldError as error:
        answers.put(WorldError(str(error)))
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer, too
        answers.put(WorldError(f"cannot fetch {url}: {_seen(getattr(error, 'reason', None) or error)}"))


def _seen(text: object) -> str:
    """What a host said, with its control characters written out: a terminal would act on them."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def opener() -> urllib.request.OpenerDirector:
    """Opens https and nothing else, also after a redirect; certificates are checked."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        HttpsRedirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        director.add_handler(handler)
    return director


class HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme.lower() != "https":
            _refuse(req.full_url, newurl, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        place = headers.get("location") or headers.get("uri") or ""
        if urlsplit(place).scheme.lower() not in ("", "https"):  # the base class has an error of its own for some of these
            _refuse(req.full_url, place, fp)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _refuse(url: str, place: str, answer: Any) -> NoReturn:
    answer.close()
    raise WorldError(f"{_seen(url)} redirects to {_seen(place)}, which is not https; refused")


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
