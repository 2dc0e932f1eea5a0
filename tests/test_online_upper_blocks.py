"""Our GPT on many short rows at once: the same values as the model itself, and no block computed in vain."""

import pytest
import torch
from online_bases import PlainRow, tiny_ours

from ockham.online.adapter import Adapter
from ockham.online.bases import load_base
from ockham.online.config import LoraSettings, ModelSettings
from ockham.online.upper_blocks import linear

TEXTS = ("User: Tom is my friend", "User: Hi", "User: Where does Ada live?")


@pytest.fixture
def base(tmp_path):
    return load_base(ModelSettings(base_model_name=str(tiny_ours(tmp_path / "ours", n_layer=3)), device="cpu"))


def adapted(base, *targets):
    adapter = Adapter(base, LoraSettings(target_modules=targets))
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return adapter


def rows_of(base):
    return [PlainRow(base.encode(text), start) for text, start in zip(TEXTS, (3, 1, 9), strict=True)]


def plain(base, rows):
    """Each row alone through the model's own forward."""
    found = [base.model.lm_head(base.model.hidden(torch.tensor([row.ids])))[0, row.start - 1 : -1] for row in rows]
    return torch.cat(found)


@pytest.mark.parametrize("targets", [(), ("c_attn",), ("h.0.mlp.c_fc",), ("h.1.mlp.c_proj",), ("h.2.attn.c_attn",)])
def test_values_and_gradients_are_those_of_the_model_itself(base, targets):
    adapter, rows = adapted(base, *targets), rows_of(base)
    found = []
    for logits in (base.logits(adapter.model, rows), plain(base, rows)):
        loss = torch.nn.functional.cross_entropy(logits, base.targets_of(rows))
        found.append((logits.detach(), *torch.autograd.grad(loss, adapter.parameters())))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_base_in_half_precision_learns_as_the_model_itself(tmp_path, dtype):
    folder = tiny_ours(tmp_path / "ours", n_layer=3)
    base = load_base(ModelSettings(base_model_name=str(folder), device="cpu", dtype=dtype))
    adapter, rows, found = adapted(base), rows_of(base), []
    for logits in (base.logits(adapter.model, rows), plain(base, rows).float()):
        assert logits.dtype == torch.float32
        loss = torch.nn.functional.cross_entropy(logits, base.targets_of(rows))
        found.append((logits.detach(), *torch.autograd.grad(loss, adapter.parameters())))
    for ours, expected in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, rtol=0.05, atol=0.02 * float(expected.abs().max()))


def test_in_half_precision_an_update_counts_that_the_weight_itself_would_swallow(tmp_path):
    base = load_base(ModelSettings(base_model_name=str(tiny_ours(tmp_path / "ours")), device="cpu", dtype="bfloat16"))
    adapted(base)
    layer = base.model.transformer.h[1].mlp.c_fc
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        layer.base_layer.weight.fill_(1.0)  # the next number of bfloat16 is 1.0078
        a.zero_()[:, 0] = 1.0
        b.fill_(0.003 / layer.scaling["default"] / a.size(0))  # so the update adds 0.003 to the weights of the first channel
    x = torch.zeros(1, a.size(1), dtype=torch.bfloat16)
    x[0, :2] = torch.tensor([1.0, -1.0])
    assert float(linear(layer, x)[0, 0].detach()) == pytest.approx(0.003, rel=0.01)


def test_with_dropout_in_the_adapter_each_token_draws_its_own(base):
    adapter = Adapter(base, LoraSettings(dropout=0.5))
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    rows = rows_of(base)
    quiet = base.logits(adapter.model, rows)
    torch.testing.assert_close(quiet, plain(base, rows), rtol=1e-4, atol=1e-6)
    adapter.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(base.logits(adapter.model, rows))
    assert torch.equal(drawn[0], drawn[1])
    assert not any(torch.allclose(drawn[0], other) for other in (drawn[2], quiet))


def test_what_lies_below_the_adapter_is_computed_once_for_each_row(base):
    adapter, rows, seen = adapted(base), rows_of(base), []
    for block in base.model.transformer.h:
        block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    for _ in range(3):
        base.logits(adapter.model, rows)
    assert seen == [(1, len(row.ids), 32) for row in rows]  # the first block's; those above are called by their parts
    base.forget_rows()
    base.logits(adapter.model, rows)
    assert len(seen) == 6


def test_rows_that_are_held_are_computed_together_and_only_they_have_that_result(base):
    adapter, rows, again, seen = adapted(base), rows_of(base), rows_of(base), []
    expected = plain(base, rows)
    for block in base.model.transformer.h:
        block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    base.hold_rows(adapter.model, rows)
    torch.testing.assert_close(base.logits(adapter.model, rows), expected, rtol=1e-4, atol=1e-6)
    assert not seen  # all by their parts
    torch.testing.assert_close(base.logits(adapter.model, again[:2]), base.logits(adapter.model, rows[:2]))
    assert seen == [(1, len(row.ids), 32) for row in again[:2]]
    base.hold_rows(adapter.model, [])
    base.logits(adapter.model, rows[2:])
    assert len(seen) == 3


def test_another_adapter_further_down_is_not_given_what_was_kept(base):
    rows = rows_of(base)
    bare = base.logits(base.model, rows)
    torch.testing.assert_close(bare, plain(base, rows))
    adapter = adapted(base, "h.0.mlp.c_fc")
    changed = base.logits(adapter.model, rows)
    assert not torch.allclose(changed, bare)
    torch.testing.assert_close(changed, plain(base, rows))
    adapter.remove()
    assert torch.equal(base.logits(base.model, rows), bare)
