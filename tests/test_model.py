"""model.py against a reference written here with plain tensor operations, hand-worked cases, and transformers where present."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import pretrained
from model import GPT, GPTConfig, LayerCache, sample_token

ROOT = Path(__file__).resolve().parents[1]
TINY = GPTConfig(block_size=16, vocab_size=31, n_layer=2, n_head=4, n_embd=32, bias=True)


def make(seed: int = 0, noise: float = 0.1, **changes) -> GPT:
    """A tiny model whose every weight is random, gains and biases included, so that none of them can be forgotten unseen."""
    torch.manual_seed(seed)
    model = GPT(dataclasses.replace(TINY, **changes)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * noise)
    return model


def talker(seed: int = 0, **changes) -> GPT:
    """A tiny model whose context matters: most tied, untrained models repeat their last token for ever."""
    return make(seed, noise=0.4, **changes)


def tokens(B: int, T: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(TINY.vocab_size, (B, T), generator=torch.Generator().manual_seed(seed))


def reference_logits(state: dict[str, torch.Tensor], args: dict, x: torch.Tensor) -> torch.Tensor:
    """GPT's logits at every position from nanoGPT's names, one head and one formula at a time."""

    def norm(h, name):
        mean, var = h.mean(-1, keepdim=True), h.var(-1, keepdim=True, unbiased=False)
        return (h - mean) / (var + 1e-5).sqrt() * state[name + ".weight"] + state.get(name + ".bias", 0.0)

    def linear(h, name):
        return h @ state[name + ".weight"].T + state.get(name + ".bias", 0.0)

    T, C, nh = x.size(1), args["n_embd"], args["n_head"]
    hs = C // nh
    future = torch.ones(T, T).triu(1).bool()
    h = state["transformer.wte.weight"][x] + state["transformer.wpe.weight"][:T]
    for i in range(args["n_layer"]):
        at = f"transformer.h.{i}."
        qkv = linear(norm(h, at + "ln_1"), at + "attn.c_attn")
        heads = []
        for j in range(nh):
            q, k, v = (qkv[..., part * C + j * hs : part * C + (j + 1) * hs] for part in range(3))
            scores = (q @ k.transpose(1, 2) / math.sqrt(hs)).masked_fill(future, -math.inf)
            heads.append(torch.softmax(scores, -1) @ v)
        h = h + linear(torch.cat(heads, -1), at + "attn.c_proj")
        u = linear(norm(h, at + "ln_2"), at + "mlp.c_fc")
        h = h + linear(u * 0.5 * (1 + torch.erf(u / math.sqrt(2))), at + "mlp.c_proj")
    return norm(h, "transformer.ln_f") @ state["lm_head.weight"].T


def nanogpt_names(n_layer: int, bias: bool) -> set[str]:
    norms = ["ln_1", "ln_2"]
    linears = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    kinds = ["weight", "bias"] if bias else ["weight"]
    names = {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"} | {f"transformer.ln_f.{k}" for k in kinds}
    return names | {f"transformer.h.{i}.{part}.{k}" for i in range(n_layer) for part in norms + linears for k in kinds}


# --- the forward pass


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt_state_dict_gives_the_reference_logits(bias):
    state, args = make(3, bias=bias).state_dict(), dataclasses.asdict(dataclasses.replace(TINY, bias=bias))
    loaded = GPT.from_checkpoint({"model": {"_orig_mod." + k: v for k, v in state.items()}, "model_args": args}).eval()
    x = tokens(3, 16)
    expected = reference_logits(state, args, x)
    logits, _ = loaded(x, x)
    assert expected.std() > 0.5  # the comparison is about numbers that vary
    assert (logits - expected).abs().max() <= 1e-5
    last, loss = loaded(x)
    assert last.shape == (3, 1, 31)
    assert loss is None
    assert (last[:, 0] - expected[:, -1]).abs().max() <= 1e-5


@pytest.mark.parametrize("bias", [True, False])
def test_state_dict_has_nanogpts_names_and_linear_layout(bias):
    state = make(bias=bias).state_dict()
    assert set(state) == nanogpt_names(2, bias)
    assert state["transformer.h.0.attn.c_attn.weight"].shape == (96, 32)
    assert state["transformer.h.0.mlp.c_fc.weight"].shape == (128, 32)


def test_embedding_and_head_are_one_tensor_counted_once():
    model = GPT(TINY)
    assert model.lm_head.weight is model.transformer["wte"].weight
    C, V, T = 32, 31, 16
    block = (3 * C * C + 3 * C) + (C * C + C) + 2 * (4 * C * C) + 4 * C + C + 4 * C
    assert model.num_params(non_embedding=False) == V * C + T * C + 2 * block + 2 * C
    assert model.num_params() == V * C + 2 * block + 2 * C


def test_loss_is_the_mean_over_targets_that_are_not_ignored():
    model, x, y = make(), tokens(2, 8), tokens(2, 8, seed=2)
    y[0, :5] = -1
    logits, loss = model(x, y)
    chosen = torch.log_softmax(logits.double(), -1).gather(-1, y.clamp(min=0)[..., None])[..., 0]
    assert loss.item() == pytest.approx(-chosen[y != -1].mean().item(), abs=1e-6)


def test_loss_is_float32_under_autocast_and_float64_for_a_double_model():
    model, x = make(), tokens(2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        logits, loss = model(x, x)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert model.bfloat16()(x, x)[1].dtype == torch.float32
    assert make().double()(x, x)[1].dtype == torch.float64


def test_no_position_sees_a_later_token():
    model, x = make(), tokens(1, 12)
    changed = x.clone()
    changed[0, 7] = (x[0, 7] + 1) % 31
    before, after = model(x, x)[0], model(changed, x)[0]
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_dropout_acts_in_training_only():
    model, x = make(dropout=0.5), tokens(2, 8)
    assert torch.equal(model(x, x)[0], model(x, x)[0])
    model.train()
    assert not torch.equal(model(x, x)[0], model(x, x)[0])


def test_initial_weights_follow_gpt2():
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=64, vocab_size=256, n_layer=8, n_head=4, n_embd=128))
    for name, p in model.named_parameters():
        if name.endswith(".bias"):
            assert not p.any(), name
        elif p.ndim == 1:
            assert (p == 1).all(), name
        else:
            std = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02  # √(2·8) = 4
            assert p.std().item() == pytest.approx(std, rel=0.04), name
    assert model(torch.randint(256, (4, 64)), torch.randint(256, (4, 64)))[1].item() == pytest.approx(math.log(256), abs=0.1)


# --- config and checkpoints


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_head": 5}, "multiple of n_head"),
        ({"n_layer": 0}, "n_layer"),
        ({"dropout": 1.0}, "dropout"),
        ({"vocab_size": 3.5}, "vocab_size"),
    ],
)
def test_a_shape_that_cannot_be_built_is_named(changes, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(TINY, **changes)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.n_layer = 3  # type: ignore[misc]


@pytest.mark.parametrize("shape", [(1, 17), (1, 0), (4,)])
def test_forward_refuses_what_does_not_fit_the_block(shape):
    with pytest.raises(ValueError, match="block_size=16"):
        make()(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda c: c["model"].pop("transformer.h.1.ln_2.weight"), "lacks transformer.h.1.ln_2.weight"),
        (lambda c: c["model"].update({"transformer.h.9.ln_1.weight": torch.zeros(32)}), "has transformer.h.9.ln_1.weight"),
        (lambda c: c["model"].update({"transformer.wpe.weight": torch.zeros(8, 32)}), r"shape \(16, 32\), got \(8, 32\)"),
        (lambda c: c["model"].update({"lm_head.weight": torch.zeros(31, 32)}), "ties the two"),
        (lambda c: c["model_args"].update({"rotary": True}), "model_args.rotary"),
        (lambda c: c.pop("model_args"), "no 'model_args'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named_key_by_key(edit, says):
    checkpoint = {"model": dict(make().state_dict()), "model_args": dataclasses.asdict(TINY)}
    edit(checkpoint)
    with pytest.raises(ValueError, match=says):
        GPT.from_checkpoint(checkpoint)


def test_mask_buffers_of_old_checkpoints_are_ignored():
    state = dict(make().state_dict())
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
    assert GPT.from_checkpoint({"model": state, "model_args": dataclasses.asdict(TINY)}).config == TINY


def test_cropped_model_agrees_on_what_still_fits():
    model, x = make(), tokens(2, 8)
    before = model(x, x)[0]
    model.crop_block_size(8)
    assert torch.equal(model(x, x)[0], before)
    assert model.model_args() == {**dataclasses.asdict(TINY), "block_size": 8}
    assert model.state_dict()["transformer.wpe.weight"].shape == (8, 32)
    with pytest.raises(ValueError, match=r"1..8, got 9"):
        model.crop_block_size(9)


def test_model_imports_torch_and_the_standard_library_only():
    code = "import sys, model; print([m for m in ('ockham', 'transformers', 'safetensors', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- pretrained weights


def hf_folder(folder: Path, safe: bool = True, **changes):
    """A random GPT-2 of another shape than any on the hub, saved by transformers, and transformers' own model."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    settings = {"vocab_size": 37, "n_positions": 24, "n_embd": 24, "n_layer": 3, "n_head": 3, "activation_function": "gelu"}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings, **changes)).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    theirs.save_pretrained(folder)
    if not safe:
        (folder / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    return theirs


@pytest.mark.parametrize("safe", [True, False])
def test_local_hf_folder_gives_transformers_logits(tmp_path, safe):
    theirs = hf_folder(tmp_path, safe)
    ours = GPT.from_pretrained(tmp_path, {"dropout": 0.1}).eval()
    assert ours.config == GPTConfig(24, 37, 3, 3, 24, dropout=0.1, bias=True)
    x = torch.randint(37, (2, 24))
    with torch.no_grad():
        expected = theirs(x).logits
        assert expected.std() > 0.3
        assert (ours(x, x)[0] - expected).abs().max() <= 1e-4


def test_headless_hf_files_without_prefix_load_too(tmp_path):
    theirs = hf_folder(tmp_path)
    theirs.transformer.save_pretrained(tmp_path)  # the hub's gpt2 is stored like this
    ours, x = GPT.from_pretrained(tmp_path).eval(), torch.randint(37, (2, 24))
    with torch.no_grad():
        assert (ours(x, x)[0] - theirs(x).logits).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"model_type": "llama"}, ValueError, "model_type must be gpt2, got 'llama'"),
        ({"model_type": "gpt2", "n_inner": 7}, ValueError, "n_inner must be"),
        ({"model_type": "gpt2", "activation_function": "relu"}, ValueError, "activation_function must be"),
    ],
)
def test_a_folder_of_another_model_is_refused(tmp_path, settings, error, says):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(error, match=says):
        GPT.from_pretrained(tmp_path)


def test_missing_files_and_forbidden_overrides_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nor a folder with config.json"):
        GPT.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor pytorch_model.bin"):
        GPT.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"can only set dropout.*n_layer"):
        GPT.from_pretrained(tmp_path, {"n_layer": 3})


@pytest.fixture
def hub(monkeypatch):
    """The hub's client with a `snapshot_download` of our own; a function that sets it, and the calls it got."""
    library = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "getproxies", dict)
    calls: list[dict] = []

    def serve(cached=None, online=None):
        def download(name, allow_patterns, local_files_only=False):
            calls.append({"name": name, "local": local_files_only})
            folder = cached if local_files_only else online
            if folder is None:
                raise ConnectionError("no\nroute")
            return str(folder)

        monkeypatch.setattr(library, "snapshot_download", download)
        return calls

    return serve


def no_socket(*args):
    raise AssertionError("the network was asked")


def test_hub_names_need_a_library_and_say_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RuntimeError, match=r"pip install -e '\.\[online\]'"):
        GPT.from_pretrained("gpt2")


def test_a_cached_hub_model_needs_no_network(tmp_path, hub, monkeypatch):
    hf_folder(tmp_path)
    calls = hub(cached=tmp_path)
    monkeypatch.setattr(pretrained.socket, "create_connection", no_socket)
    assert GPT.from_pretrained("gpt2-medium").config.n_layer == 3
    assert calls == [{"name": "gpt2-medium", "local": True}]


def test_a_half_cached_hub_model_is_downloaded_where_the_host_answers(tmp_path, hub, monkeypatch):
    hf_folder(tmp_path / "whole")
    (tmp_path / "half").mkdir()
    calls = hub(cached=tmp_path / "half", online=tmp_path / "whole")
    monkeypatch.setattr(pretrained.socket, "create_connection", lambda *args: contextlib.nullcontext())
    assert GPT.from_pretrained("gpt2").config.n_layer == 3
    assert [call["local"] for call in calls] == [True, False]


def test_without_network_the_hub_is_given_up_at_once_and_in_one_line(hub, monkeypatch):
    calls = hub()

    def hang(address, timeout):
        time.sleep(0.5)
        raise TimeoutError

    monkeypatch.setattr(pretrained.socket, "create_connection", hang)
    monkeypatch.setattr(pretrained.silence_of, "__defaults__", (0.05,))
    start = time.monotonic()
    with pytest.raises(OSError, match=r"cannot load gpt2-xl: .*huggingface\.co does not answer.*local folder"):
        GPT.from_pretrained("gpt2-xl")
    assert time.monotonic() - start < 0.4
    assert [call["local"] for call in calls] == [True]
    monkeypatch.setattr(pretrained.socket, "create_connection", lambda *args: contextlib.nullcontext())
    with pytest.raises(OSError, match=r"ConnectionError: no route") as caught:
        GPT.from_pretrained("gpt2-xl")
    assert "\n" not in str(caught.value)


def test_hf_hub_offline_is_respected(hub, monkeypatch):
    hub()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(pretrained.socket, "create_connection", no_socket)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE is set"):
        GPT.from_pretrained("gpt2")


def test_a_proxy_is_called_in_the_hosts_place(monkeypatch):
    asked = []
    monkeypatch.setattr(pretrained, "getproxies", lambda: {"https": "http://proxy.example:3128"})
    monkeypatch.setattr(
        pretrained.socket, "create_connection", lambda address, seconds: asked.append(address) or contextlib.nullcontext()
    )
    assert pretrained.silence_of("https://huggingface.co") == ""
    assert asked == [("proxy.example", 3128)]


# --- generation


@pytest.mark.parametrize(("prompt", "new"), [(1, 15), (5, 40), (16, 12), (40, 12)])
def test_greedy_tokens_are_the_same_with_and_without_cache(prompt, new):
    variety = []
    for seed in range(4):
        model, x = talker(seed), tokens(2, prompt, seed)
        cached = model.generate(x, new, temperature=0)
        assert cached.shape == (2, prompt + new)
        assert torch.equal(cached, model.generate(x, new, temperature=0, kv_cache=False))
        variety += [len(row.unique()) for row in cached[:, prompt:]]
    assert max(variety) > 3  # not one token over and over


def test_greedy_tokens_are_the_likeliest_after_the_last_block_of_context():
    model, x = talker(), tokens(1, 3)
    out = model.generate(x, 30, temperature=0)
    for t in range(3, 33):
        assert out[0, t] == model(out[:, max(0, t - 16) : t])[0][0, -1].argmax()


@pytest.mark.parametrize("pieces", [[16], [1] * 16, [5, 1, 7, 3]])
def test_cached_hidden_states_equal_those_of_one_pass(pieces):
    model, x = talker(), tokens(2, 16)
    caches = [LayerCache(16) for _ in range(2)]
    parts = [model.hidden(piece, caches) for piece in x.split(pieces, dim=1)]
    assert (torch.cat(parts, dim=1) - model.hidden(x)).abs().max() <= 1e-5
    with pytest.raises(ValueError, match="less 16 cached"):
        model.hidden(x[:, :1], caches)


def test_sampling_is_seeded_and_equal_with_and_without_cache():
    model, x = talker().double(), tokens(2, 4)
    draws = [
        model.generate(x, 30, 1.0, 20, 0.9, torch.Generator().manual_seed(seed), kv_cache=cache)
        for seed, cache in [(5, True), (5, False), (6, True)]
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_stream_yields_what_generate_returns_and_restores_the_mode():
    model, x = talker(dropout=0.3).train(), tokens(3, 4)
    streamed = list(model.stream(x, 6, temperature=0))
    assert all(token.shape == (3,) for token in streamed)
    assert torch.equal(torch.stack(streamed, 1), model.generate(x, 6, temperature=0)[:, 4:])
    assert model.training
    assert torch.is_grad_enabled()
    assert torch.equal(model.generate(x, 0), x)


def test_a_stopped_sequence_repeats_its_stop_and_all_stopped_ends():
    model, x = talker(), tokens(2, 4)
    free = model.generate(x, 12, temperature=0)[:, 4:]
    first, second = free[0, 2].item(), free[1, 5].item()
    stopped = model.generate(x, 12, temperature=0, stop=[first, second])[:, 4:]
    ends = [next(t for t in range(12) if row[t].item() in (first, second)) for row in free]
    assert stopped.size(1) == max(ends) + 1
    for row, end, plain in zip(stopped, ends, free, strict=True):
        assert torch.equal(row[: end + 1], plain[: end + 1])
        assert (row[end:] == plain[end]).all()


# probabilities .5 .3 .15 .05, in another order
HAND = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, {1}), (0.4999, {1}), (0.51, {1, 3}), (0.79, {1, 3}), (0.81, {0, 1, 3}), (0.96, {0, 1, 2, 3}), (1.0, {0, 1, 2, 3})],
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(top_p, kept):
    drawn = sample_token(HAND.expand(4000, 4), top_p=top_p, generator=torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == kept
    mass = {i: HAND[0, i].exp().item() for i in kept}
    for i in kept:
        assert (drawn == i).float().mean().item() == pytest.approx(mass[i] / sum(mass.values()), abs=0.03)


@pytest.mark.parametrize(("top_k", "kept"), [(1, {1}), (2, {1, 3}), (4, {0, 1, 2, 3}), (500, {0, 1, 2, 3}), (0, {0, 1, 2, 3})])
def test_top_k_keeps_the_likeliest_even_beyond_the_vocabulary(top_k, kept):
    drawn = sample_token(HAND.expand(2000, 4), top_k=top_k, generator=torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == kept


def test_temperature_sharpens_as_the_power_law_says():
    drawn = sample_token(HAND.expand(8000, 4), temperature=0.5, generator=torch.Generator().manual_seed(0))
    squares = HAND[0].exp() ** 2  # p^(1/T)
    assert torch.allclose(drawn.bincount(minlength=4) / 8000, squares / squares.sum(), atol=0.02)
    assert sample_token(HAND, temperature=0).tolist() == [1]


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": math.nan}, {"top_k": -1}, {"top_p": 0.0}])
def test_sampling_parameters_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make().stream(tokens(1, 2), 1, **wrong)
    with pytest.raises(ValueError, match="T >= 1"):
        make().generate(torch.zeros(1, 0, dtype=torch.long), 1)


# --- speed on paper


def test_flops_and_mfu_follow_the_formula():
    model = GPT(TINY)
    per_token = 6 * model.num_params() + 12 * 2 * 32 * 16
    assert model.flops_per_token() == per_token
    assert model.estimate_mfu(10, 0.5, peak_flops=1e9) == pytest.approx(per_token * 16 * 10 / 0.5 / 1e9)
    assert model.estimate_mfu(10, 0.5) is None  # no peak is known for a CPU
