"""What resists forgetting, each law against its closed form: L2-SP, EWC, decoupled decay, LwF's KL, Fisher information."""

import pytest
import torch
from torch import nn

from ockham import OckhamLearner, PluginHost
from ockham.anchor import Anchor
from ockham.distributed import Ranks
from ockham.errors import ConfigError
from ockham.fisher import fisher, normalised
from ockham.ledger import Ledger
from ockham.objective import Rows, divergence

CPU = torch.device("cpu")


class Quadratic(nn.Module):
    """L = Σ a·(θ − b)²/2, whatever the batch; its logits are not used."""

    def __init__(self, a, b, theta):
        super().__init__()
        self.a, self.b = a, b
        self.theta = nn.Parameter(theta.clone())

    def forward(self, x, y):
        return None, 0.5 * (self.a * (self.theta - self.b) ** 2).sum()


class Table(nn.Module):
    """Logits of the next token by the last one alone: a row of θ (V, V) for each token."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(theta.clone())

    def forward(self, x, y):
        logits = self.theta[x]  # (B, T, V)
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


A, B, START = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.0, -1.0, 2.0]), torch.tensor([0.2, 0.3, -0.4])
EMPTY = (torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))


def settled(kind, lam, lr=0.1, steps=400, importance=None, **options):
    model = Quadratic(A, B, START)
    anchor = Anchor(model.parameters(), kind=kind, **options)
    anchor.importance = importance
    learner = OckhamLearner(
        model, torch.optim.SGD(model.parameters(), lr=lr), PluginHost([]), anchor=anchor, lambda_ockham=lam,
        consolidate_interval=0, clip_grad_norm=0,
    )  # fmt: skip
    for _ in range(steps):
        learner.step(EMPTY)
    return model.theta.detach()


def test_l2_settles_where_l2_sp_does_on_a_quadratic():
    lam = 0.3
    assert torch.allclose(settled("l2", lam), (A * B + 2 * lam * START) / (A + 2 * lam), atol=1e-5)


def test_fisher_settles_where_ewc_does_on_a_quadratic():
    lam, importance = 0.3, torch.tensor([0.0, 1.0, 2.0])
    expected = (A * B + 2 * lam * importance * START) / (A + 2 * lam * importance)
    assert torch.allclose(settled("fisher", lam, importance=[importance]), expected, atol=1e-5)


def test_decoupled_takes_its_step_beside_the_optimizers():
    lam, lr = 2.0, 0.1
    moved = START + torch.tensor([0.5, 0.5, 0.5])
    model = Quadratic(A, B, START)
    learner = OckhamLearner(
        model, torch.optim.SGD(model.parameters(), lr=lr), PluginHost([]), anchor=Anchor(model.parameters(), kind="decoupled"),
        lambda_ockham=lam, clip_grad_norm=0,
    )  # fmt: skip
    with torch.no_grad():
        model.theta.copy_(moved)
    gradient = A * (moved - B)
    learner.step(EMPTY)
    assert torch.allclose(model.theta.detach(), moved - lr * lam * (moved - START) - lr * gradient, atol=1e-6)


def test_decoupled_never_goes_past_the_anchor():
    model = Quadratic(torch.zeros(3), B, START)
    anchor = Anchor(model.parameters(), kind="decoupled")
    with torch.no_grad():
        model.theta.add_(1.0)
    anchor.pull([{"lr": 1.0, "params": [model.theta]}], 1e6)
    assert torch.allclose(model.theta.detach(), START)


def test_kinds_join_and_each_has_its_strength():
    lam, importance = 0.2, torch.tensor([1.0, 1.0, 1.0])
    both = settled("l2+fisher", lam, importance=[importance], scales={"fisher": 2.0})
    strength = lam * (1 + 2.0)
    assert torch.allclose(both, (A * B + 2 * strength * START) / (A + 2 * strength), atol=1e-5)


def test_lwf_gradient_is_p_minus_p_star():
    generator = torch.Generator().manual_seed(0)
    old, new = torch.randn(4, 4, generator=generator), torch.randn(4, 4, generator=generator)
    theirs, ours = old[None], new[None].clone().requires_grad_()  # one sequence that visits every token once
    divergence(theirs, ours).sum().backward()
    expected = (new.softmax(-1) - old.softmax(-1)) / 4  # mean over positions
    assert torch.allclose(ours.grad[0], expected, atol=1e-6)


def test_the_learners_kl_step_is_that_of_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(3, 3, generator=generator)
    model = Table(old)
    anchor = Anchor(model.parameters(), kind="kl")
    new = old + torch.randn(3, 3, generator=generator)
    with torch.no_grad():
        model.theta.copy_(new)
    lam, lr = 0.7, 0.1
    x, y = torch.tensor([[0, 1, 2]]), torch.tensor([[1, 2, 0]])
    learner = OckhamLearner(
        model, torch.optim.SGD(model.parameters(), lr=lr), PluginHost([]), anchor=anchor, lambda_ockham=lam, clip_grad_norm=0
    )
    learner.step((x, y))
    p, q = new.softmax(-1), old.softmax(-1)
    task = p - torch.eye(3)[y[0]]
    assert torch.allclose(model.theta.detach(), new - lr * (task + lam * (p - q)) / 3, atol=1e-6)
    assert learner.ledger.units == 4, "the anchor's forward is charged"


def test_near_the_anchor_kl_is_half_the_fisher_form():
    theta, delta = torch.tensor(0.4, dtype=torch.float64), 1e-3
    logits = lambda t: torch.stack([t, torch.zeros_like(t)])[None, None]  # noqa: E731
    kl = divergence(logits(theta), logits(theta + delta))
    p = theta.sigmoid()
    assert kl.item() == pytest.approx(float(0.5 * p * (1 - p) * delta**2), rel=1e-3)


def batches(windows, size):
    return [(part[:, :-1], part[:, 1:]) for part in windows.split(size)]


def test_fisher_does_not_depend_on_the_batch_size():
    generator = torch.Generator().manual_seed(0)
    model = Table(torch.randn(5, 5, generator=generator))
    windows = torch.randint(0, 5, (12, 9), generator=generator)
    found = []
    for size in (1, 3, 12):
        sums, count = fisher(model, dict(model.named_parameters()), batches(windows, size))
        found.append(sums[0] / count)
    assert torch.allclose(found[0], found[1])
    assert torch.allclose(found[0], found[2])
    x, y = windows[:, :-1], windows[:, 1:]
    of_the_mean = torch.autograd.grad(model(x, y)[1] * 8, model.theta)[0] ** 2 / 8
    assert of_the_mean.sum() < 0.5 * found[0].sum(), "the square of the batch's mean gradient is another thing"


def test_fisher_of_a_bernoulli_is_p_times_one_minus_p():
    p = 0.75
    model = Table(torch.tensor([[0.0, 0.0], [torch.logit(torch.tensor(p)), 0.0]]))  # after token 1: token 0 with probability p
    windows = torch.tensor([[1, 0]] * 3 + [[1, 1]])  # in the model's own proportions
    sums, count = fisher(model, dict(model.named_parameters()), batches(windows, 2))
    assert sums[0][1, 0].item() / count == pytest.approx(p * (1 - p), rel=1e-5)


def test_fisher_leaves_gradients_and_mode_alone():
    model = Table(torch.zeros(2, 2)).train()
    fisher(model, dict(model.named_parameters()), batches(torch.tensor([[0, 1]]), 1))
    assert model.theta.grad is None
    assert model.training


def test_fisher_is_scaled_to_mean_one_and_charged():
    ledger = Ledger()
    found = normalised([torch.tensor([2.0, 6.0])], 4, Ranks(CPU), ledger, batch_size=2)
    assert found[0].tolist() == [0.5, 1.5]
    assert ledger.units == 6, "two batches, forward and backward"


def test_fisher_is_measured_again_when_the_anchor_moves():
    model = Table(torch.zeros(2, 2))
    learner = OckhamLearner(
        model, torch.optim.SGD(model.parameters(), lr=0.5), PluginHost([]), anchor=Anchor(model.parameters(), kind="fisher"),
        consolidate_interval=2, fisher_batches=lambda: batches(torch.tensor([[0, 1, 0], [1, 1, 0]]), 2),
    )  # fmt: skip
    seen = []
    for _ in range(4):
        learner.step((torch.tensor([[0, 1]]), torch.tensor([[1, 0]])))
        seen.append(learner.anchor.importance)
    assert seen[0] is not None
    assert seen[1] is None, "the consolidation made it stale"
    assert not torch.equal(seen[0][0], seen[2][0])


def test_fisher_without_data_says_what_to_give():
    model = Table(torch.zeros(2, 2))
    learner = OckhamLearner(model, anchor=Anchor(model.parameters(), kind="fisher"))
    with pytest.raises(ConfigError, match="fisher_batches"):
        learner.step((torch.tensor([[0, 1]]), torch.tensor([[1, 0]])))


def test_the_fisher_information_is_in_the_anchors_state():
    model = Table(torch.zeros(2, 2))
    anchor, other = (Anchor(model.parameters(), kind="fisher") for _ in range(2))
    anchor.importance = [torch.rand(2, 2)]
    other.load_state_dict(anchor.state_dict())
    assert torch.equal(other.importance[0], anchor.importance[0])


def test_a_consolidation_goes_alpha_of_the_way():
    model = Quadratic(A, B, torch.zeros(3))
    anchor = Anchor(model.parameters(), alpha=0.25)
    with torch.no_grad():
        model.theta.fill_(1.0)
    anchor.consolidate()
    assert torch.allclose(anchor.weights[0], torch.full((3,), 0.25))


def test_unknown_kind_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean fisher"):
        Anchor([nn.Parameter(torch.zeros(1))], kind="fischer")


def test_kl_waits_until_the_anchor_is_in_force():
    model = Table(torch.zeros(2, 2))
    anchor = Anchor(model.parameters(), penalize="auto", brought_in=False, kind="kl")
    learner = OckhamLearner(model, torch.optim.SGD(model.parameters(), lr=0.1), PluginHost([]), anchor=anchor, lambda_ockham=1.0)
    learner.step((torch.tensor([[0, 1]]), torch.tensor([[1, 0]])))
    assert learner.ledger.units == 3


def test_replayed_sequences_have_their_own_two_weights():
    generator = torch.Generator().manual_seed(1)
    old = torch.randn(3, 3, generator=generator)
    new = old + torch.randn(3, 3, generator=generator)
    x, y = torch.tensor([[0], [1]]), torch.tensor([[1], [2]])
    rows = Rows(x, y, torch.tensor([False, True]))
    p, q = new.softmax(-1), old.softmax(-1)
    for ce, kl in ((1.0, 0.0), (0.0, 2.0), (0.5, 1.0)):
        model = Table(old)
        anchor = Anchor(model.parameters())
        with torch.no_grad():
            model.theta.copy_(new)
        learner = OckhamLearner(
            model, torch.optim.SGD(model.parameters(), lr=1.0), PluginHost([]), anchor=anchor, lambda_ockham=0.0,
            replay_ce=ce, replay_kl=kl, clip_grad_norm=0,
        )  # fmt: skip
        ctx = learner.step(rows)
        step = torch.zeros(3, 3)
        step[0] = (p[0] - torch.eye(3)[1]) / 2
        step[1] = (ce * (p[1] - torch.eye(3)[2]) + kl * (p[1] - q[1])) / 2
        assert torch.allclose(model.theta.detach(), new - step, atol=1e-6)
        assert ctx.task_loss == pytest.approx(-p[0, 1].log().item(), rel=1e-5), "the task loss is that of the new sequences"
        assert learner.ledger.units == 3 + 0.5 * bool(kl)


def test_a_batch_of_replayed_sequences_alone_is_learned_and_judged_by_their_loss():
    old = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    model = Table(old)
    learner = OckhamLearner(model, torch.optim.SGD(model.parameters(), lr=1.0), PluginHost([]), lambda_ockham=0.0)
    ctx = learner.step(Rows(torch.tensor([[1]]), torch.tensor([[2]]), torch.tensor([True])))
    assert ctx.updated
    assert ctx.task_loss == pytest.approx(-old.log_softmax(-1)[1, 2].item(), rel=1e-5)
