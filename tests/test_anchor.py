"""Drift, its penalty's gradient, and when the penalty is in force."""

import math

import pytest
import torch

from ockham.anchor import Anchor
from ockham.errors import ShapeError


def parameters(*values):
    return [torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in values]


def test_drift_is_the_hand_worked_ratio():
    theta = parameters([3.0, 4.0], [[0.0]])  # ‖θ*‖² = 25
    anchor = Anchor(theta)
    with torch.no_grad():
        theta[0] += torch.tensor([1.0, 0.0])
        theta[1] += 2.0
    assert anchor.drift() == pytest.approx((1 + 4) / 25, abs=1e-15)


def test_penalty_gradient_equals_autograd():
    theta = parameters([0.3, -2.0, 5.0], [[1.0, 2.0]])
    anchor = Anchor(theta)
    with torch.no_grad():
        for p in theta:
            p += torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype)
    lam = 0.07
    omega = sum(((p - w) ** 2).sum() for p, w in zip(theta, anchor.weights, strict=True))
    expected = torch.autograd.grad(lam * omega, theta)
    for p in theta:
        p.grad = torch.ones_like(p)
    anchor.add_penalty_gradient(lam)
    for p, g in zip(theta, expected, strict=True):
        assert torch.allclose(p.grad, 1 + g, atol=1e-14)


def test_tied_weights_count_once(tiny_model):
    model = tiny_model()
    anchor = Anchor(model.parameters())
    with torch.no_grad():
        model.transformer.wte.weight += 1.0
    expected = model.transformer.wte.weight.numel() / anchor.squared_norm
    assert anchor.drift() == pytest.approx(expected, rel=1e-4)


def test_drift_from_an_anchor_at_zero_does_not_divide_by_it():
    theta = parameters([0.0])
    anchor = Anchor(theta)
    assert anchor.drift() == 0.0
    with torch.no_grad():
        theta[0].fill_(1.0)
    assert anchor.drift() == math.inf


def test_scratch_waits_until_validation_stops_improving():
    theta = parameters([1.0])
    anchor = Anchor(theta, "auto", brought_in=False, patience=2)
    losses = [3.0, 2.0, 2.5, 1.9, 2.0, 2.1]
    engaged = []
    for i, loss in enumerate(losses):
        with torch.no_grad():
            theta[0].fill_(float(i))
        engaged.append(anchor.observe(loss, i))
    assert engaged == [False, False, False, False, False, True]
    assert anchor.weights[0].item() == 3.0  # the weights of the best evaluation
    assert anchor.in_force
    assert anchor.status == "engaged at 5"


def test_engaged_anchor_no_longer_follows_improvements():
    theta = parameters([1.0])
    anchor = Anchor(theta, "auto", brought_in=False, patience=1)
    anchor.observe(2.0, 0)
    anchor.observe(2.1, 1)
    with torch.no_grad():
        theta[0].fill_(9.0)
    assert not anchor.observe(1.0, 2)
    assert anchor.weights[0].item() == 1.0


@pytest.mark.parametrize(
    ("penalize", "brought_in", "in_force"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("always", False, True),
        ("never", True, False),
    ],
)
def test_modes_decide_whether_the_penalty_is_on_from_the_start(penalize, brought_in, in_force):
    assert Anchor(parameters([1.0]), penalize, brought_in).in_force is in_force


def test_never_measures_but_never_engages():
    anchor = Anchor(parameters([1.0]), "never", patience=1)
    assert not any(anchor.observe(loss, i) for i, loss in enumerate([1.0, 2.0, 3.0, 4.0]))
    assert anchor.drift() == 0.0


def test_state_inherits_the_mode_and_refuses_other_shapes():
    old = Anchor(parameters([1.0, 2.0]), "auto", brought_in=False)
    old.observe(1.0, 0)
    new = Anchor(parameters([5.0, 5.0]), "auto", brought_in=True)
    new.load_state_dict(old.state_dict())
    assert not new.in_force
    assert new.weights[0].tolist() == [1.0, 2.0]
    with pytest.raises(ShapeError):
        Anchor(parameters([1.0])).load_state_dict(old.state_dict())


def test_a_kept_displacement_is_never_stale(tiny_model):
    model = tiny_model()
    anchor = Anchor(model.parameters(), "always")
    anchor.keeps_displacement = True
    parameters = [p for p in model.parameters() if p.requires_grad]

    def penalty():
        for p in parameters:
            p.grad = torch.zeros_like(p)
        anchor.add_penalty_gradient(0.5)
        return [p.grad for p in parameters]

    def written(change):
        with torch.no_grad():
            change()
        assert all(torch.equal(g, p - w) for g, p, w in zip(penalty(), parameters, anchor.weights, strict=True))

    anchor.drift()
    written(lambda: [p.add_(0.1) for p in parameters])
    anchor.drift()
    written(lambda: parameters[-1].mul_(2))  # one alone
    anchor.drift()
    written(lambda: anchor.follow(0.5))
    anchor.drift()
    written(anchor.move)
    assert anchor.drift() == 0.0
