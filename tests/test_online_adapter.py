"""The adapter of ockham chat: what it computes, what turning it off gives, and its files."""

import json

import pytest
import torch
from online_bases import PlainRow, tiny_gpt2, tiny_ours, tiny_qwen
from safetensors.torch import load_file

from ockham.errors import CheckpointError, ConfigError, WorldError
from ockham.online.adapter import Adapter, state_sha256
from ockham.online.bases import load_base
from ockham.online.config import LoraSettings, ModelSettings

MAKERS = {"ours": tiny_ours, "qwen": tiny_qwen, "gpt2": tiny_gpt2}
FIRST = {"ours": "transformer.h.1.attn.c_attn", "qwen": "model.layers.0.self_attn.q_proj", "gpt2": "transformer.h.0.attn.c_attn"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: make(tmp_path_factory.mktemp("bases") / kind) for kind, make in MAKERS.items()}


@pytest.fixture
def load(folders):
    return lambda kind="ours": load_base(ModelSettings(base_model_name=str(folders[kind]), device="cpu"))


@pytest.fixture
def make(load):
    return lambda kind="ours", seed=1337, **settings: Adapter(load(kind), LoraSettings(**settings), seed)


def tokens(base):
    return [PlainRow(base.encode("Tom is my friend")), PlainRow(base.encode("Ada is my sister"))]


def train(adapter, steps=3, lr=0.05):
    rows = tokens(adapter.base)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        logits = adapter.base.logits(adapter.model, rows)
        loss = torch.nn.functional.cross_entropy(logits, adapter.base.targets_of(rows))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def outputs(adapter):
    with torch.no_grad():
        return adapter.base.logits(adapter.model, tokens(adapter.base))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_fresh_adapter_changes_no_bit_and_has_no_divergence(load, kind):
    base = load(kind)
    bare = base.logits(base.model, tokens(base)).clone()
    adapter = Adapter(base, LoraSettings())
    fresh = outputs(adapter)
    assert torch.equal(fresh, bare)
    p, q = bare.log_softmax(-1), fresh.log_softmax(-1)
    assert float((p.exp() * (p - q)).sum()) == 0.0


@pytest.mark.parametrize("kind", MAKERS)
def test_a_trained_adapter_turned_off_is_the_bare_base_bit_for_bit(load, kind):
    base = load(kind)
    bare = base.logits(base.model, tokens(base)).clone()
    adapter = Adapter(base, LoraSettings())
    losses = train(adapter)
    assert losses[-1] < losses[0]  # it learns
    assert not torch.equal(outputs(adapter), bare)
    with adapter.disabled():
        assert torch.equal(adapter.base.logits(adapter.model, tokens(base)), bare)
        assert not torch.is_grad_enabled()
    assert not torch.equal(outputs(adapter), bare)
    assert all(p.requires_grad for p in adapter.parameters())
    adapter.remove()
    assert torch.equal(base.logits(base.model, tokens(base)), bare)


def test_turned_off_twice_it_is_on_again_after_the_outer_one(make):
    adapter = make()
    train(adapter)
    learned = outputs(adapter)
    with adapter.disabled():
        bare = outputs(adapter)
        with adapter.disabled():
            assert torch.equal(outputs(adapter), bare)
        assert torch.equal(outputs(adapter), bare)
    assert torch.equal(outputs(adapter), learned)
    with pytest.raises(RuntimeError, match="inside"), adapter.disabled():
        raise RuntimeError("inside")
    assert torch.equal(outputs(adapter), learned)


@pytest.mark.parametrize("kind", MAKERS)
def test_an_adapted_layer_computes_w_x_plus_alpha_over_rank_b_a_x(make, kind):
    adapter = make(kind, rank=3, alpha=12.0)
    layer = adapter.base.model.get_submodule(FIRST[kind])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in adapter.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.randn(5, 32, generator=generator)
    a, b = (adapter.weights[f"base_model.model.{FIRST[kind]}.lora_{letter}.weight"] for letter in "AB")
    assert a.shape == (3, 32)
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 12 / 3 * (x @ a.T @ b.T), rtol=1e-5, atol=1e-4)


def test_usual_layers_are_the_architectures(make):
    assert make("ours").targets == ("h.1.attn.c_attn", "h.1.attn.c_proj", "h.1.mlp.c_fc", "h.1.mlp.c_proj")  # of two blocks
    assert make("qwen").targets == ("q_proj", "v_proj")
    assert make("gpt2").targets == ("c_attn",)
    learning = sum(p.numel() for p in make("ours").parameters())
    assert learning == 4 * ((32 + 96) + (32 + 32) + (32 + 128) + (128 + 32))  # rank, in + out


def test_only_the_adapter_learns(make):
    for kind in MAKERS:
        adapter = make(kind)
        learning = {id(p) for p in adapter.model.parameters() if p.requires_grad}
        assert learning == {id(p) for p in adapter.parameters()}
        assert all(".lora_" in name for name in adapter.weights)


def test_weights_have_the_names_that_peft_writes(make):
    from peft import get_peft_model_state_dict

    adapter = make("qwen")
    assert list(adapter.state()) == list(get_peft_model_state_dict(adapter.model, save_embedding_layers=False))


def test_first_weights_are_a_function_of_the_seed_and_touch_no_global_randomness(make, load):
    bases = load(), load()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, other = (Adapter(base, LoraSettings(), seed) for base, seed in zip(bases, (1, 2), strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert make(seed=1).sha256() == first.sha256() != other.sha256()


@pytest.mark.parametrize(
    ("kind", "named", "said"),
    [
        ("ours", ("c_atn",), r"no linear layer 'c_atn' \(did you mean c_attn\?\); its linear layers: c_attn, c_fc, c_proj$"),
        ("ours", ("c_attn", "q_proj"), "no linear layer 'q_proj'"),
        ("ours", ("wte",), "no linear layer 'wte'"),
        ("ours", ("lm_head",), "no linear layer 'lm_head'"),  # one tensor with the embedding
        ("qwen", ("q_porj",), "did you mean q_proj"),
    ],
)
def test_layers_that_are_not_there_are_named_with_the_nearest(make, kind, named, said):
    with pytest.raises(ConfigError, match=said):
        make(kind, target_modules=named)


def test_layers_can_be_named(make):
    named = make(target_modules=("mlp.c_proj",)).weights
    assert len(named) == 2 * 2  # A and B in each of two blocks
    assert all(".mlp.c_proj." in name for name in named)
    assert len(make("gpt2", target_modules=("c_attn", "c_fc")).weights) == 2 * 2 * 2


def test_a_base_without_usual_layers_needs_them_named(load):
    base = load("qwen")
    base.targets = ()
    with pytest.raises(ConfigError, match=r"must name layers.*q_proj"):
        Adapter(base, LoraSettings())
    assert Adapter(base, LoraSettings(target_modules=("q_proj",))).parameters()


def test_what_would_change_the_base_or_nest_is_refused(make, load):
    base = load()
    adapter = Adapter(base, LoraSettings())
    with pytest.raises(ConfigError, match="already has an adapter"):
        Adapter(base, LoraSettings())
    adapter.remove()
    again = Adapter(base, LoraSettings())
    assert again.sha256() == adapter.sha256()
    with pytest.raises(ConfigError, match=r"model\.lora\.bias"):
        make(bias="all")


def test_dropout_acts_only_in_training(make):
    adapter = make(dropout=0.5)
    train(adapter)
    calm = outputs(adapter)
    assert torch.equal(outputs(adapter), calm)
    adapter.train()
    torch.manual_seed(0)
    assert not torch.equal(outputs(adapter), calm)
    adapter.eval()
    assert torch.equal(outputs(adapter), calm)
    assert not adapter.base.model.training


def test_a_state_is_a_copy_and_comes_back_bit_for_bit(make):
    adapter = make("qwen")
    train(adapter)
    state, hashed = adapter.state(), adapter.sha256()
    kept = [id(p) for p in adapter.parameters()]
    train(adapter)
    assert adapter.sha256() != hashed
    assert state_sha256(state) == hashed
    adapter.load(state)
    assert adapter.sha256() == hashed
    assert kept == [id(p) for p in adapter.parameters()]  # an optimizer keeps its weights


def test_the_hash_sees_names_shapes_and_every_bit():
    a, b = torch.zeros(2, 3), torch.ones(3)
    state = {"a": a, "b": b}
    assert state_sha256(state) == state_sha256({"b": b, "a": a})
    bit = b.clone()
    bit[1] = torch.nextafter(bit[1], torch.tensor(2.0))
    others = [{"a": a, "c": b}, {"a": a.view(3, 2), "b": b}, {"a": a, "b": bit}, {"a": -a, "b": b}, {"a": a.double(), "b": b}]
    assert len({state_sha256(s) for s in [state, *others]}) == 6


def test_a_state_of_other_names_or_shapes_changes_nothing(make):
    adapter = make()
    hashed, state = adapter.sha256(), {name: t + 1 for name, t in adapter.state().items()}
    name = next(iter(state))
    for broken in (
        {**state, name: state[name][:1]},
        {k: v for k, v in state.items() if k != name},
        {**state, "more": torch.ones(1)},
    ):
        with pytest.raises(CheckpointError):
            adapter.load(broken)
        assert adapter.sha256() == hashed


def test_a_share_of_what_was_learned(make):
    adapter = make()
    train(adapter, 1)
    before = adapter.state()
    train(adapter)
    after, hashed = adapter.state(), adapter.sha256()
    adapter.scale_towards(before, 1.0)
    assert adapter.sha256() == hashed
    adapter.scale_towards(before, 0.25)
    for name, t in adapter.state().items():
        torch.testing.assert_close(t, before[name] + 0.25 * (after[name] - before[name]))
    adapter.scale_towards(before, 0.0)
    assert adapter.sha256() == state_sha256(before)


@pytest.mark.parametrize("kind", MAKERS)
def test_pefts_own_loader_reads_an_exported_folder(make, load, tmp_path, kind):
    from peft import LoraConfig, PeftModel

    adapter = make(kind)
    train(adapter)
    adapter.export(tmp_path / "out")
    config = LoraConfig.from_pretrained(tmp_path / "out")
    assert config.base_model_name_or_path == adapter.base.name
    fresh = load(kind)
    with pytest.warns(FutureWarning, match="is_gradient") if kind != "ours" else warnings_as_they_are():
        loaded = PeftModel.from_pretrained(fresh.model, tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(fresh.logits(loaded, tokens(fresh)), outputs(adapter))


def warnings_as_they_are():
    import contextlib

    return contextlib.nullcontext()


def test_an_exported_folder_names_its_base_is_its_owners_alone_and_replaces_nothing(make, tmp_path):
    adapter, out = make(), tmp_path / "out"
    adapter.export(out)
    assert json.loads((out / "ockham_base.json").read_text())["base_sha256"] == adapter.base.sha256()
    assert state_sha256(load_file(out / "adapter_model.safetensors")) == adapter.sha256()
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}
    assert out.stat().st_mode & 0o777 == 0o700
    with pytest.raises(WorldError, match="there already"):
        adapter.export(out)
    with pytest.raises(WorldError, match="cannot be written"):
        adapter.export(out / "adapter_config.json" / "below")
