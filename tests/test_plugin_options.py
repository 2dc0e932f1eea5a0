"""Options of the rack's plugins: a compressor driven by loss, limits on gradient and update, gains by domain, embedding noise."""

import io
import json
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import TINY

import configurator
import train_ockham
from ockham.anchor import Anchor
from ockham.check import conflicts, devices, probe
from ockham.context import OccamContext
from ockham.data import BatchSource, Corpus, TokenFile, mix
from ockham.distributed import Ranks
from ockham.domains import Domains, domain_shares
from ockham.errors import ConfigError, CorpusError, ShapeError
from ockham.journal import read
from ockham.learner import OckhamLearner
from ockham.mistakes import mistakes
from ockham.plugins import (
    CompressorPlugin,
    EQPlugin,
    LimiterPlugin,
    OccamPlugin,
    OckhamGatePlugin,
    ParameterError,
    PluginHost,
    SaturationPlugin,
)
from ockham.precision import Precision
from ockham.presets import load_preset_file

SGD, ADAMW = torch.optim.SGD, torch.optim.AdamW


def learner_of(model, *plugins, lr=0.1, optimizer=SGD, **options):
    options = {"lambda_ockham": 0.0, "clip_grad_norm": None, **options}
    return OckhamLearner(model, optimizer(model.parameters(), lr=lr), PluginHost(plugins), **options)


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.parameters])


def norm(tensors):
    return math.sqrt(sum(float((t.double() ** 2).sum()) for t in tensors))


def started(plugin, loss, **fields):
    return plugin.on_batch_start(OccamContext(0, loss, **fields))


# compressor: detector loss ----------------------------------------------------------------------------------------------
def scales_of_a_factor(losses, threshold, factor, attack, release):
    """The loss-driven law as it is stated with a factor on the learning rate: reference."""
    scale = 1.0
    for loss in losses:
        scale += attack * (factor - scale) if loss > threshold else release * (1.0 - scale)
        yield scale


def test_loss_driven_compressor_follows_the_law_of_a_factor_at_the_reciprocal_ratio():
    losses = [3.1, 2.5, 2.01, 2.0, 1.4, 4.0, 1.9, 1.8, 2.2]
    compressor = CompressorPlugin(detector="loss", threshold=2.0, ratio=2.0, attack=0.1, release=0.01)
    seen = [started(compressor, loss, learning_rate=1.0).learning_rate for loss in losses]
    assert seen == pytest.approx(list(scales_of_a_factor(losses, 2.0, 0.5, 0.1, 0.01)), rel=1e-14)


def test_n_attacks_from_rest_are_the_closed_form():
    compressor = CompressorPlugin(detector="loss", threshold=1.0, ratio=4.0, attack=0.2)
    for n in range(1, 20):
        assert started(compressor, 1.5, learning_rate=1.0).learning_rate == pytest.approx(1 / 4 + 3 / 4 * 0.8**n)


def test_by_loss_it_acts_without_an_anchor_and_leaves_the_price_of_drift_alone():
    compressor = CompressorPlugin(detector="loss", threshold=1.0, attack=1.0, min_lambda=0.5)
    ctx = started(compressor, 3.0, learning_rate=1.0, lambda_ockham=0.01, anchor_available=False, complexity_cost=9.0)
    assert (ctx.learning_rate, ctx.lambda_ockham, ctx.metrics["compressor/on"]) == (0.5, 0.01, 1.0)
    assert CompressorPlugin(threshold=1.0).detector == "complexity"


def test_by_loss_a_consolidation_changes_nothing_and_an_unknown_loss_is_waited_for():
    compressor = CompressorPlugin(detector="loss", threshold=1.0)
    assert started(compressor, math.inf, learning_rate=1.0).learning_rate == 1.0
    started(compressor, 3.0)
    before = compressor.state_dict()
    compressor.on_consolidate(OccamContext(0, 3.0))
    assert compressor.state_dict() == before


def test_weights_move_less_under_a_loss_over_the_threshold(tiny_model, batch):
    moved = []
    for threshold in (0.5, 99.0):
        learner = learner_of(tiny_model(), CompressorPlugin(detector="loss", threshold=threshold, ratio=4.0, attack=1.0))
        before = weights(learner)
        learner.step(batch(0))
        moved.append(weights(learner) - before)
    assert torch.allclose(moved[0], moved[1] / 4, atol=1e-7)
    assert moved[0].abs().max() > 1e-4


# limiter: grad_norm -----------------------------------------------------------------------------------------------------
def test_a_gradient_limit_is_the_clipping_of_torch(tiny_model, batch):
    reference, model = tiny_model(), tiny_model()
    optimizer = ADAMW(reference.parameters(), lr=1e-2)
    learner = learner_of(model, LimiterPlugin(limit_type="grad_norm", ceiling=0.3), lr=1e-2, optimizer=ADAMW)
    for i in range(6):
        optimizer.zero_grad()
        reference(*batch(i))[1].backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.3)
        optimizer.step()
        ctx = learner.step(batch(i))
        assert ctx.grad_norm > 0.3, "the norm is told as it was"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))
    assert (ctx.metrics["limiter/hits"], ctx.metrics["limiter/on"], ctx.consolidating) == (6.0, 1.0, False)


@pytest.mark.parametrize(("clip", "ceilings"), [(0.2, (0.5, 0.4)), (0.5, (0.2, 0.4)), (None, (0.4, 0.2)), (0.0, (0.2, 9.0))])
def test_of_clipping_and_several_limiters_the_lowest_holds(tiny_model, batch, clip, ceilings):
    limiters = [LimiterPlugin(f"limiter{c}", limit_type="grad_norm", ceiling=c) for c in ceilings]
    learner = learner_of(tiny_model(), *limiters, clip_grad_norm=clip)
    learner.step(batch(0))
    assert norm([p.grad for p in learner.parameters]) == pytest.approx(0.2, rel=1e-4)


def test_without_a_ceiling_of_its_own_the_gradient_limit_is_grad_norm_ceiling():
    assert LimiterPlugin(limit_type="grad_norm", grad_norm_ceiling=0.7).limit == 0.7
    assert LimiterPlugin(limit_type="grad_norm", grad_norm_ceiling=0.7, ceiling=0.1).limit == 0.1
    assert LimiterPlugin(ceiling=0.05).limit == 0.05
    assert LimiterPlugin(complexity_ceiling=0.4).limit == 0.4


def test_a_ceiling_on_drift_consolidates_as_complexity_ceiling_does():
    for limiter in (LimiterPlugin(limit_type="complexity_cost", ceiling=0.1), LimiterPlugin(complexity_ceiling=0.1)):
        for cost, expected in ((0.09, False), (0.11, True)):
            ctx = OccamContext(0, 1.0, complexity_cost=cost)
            limiter.on_batch_end(ctx)
            assert ctx.consolidating is expected


# limiter: delta_theta ---------------------------------------------------------------------------------------------------
def test_a_limited_sgd_step_is_the_closed_form(tiny_model, batch):
    model = tiny_model().double()
    learner = learner_of(model, LimiterPlugin(limit_type="delta_theta", ceiling=1e-3), lr=0.7)
    theta = [p.detach().clone() for p in learner.parameters]
    grads = torch.autograd.grad(model(*batch(0))[1], learner.parameters)
    ratio = 0.7 * norm(grads) / norm(theta)
    ctx = learner.step(batch(0))
    assert ctx.relative_step == pytest.approx(ratio, rel=1e-12)
    assert ratio > 2e-3, "else the test shows nothing"
    for p, t, g in zip(learner.parameters, theta, grads, strict=True):
        assert torch.allclose(p, t - 0.7 * g * (1e-3 / ratio), atol=1e-15)


def test_every_update_of_adam_stays_under_the_ceiling_and_keeps_its_direction(tiny_model, batch):
    learner = learner_of(tiny_model(), LimiterPlugin(limit_type="delta_theta", ceiling=2e-3), lr=1e-2, optimizer=ADAMW)
    free = learner_of(tiny_model(), lr=1e-2, optimizer=ADAMW)
    for i in range(5):
        before = weights(learner)
        ctx = learner.step(batch(i))
        step = weights(learner) - before
        assert float(step.norm() / before.norm()) == pytest.approx(2e-3, rel=1e-3)
        if not i:
            free.step(batch(0))
            assert float(torch.cosine_similarity(step, weights(free) - before, dim=0)) == pytest.approx(1, abs=1e-6)
    assert ctx.metrics["limiter/hits"] == 5
    assert ctx.metrics["limiter/relative_step"] > 2e-3
    assert learner.requested.before is None, "no copy of the weights is left behind"


@pytest.mark.parametrize("limit_type", ["grad_norm", "delta_theta"])
def test_under_the_ceiling_nothing_changes_bit_for_bit(tiny_model, batch, limit_type):
    plugin = LimiterPlugin(limit_type=limit_type, ceiling=1e3)
    limited, free = (learner_of(tiny_model(), *rack, optimizer=ADAMW) for rack in ((plugin,), ()))
    for i in range(4):
        limited.step(batch(i))
        free.step(batch(i))
    assert torch.equal(weights(limited), weights(free))
    assert plugin.hits == 0


def test_weights_that_are_all_zero_may_move():
    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, y):
            return x, (x * self.w).mean()

    learner = learner_of(Line(), LimiterPlugin(limit_type="delta_theta", ceiling=1e-3))
    learner.step((torch.ones(1), torch.zeros(1)))
    assert learner.parameters[0].item() == pytest.approx(-0.1)


def test_limiting_the_update_without_a_ceiling_is_refused():
    with pytest.raises(ParameterError, match="limit_type delta_theta needs a ceiling: the largest"):
        LimiterPlugin(limit_type="delta_theta")
    with pytest.raises(ParameterError, match="did you mean delta_theta"):
        LimiterPlugin(limit_type="delta_teta", ceiling=1)


# eq: by domain ----------------------------------------------------------------------------------------------------------
BANDS = [
    ["easy", "train", 0, 100, 0.1],
    ["noise", "train", 100, 160, 3.0],
    ["easy", "train", 160, 300, 0.1],
    ["x", "val", 0, 9, 1],
]


def corpus_of(tmp_path, bands=BANDS, tokens=400):
    file = TokenFile(tmp_path / "train.bin", np.dtype("<u2"), tokens, np.zeros(tokens, dtype="<u2"))
    return Corpus(tmp_path, file, file, 20, {} if bands is None else {"bands": bands})


def test_shares_count_the_predicted_tokens_one_by_one(tmp_path):
    labels = ["easy"] * 100 + ["noise"] * 60 + ["easy"] * 140 + [""] * 100
    starts = np.random.default_rng(0).integers(0, 380, 50)
    predicted = [labels[t] for s in starts for t in range(s + 1, s + 17)]
    shares = Domains.of(corpus_of(tmp_path)).shares(starts, 16)
    assert shares == {name: pytest.approx(predicted.count(name) / len(predicted)) for name in ("easy", "noise")}
    assert 0 < shares["noise"] < 1 - shares["easy"], "some tokens lie in no band"


def test_shares_are_those_of_all_ranks_and_micro_batches(tmp_path):
    corpus = corpus_of(tmp_path)
    per_rank = [BatchSource(corpus.train, 3, 16, seed=7, rank=rank) for rank in (0, 1)]
    host = PluginHost([EQPlugin(by="domain", bands={"noise": 0.0})])
    for step in (0, 5):
        starts = np.concatenate([source.starts(step, micro) for micro in range(4) for source in per_rank])
        expected = Domains.of(corpus).shares(starts, 16)
        assert [domain_shares(corpus, source, host, 4, 2)(step) for source in per_rank] == [expected] * 2
        assert domain_shares(corpus, BatchSource(corpus.train, 6, 16, seed=7), host, 4, 1)(step) == expected


def test_the_gain_is_the_mean_of_the_bands_weighted_by_share():
    eq = EQPlugin(by="domain", bands={"easy": 0.5, "noise": 0.0}, adaptation_rate=0.5)
    domains = {"easy": 0.5, "hard": 0.2, "noise": 0.25}  # the rest lies in no band
    gain = 0.5 * 0.5 + 0.2 + 0.25 * 0 + 0.05
    factors = [started(eq, 2.0, learning_rate=1.0, domains=domains).learning_rate for _ in range(3)]
    assert factors == pytest.approx([1 + (gain - 1) * a for a in (0, 0.5, 0.75)])
    assert started(eq, 2.0, domains=domains).metrics["eq/noise"] == 0.25


def test_batches_of_a_silenced_band_teach_nothing(tiny_model, batch):
    learner = learner_of(tiny_model(), EQPlugin(by="domain", bands={"noise": 0.0}, adaptation_rate=1.0))
    learner.step(batch(0), domains={"noise": 1.0})  # the gain begins at 1
    before = weights(learner)
    learner.step([batch(1), batch(2)], domains={"noise": 1.0, "easy": 0.0})
    assert torch.equal(before, weights(learner))
    learner.step(batch(3), domains={"noise": 0.5, "easy": 0.5})
    assert not torch.equal(before, weights(learner))


@pytest.mark.parametrize(
    ("bands", "gains", "kind", "message"),
    [
        (None, {"easy": 1.0}, ConfigError, "has no bands in .*meta.json; use a corpus with bands, such as fables"),
        (
            BANDS,
            {"nois": 0.5},
            ConfigError,
            r"eq.bands has 'nois', which .* has not \(did you mean noise\?\); its bands: easy, noise",
        ),
        (BANDS, {"x": 0.5, "y": 1.0}, ConfigError, "has 'x'"),
        ([["easy", "train"]], {"easy": 1.0}, CorpusError, "bands must be lists"),
    ],
)
def test_bands_that_a_corpus_has_not_are_told_before_training(tmp_path, bands, gains, kind, message):
    corpus = corpus_of(tmp_path, bands)
    eq = EQPlugin(by="domain", bands=gains)
    with pytest.raises(kind, match=message):
        domain_shares(corpus, BatchSource(corpus.train, 3, 16, seed=7), PluginHost([eq]))
    if kind is ConfigError:
        eq.enabled = False
        domain_shares(corpus, BatchSource(corpus.train, 3, 16, seed=7), PluginHost([eq]))


def test_bands_of_a_corpus_need_by_domain_and_domains_need_to_be_given(tiny_model, batch):
    with pytest.raises(ParameterError, match=r"eq.bands has no 'nois.*allowed: easy, medium, hard \(.*by: domain"):
        EQPlugin(bands={"nois": 1.0})
    with pytest.raises(ParameterError, match=r"eq.bands.noise must be .* got -1"):
        EQPlugin(bands={"noise": -1}, by="domain")
    with pytest.raises(ConfigError, match=r"learner.step\(batch, domains="):
        learner_of(tiny_model(), EQPlugin(by="domain")).step(batch(0))


def test_a_run_weights_its_batches_by_the_bands_in_meta_json(corpus, tmp_path, capsys):
    meta = json.loads((corpus / "meta.json").read_text())
    meta["bands"] = [["easy", "train", 0, 1800, 0.5], ["noise", "train", 1800, 3600, 2.0]]
    (corpus / "meta.json").write_text(json.dumps(meta))
    out = tmp_path / "out"
    flags = [
        f"--data_dir={corpus.parent}", "--dataset=tiny", "--preset=balanced", "--device=cpu", "--compile=False", "--max_iters=3",
        "--batch_size=3", "--block_size=16", "--n_layer=1", "--n_head=1", "--n_embd=8", "--gradient_accumulation_steps=2",
        "--eval_interval=3", "--seed=5", f"--out_dir={out}", "rack.eq.by=domain",
    ]  # fmt: skip
    assert configurator.run(train_ockham.main, [*flags, "rack.eq.bands={hard: 1, nose: 0}"]) == 2
    assert "did you mean noise?" in capsys.readouterr().err
    assert not out.exists()
    assert configurator.run(train_ockham.main, [*flags, "rack.eq.bands={easy: 1.0, hard: 1.0, noise: 0.0}"]) == 0
    seen = [event["metrics"]["eq/noise"] for event in read(out / "journal.jsonl", "step")]
    source = BatchSource(TokenFile.open(corpus / "train.bin", np.dtype("<u2")), 3, 16, seed=5)
    domains = Domains([("easy", 0, 1800), ("noise", 1800, 3600)])
    expected = [domains.shares(np.concatenate([source.starts(i, m) for m in (0, 1)]), 16)["noise"] for i in range(3)]
    assert seen == pytest.approx(expected)


# saturation: embedding --------------------------------------------------------------------------------------------------
def noise_for(seed, step, micro, rank, shape, dtype):
    generator = torch.Generator().manual_seed(int(mix(seed, step, micro, rank, 0x656D6265)[0] >> 1))
    return torch.randn(shape, generator=generator, dtype=dtype)


def noisy_loss(model, micro, noise, sigma):
    """The loss with σ·rms·N(0, 1) added to what the token embedding gives: reference."""
    hook = model.transformer["wte"].register_forward_hook(lambda m, i, h: h + sigma * noise * h.detach().pow(2).mean().sqrt())
    loss = model(*micro)[1]
    hook.remove()
    return loss


def embedding(drive=0.3, **params):
    return SaturationPlugin(noise_type="embedding", drive=drive, **{"warmup_iters": 0, **params})


def test_noise_is_in_the_next_forward_as_large_as_stated(tiny_model, batch):
    model = tiny_model().double()
    learner = learner_of(model, embedding(0.3), seed=11)
    clean = float(model(*batch(0))[1].detach())
    assert learner.step(batch(0)).task_loss == clean, "the first iteration has heard no request yet"
    micros = [batch(1), batch(2)]
    shape = (4, TINY["block_size"], TINY["n_embd"])
    losses = [noisy_loss(model, m, noise_for(11, 1, i, 0, shape, torch.float64), 0.3) for i, m in enumerate(micros)]
    grads = torch.autograd.grad(sum(losses) / 2, learner.parameters)
    ctx = learner.step(micros)
    assert ctx.task_loss == pytest.approx(float(sum(losses).detach()) / 2, rel=1e-12)
    assert all(torch.allclose(p.grad, g, atol=1e-12) for p, g in zip(learner.parameters, grads, strict=True))
    assert abs(ctx.task_loss - float(sum(model(*m)[1] for m in micros).detach()) / 2) > 1e-4


def test_ranks_and_micro_batches_draw_noise_of_their_own():
    draws = [noise_for(1, 0, micro, rank, (4, 8), torch.float32) for micro in (0, 1) for rank in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_noise_is_never_in_evaluation_nor_in_probes_and_draws_from_no_shared_generator(tiny_model, batch):
    seen = []

    class Asks(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.requests.probe_loss = True
            seen.append(ctx.probes.get("loss"))
            return ctx

    model = tiny_model()
    learner = learner_of(model, embedding(), Asks(), lr=0.0, probe=batch(9))
    held_out, generator = float(model(*batch(9))[1].detach()), torch.get_rng_state()
    for i in range(3):
        learner.step(batch(i))
        assert float(model(*batch(9))[1].detach()) == held_out
    assert seen == [None, pytest.approx(held_out, rel=1e-6), pytest.approx(held_out, rel=1e-6)]
    assert torch.equal(generator, torch.get_rng_state())


def test_a_forward_that_nobody_asked_noise_for_has_none(tiny_model, batch):
    plugin = embedding()
    learner = learner_of(tiny_model(), plugin, lr=0.0)
    losses = []
    for i in range(4):
        plugin.enabled = i == 1
        losses.append(learner.step(batch(0)).task_loss)
    assert losses[0] == losses[1] == losses[3] != losses[2]


def test_requests_of_two_plugins_add_in_quadrature(tiny_model, batch):
    learner = learner_of(tiny_model(), embedding(0.3, name="a"), embedding(0.4, name="b"))
    assert learner.step(batch(0)).requests.embedding_noise == pytest.approx(0.5)
    assert started(embedding(0.3, warmup_iters=10), 1.0).requests.embedding_noise == 0.0


def test_a_gate_judges_the_noisy_loss(tiny_model, batch):
    learner = learner_of(tiny_model(), embedding(), lr=0.0)
    clean, noisy = (learner.step(batch(0)).task_loss for _ in range(2))
    gate = OckhamGatePlugin(surprise_threshold=(clean + noisy) / 2)
    learner = learner_of(tiny_model(), gate, embedding(), lr=0.0)
    assert [learner.step(batch(0)).updated for _ in range(2)] == [clean > noisy, noisy > clean]


def test_a_compiled_module_hears_the_noise(tiny_model, batch):
    losses = []
    for wrapped in (lambda m: m, lambda m: torch.compile(m, backend="eager")):
        model = wrapped(tiny_model())
        model(*batch(0))  # compiled before anybody asks
        learner = learner_of(model, embedding())
        losses.append([learner.step(batch(i)).task_loss for i in range(4)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    quiet = learner_of(tiny_model())
    assert abs([quiet.step(batch(i)).task_loss for i in range(2)][1] - losses[1][1]) > 1e-4


def test_a_model_without_a_token_embedding_is_refused(batch):
    class Positions(torch.nn.Module):
        def __init__(self, has_positions):
            super().__init__()
            self.p = torch.nn.Embedding(16, 20) if has_positions else torch.nn.Linear(20, 16)

        def forward(self, x, y):
            logits = self.p(torch.arange(16)).expand(4, 16, 20) if isinstance(self.p, torch.nn.Embedding) else self.p.weight
            return logits, logits.square().mean()

    with pytest.raises(ConfigError, match=r"the model has no nn\.Embedding"):
        learner_of(Positions(False), embedding()).step(batch(0))
    learner = learner_of(Positions(True), embedding())
    learner.step(batch(0))
    with pytest.raises(ShapeError, match=r"gives \(16, 20\), its tokens' would be \(4, 16, 20\)"):
        learner.step(batch(1))


# together ---------------------------------------------------------------------------------------------------------------
def rack():
    return [
        CompressorPlugin(detector="loss", threshold=2.95, ratio=3.0, attack=0.3),
        EQPlugin(by="domain", bands={"noise": 0.1}, adaptation_rate=0.2),
        LimiterPlugin(limit_type="delta_theta", ceiling=2e-3),
        LimiterPlugin("gradients", limit_type="grad_norm", ceiling=0.4),
        embedding(drive=0.2, warmup_iters=3),
    ]


def shares_of(step):
    return {"noise": (step % 4) / 4, "easy": 1 - (step % 4) / 4}


def test_resume_in_the_middle_is_bit_identical(tiny_model, batch):
    def make():
        return learner_of(tiny_model(dropout=0.1), *rack(), optimizer=ADAMW, lr=3e-3)

    torch.manual_seed(3)
    straight, contexts, generators = make(), [], []
    torch.manual_seed(3)
    for i in range(10):
        generators.append(torch.get_rng_state())
        contexts.append(straight.step([batch(i), batch(i + 50)] if i % 3 else batch(i), shares_of(i)).to_dict())
    for k in (1, 4, 7):
        first = make()
        torch.manual_seed(3)
        for i in range(k):
            first.step([batch(i), batch(i + 50)] if i % 3 else batch(i), shares_of(i))
        second, file = make(), io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.model.load_state_dict(first.model.state_dict())
        second.load_state_dict(torch.load(file, weights_only=True))
        torch.set_rng_state(generators[k])
        rest = [second.step([batch(i), batch(i + 50)] if i % 3 else batch(i), shares_of(i)).to_dict() for i in range(k, 10)]
        assert rest == contexts[k:]
        assert torch.equal(weights(second), weights(straight))


def test_a_state_from_before_embedding_noise_has_none_pending(tiny_model, batch):
    learner = learner_of(tiny_model(), embedding())
    learner.step(batch(0))
    assert learner.requested.embedding_noise == pytest.approx(0.3)
    old = learner.state_dict()
    del old["requested"]["embedding_noise"]
    learner.load_state_dict(old)
    assert learner.requested.embedding_noise == 0.0


def worker(rank, folder):
    from model import GPT, GPTConfig

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(GPTConfig(**TINY)).double()
    learner = OckhamLearner(
        torch.nn.parallel.DistributedDataParallel(model), ADAMW(model.parameters(), lr=3e-3), PluginHost(rack()),
        anchor=Anchor(model.parameters()), ranks=Ranks(torch.device("cpu"), rank=rank, world=2),
        precision=Precision("cpu", torch.float64),
    )  # fmt: skip
    corpus = corpus_of(folder)
    source = BatchSource(corpus.train, 3, 16, seed=1, rank=rank)
    shares = domain_shares(corpus, source, learner.host, 2, 2)
    rates = [learner.step([source.batch(i, m) for m in (0, 1)], shares(i)).learning_rate for i in range(6)]
    torch.save((weights(learner), rates), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_ranks_stay_together_under_every_option(tmp_path):
    mp.spawn(worker, args=(tmp_path,), nprocs=2)
    (first, rates), (second, other_rates) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second)
    assert rates == other_rates
    assert len(set(rates)) > 3


# check ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "plugin",
    [
        CompressorPlugin(detector="loss", threshold=2.0),
        LimiterPlugin(limit_type="grad_norm"),
        LimiterPlugin(limit_type="delta_theta", ceiling=0.01),
        EQPlugin(by="domain"),
        embedding(),
    ],
    ids=lambda plugin: plugin.name,
)
def test_an_option_writes_what_it_says_and_nothing_else(plugin):
    seen, passes = probe(plugin, {"lambda_ockham": 0.01})
    assert seen == set(plugin.writes())
    assert plugin.writes().items() <= type(plugin).WRITES.items()
    assert passes == (0.0, 0.0)


def preset(tmp_path, *lines):
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(["hyperparameters: {lambda_ockham: 5}", "plugins:", *lines]) + "\n", encoding="utf-8")
    return load_preset_file(path)


OVER_5 = "{type: CompressorPlugin, params: {max_lambda: 9}}"


def test_two_limits_on_one_thing_do_not_depend_on_their_order(tmp_path):
    limiter = "  - {type: LimiterPlugin, name: %s, params: {limit_type: delta_theta, ceiling: 0.1}}"
    (found,) = conflicts(devices(preset(tmp_path, limiter % "a", limiter % "b")))
    assert (found.field, found.order_matters) == ("requests.update_ceiling", False)
    assert "the lowest holds" in found.verdict


@pytest.mark.parametrize(
    ("plugins", "expected"),
    [
        (["{type: CompressorPlugin, params: {detector: loss, threshold: 2}}"], []),
        (["{type: CompressorPlugin, params: {detector: loss}}"], ["every batch is over it"]),
        (["{type: LimiterPlugin, params: {limit_type: delta_theta, ceiling: 0}}"], ["lets nothing be learned"]),
        (["{type: LimiterPlugin, params: {limit_type: delta_theta, ceiling: 0.01}}"], []),
        ([OVER_5, "{type: LimiterPlugin, params: {ceiling: 0.05}}"], ["limiter.ceiling"]),
        ([OVER_5, "{type: LimiterPlugin, params: {limit_type: grad_norm, ceiling: 0.05}}"], []),
    ],
)  # fmt: skip
def test_likely_mistakes_know_the_options(tmp_path, plugins, expected):
    found = mistakes(preset(tmp_path, *(f"  - {plugin}" for plugin in plugins)))
    assert len(found) == len(expected)
    assert all(words in line for words, line in zip(expected, found, strict=True))
