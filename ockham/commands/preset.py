"""`ockham preset`: list, show, compare, make, check, share and try rack presets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import PresetError, UsageError
from .check import find_preset, warn_if_changed

PURPOSES = ("finetune", "scratch", "stream", "noisy")


def add_preset(verbs: Any) -> None:
    """The verb `preset` and what belongs under it."""
    from ..experiment.suggest_flags import add_suggest

    what = verbs.add_parser("preset", help="the rack presets").add_subparsers(required=True, metavar="WHAT")
    listing = what.add_parser("list", help="the presets, a line each; exit code 0 also where a file in presets/ cannot be used")
    listing.add_argument("--for", dest="purpose", choices=PURPOSES, help="only those tagged for this use")
    show = what.add_parser("show", help="one preset: its plugins, their parameters, its hyperparameters")
    diff = what.add_parser("diff", help="what differs between two presets")
    diff.add_argument("a", metavar="A", help="a preset's name or path")
    diff.add_argument("b", metavar="B", help="another one")
    new = what.add_parser("new", help="write presets/NAME.yaml, every value with its meaning beside it")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--from", dest="source", default="balanced", metavar="PRESET", help="whose values it starts with (balanced)")
    validate = what.add_parser("validate", help="check preset files, hashes included; a line each")
    validate.add_argument("files", nargs="+", metavar="FILE", help="paths or names of presets")
    for parser, do in ((listing, listed), (show, shown), (diff, compared), (new, made), (validate, validated)):
        parser.set_defaults(do=do, parser=parser)
    show.add_argument("name")
    _add_sharing(what)
    add_suggest(what)
    what.choices["suggest"].set_defaults(do=suggested)


def _add_sharing(what: Any) -> None:
    pack = what.add_parser("pack", help="one file to share: the preset, its author, tested versions, a sha256")
    pack.add_argument("name", metavar="NAME")
    pack.add_argument("--author", default="", help="who made it")
    pack.add_argument("--description", help="instead of the preset's own")
    pack.add_argument("--tags", metavar="A,B,...", help="instead of the preset's own")
    pack.add_argument("--out", type=Path, metavar="FILE", help="where to write it (NAME.packed.yaml)")
    pack.set_defaults(do=packed, parser=pack)
    install = what.add_parser("install", help="check a preset and put it into presets/; nothing in it is run")
    install.add_argument("source", metavar="FILE|URL", help="a file, or an https URL")
    install.add_argument("--as", dest="name", metavar="NAME", help="its name here (that of the file)")
    install.add_argument("--sha256", metavar="HASH", help="what `ockham preset pack` printed for its author")
    install.add_argument("--force", action="store_true", help="replace a preset of that name")
    install.set_defaults(do=installed, parser=install)


def listed(options: argparse.Namespace) -> int:
    """Print the presets, or those with a tag; a file that cannot be used is a line on stderr and ends nothing."""
    from ..presets import usable_presets

    presets, errors = usable_presets()
    chosen = [preset for preset in presets if options.purpose in (None, *preset.tags)]
    width = max((len(preset.name) for preset in presets), default=0)
    for preset in chosen:
        print(f"{preset.name:{width}s}  {' '.join(preset.description.split())} [{', '.join(preset.tags)}]")
    for name, error in errors.items():
        print(f"{name} cannot be used: {error}", file=sys.stderr)
    if options.purpose and not chosen:
        print(
            f"no preset is tagged {options.purpose}: none was measured to help there; "
            "`ockham preset suggest` tries them on your data",
            file=sys.stderr,
        )
    return 0


def suggested(options: argparse.Namespace) -> int:
    """Rank the presets that were named, or else none and all that can be used, saying which cannot."""
    from ..experiment.suggest_flags import make_suggestion
    from ..presets import usable_presets

    if options.presets is None:
        presets, errors = usable_presets()
        for name, error in errors.items():
            print(f"{name} is left out, it cannot be used: {error}", file=sys.stderr)
        begins_anew = not any("init_from=" in word for word in options.rest)
        for preset in [preset for preset in presets if preset.replay and begins_anew]:
            print(f"{preset.name} is left out: it keeps what a model knows, so give it one (--init_from=RUN)", file=sys.stderr)
            presets.remove(preset)
        options.presets = ",".join(["none", *(preset.name for preset in presets)])
    return make_suggestion(options)


def shown(options: argparse.Namespace) -> int:
    """Print one preset."""
    import yaml

    from ..presets import ROOMS

    preset = find_preset(options.name)
    warn_if_changed(preset)
    print(f"{preset.title}: {preset.description}")
    plain: dict[str, Any] = {"hyperparameters": dict(preset.hyperparameters), "plugins": [dict(spec) for spec in preset.specs]}
    plain |= {key: value for key in (*ROOMS, "package") if (value := getattr(preset, key)) is not None}
    print(yaml.safe_dump(plain, sort_keys=False), end="")
    return 0


def compared(options: argparse.Namespace) -> int:
    """Print what differs: + only in B, - only in A, ~ in both."""
    from .preset_text import differences

    found = differences(find_preset(options.a), find_preset(options.b))
    print(*(found or ["no difference"]), sep="\n")
    return 0


def made(options: argparse.Namespace) -> int:
    """Write a new preset file. Raises UsageError when it exists."""
    from .. import presets
    from ..files import write_text
    from .preset_text import commented

    target = presets.PRESETS_DIR / f"{_plain_name(options.name, 'ockham preset new NAME')}.yaml"
    if target.exists():
        raise UsageError(f"{target} exists; choose another name, or edit it")
    write_text(target, commented(target.stem, find_preset(options.source)))
    presets.load_preset(target.stem)
    print(f"written: {target}; ockham check {target.stem} tells what it does")
    return 0


def validated(options: argparse.Namespace) -> int:
    """Print 'ok' or the error of each file; 2 when any cannot be used."""
    from ..document import Document
    from ..sharing import check_hash

    failed = 0
    for name in options.files:
        try:
            preset = find_preset(name)
            has_hash = check_hash(Document(preset.path))
            print(f"{name}: ok, {len(preset.specs)} plugins{', sha256 fits' if has_hash else ''}")
        except PresetError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    return PresetError.exit_code if failed else 0


def packed(options: argparse.Namespace) -> int:
    """Write the packed preset, and print its hash."""
    from ..files import check_target, write_text
    from ..sharing import pack

    preset = find_preset(options.name)
    tags = [tag.strip() for tag in options.tags.split(",") if tag.strip()] if options.tags is not None else None
    text, digest = pack(preset, options.author, options.description, tags)
    target = options.out or Path(f"{preset.name}.packed.yaml")
    if target.exists():
        raise UsageError(f"{target} exists; give another --out=FILE")
    check_target("--out", target)
    write_text(target, text)
    print(f"written: {target}\nsha256: {digest}")
    return 0


def installed(options: argparse.Namespace) -> int:
    """Check and keep a preset from elsewhere."""
    from ..plugins.entry import distribution_of
    from ..sharing import foreign_types, install, version_notes

    name = _plain_name(options.name, "--as NAME") if options.name else None
    target, preset = install(options.source, name, options.sha256, options.force)
    foreign = foreign_types(preset)
    print(f"written: {target}")
    print(f"plugins: {', '.join(spec['type'] for spec in preset.specs) or 'none'}")
    print(*(f"{kind} is run from the package {distribution_of(kind)}" for kind in foreign), sep="\n", end="\n" if foreign else "")
    print(*(f"note: {note}" for note in version_notes(preset)), f"use it: --preset={target.stem}", sep="\n")
    return 0


def _plain_name(name: str, given_by: str) -> str:
    """A name that may be given with its .yaml, without it. Raises UsageError."""
    from ..sharing import check_name

    check_name(stem := name.removesuffix(".yaml"), given_by)
    return stem
