"""Packing and installing presets: hashes tell every change, URLs are https and small, and nothing is replaced unasked."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml

from ockham import presets, sharing
from ockham.__main__ import main
from ockham.errors import PresetError, UsageError, WorldError
from ockham.presets import load_preset, load_preset_file


@pytest.fixture
def home(tmp_path, monkeypatch):
    """presets/ of the test alone."""
    folder = tmp_path / "presets"
    folder.mkdir()
    for path in presets.PRESETS_DIR.glob("*.yaml"):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(presets, "PRESETS_DIR", folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def packed(home):
    """A packed preset and its hash."""
    text, digest = sharing.pack(load_preset("balanced"), "Ada", tags=["finetune"])
    path = home / "shared.yaml"
    path.write_text(text, encoding="utf-8")
    return path, digest


# packing ------------------------------------------------------------------------------------------------------------
def test_a_packed_preset_is_the_preset_with_author_versions_and_hash(packed):
    path, digest = packed
    preset, original = load_preset_file(path), load_preset("balanced")
    assert (preset.specs, preset.hyperparameters) == (original.specs, original.hyperparameters)
    assert preset.tags == ("finetune",)
    assert preset.package["author"] == "Ada"
    assert set(preset.package["tested_with"]) == {"nanogpt-ockham", "torch"}
    assert preset.package["sha256"] == digest


def test_the_hash_is_of_the_values_not_of_their_order_or_comments(packed):
    path, digest = packed
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text("# a comment\n" + yaml.safe_dump(content, sort_keys=True), encoding="utf-8")
    assert sharing.content_sha256(content) == digest
    assert sharing.install(str(path), "other")[1].specs == load_preset("balanced").specs


def test_the_hash_is_that_of_a_hand_written_canonical_json():
    import hashlib

    content = {"plugins": [], "name": "é", "package": {"sha256": "x", "author": "a"}}
    canonical = b'{"name":"\\u00e9","package":{"author":"a"},"plugins":[]}'
    assert sharing.content_sha256(content) == hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize(
    ("old", "new"), [("ratio: 2.0", "ratio: 2.5"), ("author: Ada", "author: Eve"), ("- finetune", "- noisy")]
)
def test_any_changed_value_is_refused(packed, old, new):
    path, _ = packed
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(PresetError, match=r"changed since it was packed: package.sha256 is .*shared.yaml:\d+\)"):
        sharing.install(str(path), "other")
    assert not (presets.PRESETS_DIR / "other.yaml").exists()


# installing ---------------------------------------------------------------------------------------------------------
def test_an_installed_preset_loads_by_name_byte_for_byte(packed, capsys):
    path, digest = packed
    assert main(["preset", "install", str(path), "--as", "hers", "--sha256", digest.upper()]) == 0
    assert (presets.PRESETS_DIR / "hers.yaml").read_bytes() == path.read_bytes()
    assert load_preset("hers").specs == load_preset("balanced").specs
    out = capsys.readouterr().out
    assert "plugins: OckhamGatePlugin, CompressorPlugin" in out
    assert "--preset=hers" in out


def test_another_hash_than_the_one_given_is_refused(packed):
    with pytest.raises(PresetError, match="--sha256 is 00, the content's is"):
        sharing.install(str(packed[0]), "other", sha256="00")


def test_nothing_is_replaced_without_force(packed):
    with pytest.raises(UsageError, match=r"balanced.yaml exists; give another name \(--as NAME\), or replace it \(--force\)"):
        sharing.install(str(packed[0]), "balanced")
    sharing.install(str(packed[0]), "balanced", force=True)
    assert load_preset("balanced").package["author"] == "Ada"


def test_force_replaces_a_link_not_what_it_leads_to(packed, home):
    outside = home / "precious.yaml"
    outside.write_text("precious")
    (presets.PRESETS_DIR / "mine.yaml").symlink_to(outside)
    sharing.install(str(packed[0]), "mine", force=True)
    assert outside.read_text() == "precious"
    assert not (presets.PRESETS_DIR / "mine.yaml").is_symlink()


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "-x", "a b"])
def test_a_name_cannot_leave_the_folder(packed, name):
    with pytest.raises(UsageError, match="a preset's name is letters"):
        sharing.install(str(packed[0]), name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none", "--preset=none means no rack"),
        ("None", "means no rack"),
        ("none.yaml", "means no rack"),
        ("x.yaml.yaml", "without .yaml, got 'x.yaml'"),
        ("x.yml", "without .yaml, got 'x.yml'"),
        ("x.YAML", "without .yaml, got 'x.YAML'"),
    ],
)
def test_a_name_that_preset_would_take_for_another_is_refused(packed, capsys, name, why):
    before = sorted(presets.PRESETS_DIR.iterdir())
    for argv in (["install", str(packed[0]), "--as", name], ["new", name]):
        assert main(["preset", *argv]) == 2
        assert why in capsys.readouterr().err
    assert sorted(presets.PRESETS_DIR.iterdir()) == before


def test_a_file_called_so_asks_for_another_name(packed, home):
    for name in ("none.yaml", "x.yaml.yaml"):
        with pytest.raises(UsageError, match=r"give another.*: --as NAME"):
            sharing.install(str(packed[0].rename(home / name)))
        packed[0].write_bytes((home / name).read_bytes())


def test_a_malformed_file_is_not_installed(home):
    (home / "bad.yaml").write_text("plugins:\n  - type: EQPlugin\n    params: {rate: !!python/object/apply:os.system [ls]}\n")
    with pytest.raises(PresetError, match=r"tags are not allowed.*bad.yaml:3\)"):
        sharing.install("bad.yaml")
    assert not (presets.PRESETS_DIR / "bad.yaml").exists()


def test_a_missing_package_is_named(home):
    (home / "far.yaml").write_text("plugins:\n  - type: FarPlugin\npackage:\n  needs: {FarPlugin: ockham-far 1.2}\n")
    with pytest.raises(PresetError, match=r"unknown plugin type 'FarPlugin'.*it comes from the package ockham-far 1.2: install"):
        sharing.install("far.yaml")


def test_other_versions_are_told(home, capsys):
    (home / "old.yaml").write_text("plugins: []\npackage:\n  tested_with: {torch: 1.0}\n".replace("1.0", "'1.0'"))
    assert main(["preset", "install", "old.yaml"]) == 0
    assert "note: tested with torch 1.0, here is " in capsys.readouterr().out


# the network --------------------------------------------------------------------------------------------------------
@pytest.fixture
def web(monkeypatch, packed):
    """A server on this machine that stands for every https host: pages are {path: (status, headers, body)}."""
    pages = {}

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = pages[self.path]
            self.send_response(status, headers.pop("reason", None))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            for part in body if isinstance(body, list) else [body]:
                self.wfile.write(part)
                if isinstance(body, list):
                    time.sleep(0.02)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    class Plain(urllib.request.HTTPSHandler):
        def https_open(self, request):
            here = lambda host, **kwargs: http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)  # noqa: E731
            return self.do_open(here, request)

    monkeypatch.setattr(urllib.request, "HTTPSHandler", lambda context: Plain())
    monkeypatch.setattr(urllib.request, "ProxyHandler", lambda: urllib.request.BaseHandler())
    yield pages
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_preset_comes_over_https_and_a_redirect_to_https(web, packed):
    web["/a.yaml"] = (302, {"Location": "https://other.example/b/c.yaml"}, b"")
    web["/b/c.yaml"] = (200, {}, packed[0].read_bytes())
    target, _ = sharing.install("https://one.example/a.yaml")
    assert target.name == "a.yaml"
    assert target.read_bytes() == packed[0].read_bytes()


@pytest.mark.parametrize("place", ["http://other.example/b.yaml", "ftp://other.example/b", "file:///etc/passwd", "data:,x"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_is_refused(web, place, status):
    web["/a.yaml"] = (status, {"Location": place}, b"")
    with pytest.raises(WorldError, match=r"redirects to .*which is not https; refused"):
        sharing.install("https://one.example/a.yaml")
    assert not (presets.PRESETS_DIR / "a.yaml").exists()


@pytest.mark.parametrize("url", ["http://one.example/a.yaml", "ftp://x/a.yaml", "file:///etc/passwd"])
def test_only_https_urls_are_asked(home, url):
    with pytest.raises(UsageError, match="from a file or an https URL"):
        sharing.install(url)


def test_more_than_the_cap_is_refused(web):
    web["/a.yaml"] = (200, {}, b"plugins: []\n" + b"#" * 70_000)
    with pytest.raises(PresetError, match="larger than 65536 bytes"):
        sharing.install("https://one.example/a.yaml")


def test_a_page_that_is_not_there_is_an_error_of_the_world(web, capsys):
    web["/a.yaml"] = (404, {}, b"")
    assert main(["preset", "install", "https://one.example/a.yaml"]) == 1
    said = capsys.readouterr().err
    assert "cannot fetch https://one.example/a.yaml: Not Found" in said
    assert said.count("\n") == 1


def test_a_host_that_sends_byte_by_byte_holds_nobody_for_long(web, monkeypatch):
    web["/a.yaml"] = (200, {}, [b"#"] * 50)  # a second in all, each byte well in time
    monkeypatch.setattr(sharing, "TOTAL_S", 0.2)
    start = time.monotonic()
    with pytest.raises(WorldError, match=r"cannot fetch https://one.example/a.yaml: it is not here after 0.2 s; try again"):
        sharing.install("https://one.example/a.yaml")
    assert time.monotonic() - start < 0.8
    assert not (presets.PRESETS_DIR / "a.yaml").exists()


@pytest.mark.parametrize(
    "page",
    [
        (404, {"reason": "Gone \x1b[2J"}, b""),
        (302, {"Location": "http://x/\x1b[2J"}, b""),
        (302, {"Location": "https://[x/"}, b""),
    ],
)
def test_what_a_host_says_cannot_act_on_the_terminal_and_is_one_line(web, capsys, page):
    web["/a.yaml"] = page
    assert main(["preset", "install", "https://one.example/a.yaml"]) == 1
    said = capsys.readouterr().err
    assert said.endswith("\n")
    assert said[:-1].isprintable()


def test_an_unpacked_preset_from_a_url_needs_its_hash(web):
    web["/a.yaml"] = (200, {}, b"plugins: []\n")
    with pytest.raises(PresetError, match="was not packed") as caught:
        sharing.install("https://one.example/a.yaml")
    digest = sharing.content_sha256({"plugins": []})
    assert digest in str(caught.value)
    assert sharing.install("https://one.example/a.yaml", sha256=digest)[0].is_file()


def test_the_real_opener_checks_certificates_and_knows_https_only():
    import ssl

    director = sharing.opener()
    (handler,) = director.handle_open["https"]
    assert handler._context.verify_mode == ssl.CERT_REQUIRED
    assert handler._context.check_hostname
    assert not {"http", "file", "ftp", "data"} & set(director.handle_open)


# the other verbs ----------------------------------------------------------------------------------------------------
def test_pack_writes_a_file_that_validates_and_says_its_hash(home, capsys):
    assert main(["preset", "pack", "ockham_tight", "--author", "Ada", "--tags", "a,b", "--description", "Short"]) == 0
    digest = capsys.readouterr().out.split("sha256: ")[1].strip()
    assert load_preset_file(home / "ockham_tight.packed.yaml").package["sha256"] == digest
    assert main(["preset", "validate", "ockham_tight.packed.yaml", "balanced"]) == 0
    out = capsys.readouterr().out
    assert "ockham_tight.packed.yaml: ok, 4 plugins, sha256 fits" in out
    assert main(["preset", "pack", "ockham_tight"]) == 2
    assert "give another --out=FILE" in capsys.readouterr().err


def test_validate_tells_every_file_and_exits_with_2(home, capsys):
    (home / "a.yaml").write_text("plugins: []\n")
    (home / "b.yaml").write_text("plugins: [{type: X}]\n")
    assert main(["preset", "validate", "a.yaml", "b.yaml", "balanced"]) == 2
    out, err = capsys.readouterr()
    assert out.count(": ok") == 2
    assert "unknown plugin type 'X'" in err


@pytest.mark.parametrize("verb", [["check"], ["preset", "show"]])
def test_a_packed_preset_that_was_changed_is_told_on_stderr(packed, capsys, verb):
    path, _ = packed
    assert main([*verb, str(path)]) == 0
    said, warned = capsys.readouterr()
    assert (bool(said), warned) == (True, "")
    path.write_text(path.read_text(encoding="utf-8").replace("author: Ada", "author: Eve"), encoding="utf-8")
    assert main([*verb, str(path)]) == 0
    said, warned = capsys.readouterr()
    assert said
    assert warned.startswith("warning: changed since it was packed: package.sha256 is ")
    assert warned.count("\n") == 1


@pytest.mark.parametrize(
    "argv", [["check", "none"], ["preset", "show", "none"], ["preset", "diff", "balanced", "none"], ["preset", "pack", "none"]]
)
def test_none_is_no_preset_and_is_said_to_mean_no_rack(home, capsys, argv):
    assert main(argv) == 2
    assert "none means no rack: there is nothing to show" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named_as_it_was_typed(home, capsys):
    assert main(["preset", "validate", "nofile.yaml"]) == 2
    assert "no preset 'nofile.yaml'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["install", "http://example.org/balanced.yaml"], "from a file or an https URL"),
        (["pack", "balanced", "--tags", "a\nb", "--out", "balanced.yaml"], "a tag must be on one line"),
    ],
)
def test_what_is_written_wrong_is_said_before_what_is_there(home, capsys, argv, said):
    (home / "balanced.yaml").touch()
    assert main(["preset", *argv]) == 2
    assert said in capsys.readouterr().err


def test_pack_makes_no_folders(home, capsys):
    assert main(["preset", "pack", "balanced", "--out", "no/x.yaml"]) == 1
    assert "there is no folder no; make it first" in capsys.readouterr().err


def test_a_plugin_type_that_is_not_installed_says_what_to_do(home, capsys):
    (home / "far.yaml").write_text("plugins:\n  - type: FarPlugin\n")
    assert main(["check", "far.yaml"]) == 2
    assert "or install the package that offers it" in capsys.readouterr().err


def test_list_shows_the_presets_of_a_use(home, capsys):
    assert main(["preset", "list", "--for", "finetune"]) == 0
    out = capsys.readouterr().out
    assert "ockham_tight" in out
    assert "exploratory" not in out
    (presets.PRESETS_DIR / "calm.yaml").write_text("plugins: []\ntags: [noisy]\n")
    main(["preset", "list", "--for", "noisy"])
    assert "calm" in capsys.readouterr().out


def test_a_use_that_no_preset_is_tagged_for_says_what_is_known(home, capsys):
    (presets.PRESETS_DIR / "stream_noisy.yaml").unlink()
    assert main(["preset", "list", "--for", "noisy"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "no preset is tagged noisy: none was measured to help there; `ockham preset suggest` tries them on your data\n"
    )


def test_a_file_that_cannot_be_used_is_a_line_and_the_others_are_listed(home, capsys):
    main(["preset", "list"])
    before = capsys.readouterr().out
    (presets.PRESETS_DIR / "torn.yaml").write_text("plugins: []\nhyperparameters: {lr: 1}\n")
    (presets.PRESETS_DIR / "void.yaml").write_bytes(b"\xff")
    assert main(["preset", "list"]) == 0
    out, err = capsys.readouterr()
    assert out == before
    torn, void = err.splitlines()
    assert torn.startswith("torn cannot be used: unknown hyperparameters key 'lr'")
    assert torn.endswith("torn.yaml:2)")
    assert void.startswith("void cannot be used: not UTF-8")


def test_a_description_of_several_lines_is_one_in_the_list(home, capsys):
    (presets.PRESETS_DIR / "calm.yaml").write_text("plugins: []\ntags: [noisy]\ndescription: |\n  One.\n  Two.\n")
    main(["preset", "list", "--for", "noisy"])
    assert "  One. Two. [noisy]\n" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "tried"), [([], "none,balanced"), (["--presets=none,torn"], "none,torn")])
def test_suggest_leaves_out_a_file_that_cannot_be_used_and_says_so(home, capsys, monkeypatch, given, tried):
    for name in sorted({path.stem for path in presets.PRESETS_DIR.glob("*.yaml")} - {"balanced"}):
        (presets.PRESETS_DIR / f"{name}.yaml").unlink()
    (presets.PRESETS_DIR / "torn.yaml").write_text("plugins: 3\n")
    asked = []
    monkeypatch.setattr("ockham.experiment.suggest.suggest", lambda options: asked.append(options.presets) or 0)
    assert main(["preset", "suggest", *given, "config/train_shakespeare_char_cpu.py"]) == 0
    assert asked == [tried]
    said = capsys.readouterr().err
    assert said.startswith("torn is left out, it cannot be used: plugins must be a list") is not given
    assert bool(said) is not bool(given)


@pytest.mark.parametrize("source", ["balanced", "exploratory", "production_balanced"])
def test_a_new_preset_is_commented_validates_and_differs_in_nothing(home, capsys, source):
    assert main(["preset", "new", "mine", "--from", source]) == 0
    mine = load_preset("mine")
    original = load_preset(source)
    assert (mine.specs, mine.hyperparameters, mine.memory) == (original.specs, original.hyperparameters, original.memory)
    assert mine.description == f"copy of {source}: {original.description}"
    assert "# learning-rate gain of each band" in mine.path.read_text()
    capsys.readouterr()
    main(["preset", "diff", source, "mine"])
    assert capsys.readouterr().out == "no difference\n"
    assert main(["preset", "new", "mine"]) == 2


@pytest.mark.parametrize("source", [path.stem for path in sorted(presets.PRESETS_DIR.glob("*.yaml"))])
def test_a_plugin_can_be_appended_to_a_new_preset(home, source):
    assert main(["preset", "new", "mine", "--from", source]) == 0
    mine = load_preset("mine")
    text = mine.path.read_text().replace("plugins: []", "plugins:")
    mine.path.write_text(text + "\n  - type: LoggerPlugin\n    name: appended\n")
    more = load_preset("mine")
    assert [spec["name"] for spec in more.specs] == [*(spec["name"] for spec in mine.specs), "appended"]
    assert (more.memory, more.anchor, more.replay) == (mine.memory, mine.anchor, mine.replay)


def test_diff_names_every_kind_of_difference(home, capsys):
    (home / "a.yaml").write_text(
        "hyperparameters: {learning_rate: 1}\nplugins:\n  - {type: EQPlugin}\n"
        "  - {type: LimiterPlugin}\n  - {type: LoggerPlugin}\n"
    )
    (home / "b.yaml").write_text(
        "hyperparameters: {lambda_ockham: 1}\nplugins:\n  - {type: LimiterPlugin, enabled: false}\n"
        "  - {type: EQPlugin, params: {bands: {easy: 2}}}\n  - {type: SaturationPlugin}\n"
    )
    assert main(["preset", "diff", "a.yaml", "b.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "- hyperparameters.learning_rate = 1.0",
        "+ hyperparameters.lambda_ockham = 1.0",
        "- plugin logger (LoggerPlugin)",
        "+ plugin saturation (SaturationPlugin), place 3",
        "~ order: eq, limiter -> limiter, eq",
        "~ eq.bands.easy: 0.5 -> 2.0",
        "- eq.bands.medium = 1.0",
        "- eq.bands.hard = 1.5",
        "~ limiter.enabled: true -> false",
    ]


@pytest.mark.parametrize("verb", ["list", "show", "diff", "new", "validate", "pack", "install", "suggest"])
def test_every_verb_has_help(capsys, verb):
    assert main(["preset", verb, "--help"]) == 0
    assert f"usage: ockham preset {verb}" in capsys.readouterr().out
