"""OckhamMemory: the gates in their order, what is kept and what goes, and the way back bit for bit."""

import copy
import dataclasses
import json
import logging
import math

import pytest
import torch

from ockham import ModelSnapshot, OccamContext, OckhamMemory, OckhamMemoryV2, checkpoint, memory, pareto
from ockham.errors import CheckpointError, ConfigError, ShapeError, TrainingError
from ockham.quotient import Footprint, performance

SPEC = {"quality_threshold": 1.5, "complexity_threshold": 0.1, "min_oq_improvement": 0.05}


def context(loss, iter_num=0, complexity_cost=0.05, params=1000, **others):
    return OccamContext(iter_num, loss, complexity_cost=complexity_cost, model_params=params, **others)


def weights_of(model):
    return {k: t.clone() for k, t in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@torch.no_grad()
def disturb(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.add_(torch.randn(p.shape, generator=generator))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


@pytest.fixture
def first(net):
    """A snapshot of loss 1.4."""
    return OckhamMemory().save_checkpoint(net, context(1.4))


# the gates


def test_the_first_valid_state_is_accepted():
    assert OckhamMemory(**SPEC).should_accept_update(context(1.4), None) == (True, memory.ACCEPTED_FIRST_VALID)


@pytest.mark.parametrize(
    ("loss", "cost", "expected"),
    [
        (1.6, 0.2, "REJECTED_QUALITY"),  # the first gate that closes speaks
        (1.2, 0.2, "REJECTED_COMPLEXITY"),
        (1.39, 0.05, "REJECTED_OQ_INSUFFICIENT"),  # 1.4/1.39 − 1 = 0.7 %
        (1.33, 0.05, "ACCEPTED_OQ_IMPROVEMENT"),  # 5.3 %
    ],
)
def test_the_gates_close_in_their_order(first, loss, cost, expected):
    accepted, reason = OckhamMemory(**SPEC).should_accept_update(context(loss, complexity_cost=cost), first)
    assert (accepted, reason) == (expected.startswith("ACCEPTED"), expected)


def test_a_value_at_its_threshold_passes(net):
    at = OckhamMemory(quality_threshold=1.5, complexity_threshold=0.1, min_oq_improvement=0.5)
    assert at.should_accept_update(context(1.5, complexity_cost=0.1), None)[0]
    prev = OckhamMemory().save_checkpoint(net, context(1.5, params=1000))
    assert at.judge(context(1.0, params=1000), prev).improvement == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.1])
@pytest.mark.parametrize("options", [SPEC, {"min_oq_improvement": None}])
def test_what_is_no_finite_figure_is_never_accepted(first, bad, options):
    judge = OckhamMemory(**options)
    for prev in (None, first):
        assert judge.should_accept_update(context(bad), prev) == (False, memory.REJECTED_QUALITY)
        assert judge.should_accept_update(context(1.0, complexity_cost=bad), prev) == (False, memory.REJECTED_COMPLEXITY)


def test_none_turns_a_gate_off(first):
    worse = context(9.0, complexity_cost=9.0)
    assert OckhamMemory(min_oq_improvement=None).should_accept_update(worse, first)[0]
    assert not OckhamMemory(min_oq_improvement=0.0).should_accept_update(worse, first)[0]


def test_a_cheaper_model_of_equal_loss_is_an_improvement(net):
    footprints = [Footprint(1000, 1.0, 2e6), Footprint(1000, 1.0, 1e6)]
    large, small = (footprint.fill(context(1.4)) for footprint in footprints)
    prev = OckhamMemory().save_checkpoint(net, large)
    assert OckhamMemory(**SPEC).judge(small, prev).improvement == pytest.approx(1.0)


def test_unknown_costs_are_taken_as_equal(first):
    verdict = OckhamMemory(**SPEC).judge(context(1.0, params=0), first)
    assert (verdict.reason_code, verdict.improvement) == (memory.ACCEPTED_OQ_IMPROVEMENT, pytest.approx(0.4))


def test_the_verdict_has_the_figures_behind_it(first):
    judge = OckhamMemory(**SPEC)
    judge.should_accept_update(context(1.6, iter_num=7), first)
    assert (judge.last.iter_num, judge.last.value, judge.last.threshold) == (7, 1.6, 1.5)
    judge.should_accept_update(context(1.39), first)
    last = judge.last
    assert (last.previous, last.previous_oq, last.threshold) == (first.id, first.metrics.occam_quotient, 0.05)
    assert last.value == last.improvement == pytest.approx(1.4 / 1.39 - 1)
    assert json.loads(json.dumps(last.to_dict()))["reason_code"] == "REJECTED_OQ_INSUFFICIENT"


def test_judging_changes_nothing_and_a_call_counts_once(first):
    judge = OckhamMemory(**SPEC)
    judge.judge(context(1.0), first)
    assert (judge.statistics["evaluations"], judge.last) == (0, None)
    for loss, cost in ((1.0, 0.0), (2.0, 0.0), (1.0, 0.5), (1.4, 0.0)):
        judge.should_accept_update(context(loss, complexity_cost=cost), first)
    assert judge.statistics == {
        "evaluations": 4,
        "accepted": 1,
        "rejected_quality": 1,
        "rejected_complexity": 1,
        "rejected_oq": 1,
        "accept_rate": 0.25,
    }
    judge.reset_statistics()
    assert (judge.statistics["evaluations"], judge.statistics["accept_rate"]) == (0, 0.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quality_threshold": -1.0}, "quality_threshold must be a finite number, or None for no gate, >= 0, got -1.0"),
        ({"complexity_threshold": "0.1"}, "complexity_threshold must be"),
        ({"min_oq_improvement": math.nan}, "min_oq_improvement must be"),
        ({"max_snapshots": 0}, "max_snapshots must be a whole number, >= 1, got 0"),
        ({"max_mb": True}, "max_mb must be a finite number, >= 0, got True"),
    ],
)
def test_options_out_of_range_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        OckhamMemory(**options)


def test_the_specs_snippets_run_as_written(net, caplog):
    memory = OckhamMemoryV2(
        quality_threshold=1.5,
        complexity_threshold=0.1,
        min_oq_improvement=0.05,
    )
    logger, prev = logging.getLogger("decisions"), None
    with caplog.at_level(logging.INFO):
        for loss in (1.4, 1.39):
            ctx = context(loss)
            accept, reason = memory.should_accept_update(ctx, prev)
            logger.info({"decision": accept, "reason": reason, "oq": ctx.compute_occam_quotient(performance(loss))})
            if accept:
                prev = memory.save_checkpoint(net, ctx)
    assert [r.msg["reason"] for r in caplog.records] == ["ACCEPTED_FIRST_VALID", "REJECTED_OQ_INSUFFICIENT"]
    assert prev.metrics.occam_quotient == caplog.records[0].msg["oq"] > 0
    assert OckhamMemoryV2 is OckhamMemory


# the frontier


def point(loss, complexity_cost, params, iter_num=0):
    return ModelSnapshot.of(context(loss, iter_num, complexity_cost), id=f"iter-{iter_num:06d}", params=params, bytes=0)


def test_the_frontier_is_what_nothing_dominates():
    generator = torch.Generator().manual_seed(3)
    points = [point(*row, i) for i, row in enumerate(torch.randint(0, 5, (40, 3), generator=generator).tolist())]
    rows = torch.tensor([pareto.figures(p) for p in points])
    no_worse, better = (rows[:, None] <= rows).all(-1), (rows[:, None] < rows).any(-1)
    undominated = ~(no_worse & better).any(0)
    assert 1 < undominated.sum() < 40
    assert pareto.frontier(points) == [p for p, on in zip(points, undominated, strict=True) if on]


def test_equals_are_on_the_frontier_together():
    twins = [point(1, 1, 1, 0), point(1, 1, 1, 1)]
    assert pareto.frontier(twins) == twins
    assert pareto.frontier([*twins, point(1, 1, 0, 2)])[0].iter_num == 2


def test_select_best_takes_the_least_loss_within_limits(net):
    kept = OckhamMemory()
    for i, (loss, cost, params) in enumerate([(1.0, 0.9, 300), (1.2, 0.1, 200), (1.5, 0.1, 100), (1.6, 0.2, 400)]):
        kept.add_candidate(net, loss, cost, params, iter_num=i)
    assert [s.iter_num for s in kept.frontier()] == [0, 1, 2]
    assert kept.select_best().loss == 1.0
    assert kept.select_best(max_complexity=0.5).loss == 1.2
    assert kept.select_best(max_complexity=0.5, max_params=150).loss == 1.5
    assert kept.select_best(weights=(0, 0, 1)).params == 100
    assert kept.select_best(weights=(1, 1, 1)).loss == 1.2  # sums 2.0, 0.4 / 0.6, by hand 0.33 + 0 + 0.5, 1.0
    assert kept.select_best(max_loss=0.5) is None
    assert OckhamMemory().select_best() is None


def test_ties_go_to_the_earliest(net):
    kept = OckhamMemory()
    for i in range(3):
        kept.add_candidate(net, 1.0, iter_num=i)
    assert kept.select_best().iter_num == 0


def test_a_candidate_without_a_count_has_the_models_active_parameters(net):
    with torch.no_grad():
        net.bias.zero_()
    assert OckhamMemory().add_candidate(net, 1.0).params == 6


def test_figures_that_cannot_be_compared_are_not_kept(net):
    with pytest.raises(ConfigError, match="task_loss must be a finite number >= 0, got nan"):
        OckhamMemory().add_candidate(net, math.nan)


# the caps


def test_the_oldest_off_the_frontier_goes_first_then_the_oldest_on_it(net):
    kept = OckhamMemory(max_snapshots=3)
    for i, (loss, cost) in enumerate([(2.0, 0.0), (3.0, 0.5), (1.9, 0.1), (1.8, 0.2)]):
        kept.add_candidate(net, loss, cost, 100, iter_num=i)
    assert [s.iter_num for s in kept.snapshots] == [0, 2, 3]  # 1 was dominated
    kept.add_candidate(net, 1.7, 0.3, 100, iter_num=4)
    assert [s.iter_num for s in kept.snapshots] == [2, 3, 4]


def test_the_newest_stays_however_bad_it_is(net):
    kept = OckhamMemory(max_snapshots=1)
    for i, loss in enumerate((1.0, 9.0)):
        kept.add_candidate(net, loss, iter_num=i)
    assert [s.loss for s in kept.snapshots] == [9.0]
    assert kept.latest is kept.snapshots[-1]


def test_bytes_are_capped_and_the_last_one_is_kept_even_over_the_cap(net):
    size = 4 * (3 * 2 + 2)
    kept = OckhamMemory(max_mb=2 * size / 1e6)
    for i in range(4):
        assert kept.add_candidate(net, 2.0 - i / 10, iter_num=i).bytes == size
    assert [s.iter_num for s in kept.snapshots] == [2, 3]
    tight = OckhamMemory(max_mb=1e-6)
    tight.add_candidate(net, 1.0)
    assert len(tight.snapshots) == 1


def test_evicted_files_are_gone_and_the_index_names_only_what_is_there(net, tmp_path):
    kept = OckhamMemory(folder=tmp_path, max_snapshots=2)
    for i in range(4):
        kept.add_candidate(net, 1.0 - i / 10, iter_num=i)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.json", "iter-000002.pt", "iter-000003.pt"]
    assert memory.read_index(tmp_path) == kept.snapshots


def test_the_best_is_among_the_states_that_are_there(net, tmp_path):
    kept = OckhamMemory(folder=tmp_path)
    first, second = (kept.add_candidate(net, loss, iter_num=i) for i, loss in enumerate((1.0, 0.9)))
    assert kept.select_best() == second
    second.path.unlink()
    assert kept.select_best() == first
    first.path.unlink()
    assert kept.select_best() is None


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_snapshot_holds_what_the_memory_knew_with_it(net, tmp_path, on_disk):
    kept = OckhamMemory(folder=tmp_path if on_disk else None, **SPEC)
    for i, loss in enumerate((1.4, 1.3, 1.0)):
        assert kept.should_accept_update(context(loss, i), kept.latest)[0]
        snapshot = kept.save_checkpoint(net, context(loss, i))
        assert kept.load(snapshot)["memory"] == kept.state_dict()
    assert kept.load(kept.snapshots[1])["memory"]["latest"]["id"] == "iter-000001"


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "memory").touch()
    for begin in (OckhamMemory.open, lambda folder: OckhamMemory(folder=folder)):
        with pytest.raises(ConfigError, match="memory is a file; move it away"):
            begin(tmp_path / "memory")


def test_two_states_of_one_iteration_have_two_ids(net):
    kept = OckhamMemory()
    assert [kept.add_candidate(net, 1.0, iter_num=250).id for _ in range(3)] == ["iter-000250", "iter-000250-2", "iter-000250-3"]


# back and forth


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_rollback_and_its_undoing_are_bit_identical(tiny_model, tmp_path, on_disk):
    model = tiny_model()
    kept = OckhamMemory(folder=tmp_path if on_disk else None)
    then = weights_of(model)
    snapshot = kept.save_checkpoint(model, context(1.4, 100))
    disturb(model)
    later = weights_of(model)
    assert not same(then, later)
    kept.rollback(snapshot)
    assert same(weights_of(model), then)
    kept.undo_rollback()
    assert same(weights_of(model), later)
    kept.rollback(snapshot.id)
    assert same(weights_of(model), then)
    assert model.lm_head.weight is model.transformer["wte"].weight


def test_training_after_a_rollback_leaves_the_snapshot_alone(tiny_model):
    model, kept = tiny_model(), OckhamMemory()
    snapshot = kept.save_checkpoint(model, context(1.4))
    then = weights_of(model)
    for seed in (1, 2):
        disturb(model, seed)
        kept.rollback(snapshot)
        assert same(weights_of(model), then)


def test_a_rollback_allocates_no_new_weights(tiny_model):
    model, kept = tiny_model(), OckhamMemory()
    snapshot = kept.save_checkpoint(model, context(1.4))
    spare = {k: t.data_ptr() for k, t in kept._bare.spare.items()}
    live = [p.data_ptr() for p in model.parameters()]
    kept.rollback(snapshot)
    assert [p.data_ptr() for p in model.parameters()] == live
    assert {k: t.data_ptr() for k, t in kept._bare.spare.items()} == spare


def test_there_is_one_undo_to_a_rollback(net):
    kept = OckhamMemory()
    with pytest.raises(CheckpointError, match="no rollback to undo"):
        kept.undo_rollback()
    kept.rollback(kept.save_checkpoint(net, context(1.0)))
    kept.undo_rollback()
    with pytest.raises(CheckpointError, match="no rollback to undo"):
        kept.undo_rollback()


def test_an_evicted_or_unknown_snapshot_is_named_with_those_that_are_kept(net):
    kept = OckhamMemory(max_snapshots=1)
    gone = kept.add_candidate(net, 2.0, iter_num=1)
    kept.add_candidate(net, 1.0, iter_num=2)
    with pytest.raises(CheckpointError, match=r"no snapshot 'iter-000001' .*kept: iter-000002"):
        kept.rollback(gone)
    with pytest.raises(CheckpointError, match="no snapshot 'best'"):
        kept.rollback("best")


def test_a_snapshot_of_another_memory_is_refused(net):
    other = OckhamMemory().add_candidate(net, 2.0)
    kept = OckhamMemory()
    kept.add_candidate(net, 1.0)
    with pytest.raises(CheckpointError, match="of another memory"):
        kept.rollback(other)


@pytest.mark.parametrize("changes", [{"n_embd": 32}, {"n_layer": 1}, {"n_layer": 3}])
def test_another_models_weights_change_nothing(tiny_model, changes):
    kept = OckhamMemory()
    snapshot = kept.save_checkpoint(tiny_model(), context(1.4))
    other = tiny_model(**changes)
    before = weights_of(other)
    with pytest.raises(ShapeError, match="of another model: transformer"):
        kept.rollback(snapshot, other)
    assert same(weights_of(other), before)
    with pytest.raises(CheckpointError, match="no rollback to undo"):
        kept.undo_rollback()


def test_weights_are_not_rounded_into_another_dtype(net):
    kept = OckhamMemory()
    snapshot = kept.add_candidate(net, 1.0)
    net.bfloat16()
    with pytest.raises(ShapeError, match="float32"):
        kept.rollback(snapshot)


# keepers


class Trainer:
    """A model with Adam: what a run keeps, in small."""

    def __init__(self, model):
        self.model, self.optimizer, self.is_broken = model, torch.optim.Adam(model.parameters()), False

    def train(self, steps):
        for i in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.full((1, 3), float(i + 1))).square().sum().backward()
            self.optimizer.step()

    def capture(self):
        return {"model": self.model.state_dict(), "model_args": {}, "optimizer": self.optimizer.state_dict()}

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        if self.is_broken:
            self.is_broken = False
            raise ValueError("no such optimizer")
        self.optimizer.load_state_dict(state["optimizer"])

    def frozen(self):
        return copy.deepcopy(self.capture())


def equal_states(a, b):
    inner = [x["optimizer"]["state"] for x in (a, b)]
    moments = all(torch.equal(inner[0][i][k], inner[1][i][k]) for i in inner[0] for k in inner[0][i])
    return same(a["model"], b["model"]) and inner[0].keys() == inner[1].keys() and moments


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_keepers_whole_state_goes_back_and_forth_as_often_as_wanted(net, tmp_path, on_disk):
    trainer = Trainer(net)
    kept = OckhamMemory(folder=tmp_path if on_disk else None, keeper=trainer)
    trainer.train(3)
    then = trainer.frozen()
    snapshot = kept.save_checkpoint(net, context(1.4))
    for _ in range(2):  # Adam's load_state_dict keeps the tensors that it is given: the snapshot must not be among them
        trainer.train(3)
        later = trainer.frozen()
        assert not equal_states(then, later)
        kept.rollback(snapshot)
        assert equal_states(trainer.capture(), then)
        kept.undo_rollback()
        assert equal_states(trainer.capture(), later)
        kept.rollback(snapshot)
        trainer.train(1)


def test_a_rollback_that_fails_half_way_leaves_all_as_it_was(net):
    trainer = Trainer(net)
    kept = OckhamMemory(keeper=trainer)
    trainer.train(1)
    snapshot = kept.save_checkpoint(net, context(1.4))
    trainer.train(2)
    before, trainer.is_broken = trainer.frozen(), True
    with pytest.raises(ValueError, match="no such optimizer"):
        kept.rollback(snapshot)
    assert equal_states(trainer.capture(), before)


def test_a_keeper_whose_state_is_no_checkpoint_cannot_write_files(net, tmp_path):
    class Short(Trainer):
        def capture(self):
            return {"model": self.model.state_dict()}

    with pytest.raises(ConfigError, match="lacks model_args"):
        OckhamMemory(folder=tmp_path, keeper=Short(net)).save_checkpoint(net, context(1.0))


def test_without_model_or_keeper_there_is_nothing_to_roll_back(net, tmp_path):
    snapshot = OckhamMemory(folder=tmp_path).add_candidate(net, 1.0)
    kept = OckhamMemory.open(tmp_path)
    with pytest.raises(ConfigError, match=r"rollback\(snapshot, model\)"):
        kept.rollback(snapshot)
    then = weights_of(net)
    disturb(net)
    kept.rollback(snapshot, net)
    assert same(weights_of(net), then)


# files


def test_a_snapshot_on_disk_is_a_checkpoint_that_makes_the_model_again(tiny_model, tmp_path):
    from model import GPT

    model = tiny_model()
    snapshot = OckhamMemory(folder=tmp_path / "memory").save_checkpoint(model, context(1.4, 250))
    assert (snapshot.path, snapshot.state) == (tmp_path / "memory" / "iter-000250.pt", None)
    loaded = checkpoint.load_checkpoint(snapshot.path)
    assert loaded["iter_num"] == 250
    assert same(GPT.from_checkpoint(loaded).state_dict(), model.state_dict())


def test_a_folder_is_opened_with_all_that_was_known(net, tmp_path):
    kept = OckhamMemory(folder=tmp_path, **SPEC)
    ctx = context(1.0, 5, metrics={"gate.rate": 0.5, "broken": math.nan}, grad_norm=0.3)
    ctx.model_params = 0
    kept.save_checkpoint(net, context(1.2, 4))
    kept.save_checkpoint(net, ctx)
    again = OckhamMemory.open(tmp_path, **SPEC)
    assert (again.snapshots, again.latest) == (kept.snapshots, kept.latest)
    assert again.latest.metrics.others == {"gate.rate": 0.5}
    assert json.loads((tmp_path / "index.json").read_text())["v"] == 1
    assert OckhamMemory.open(tmp_path / "empty").snapshots == []


def test_a_loss_of_zero_survives_the_index(net, tmp_path):
    OckhamMemory(folder=tmp_path).add_candidate(net, 0.0)
    assert memory.read_index(tmp_path)[0].metrics.occam_quotient == math.inf


def test_a_folder_with_snapshots_is_not_begun_anew(net, tmp_path):
    OckhamMemory(folder=tmp_path).add_candidate(net, 1.0)
    with pytest.raises(ConfigError, match=r"OckhamMemory.open\(folder\) goes on"):
        OckhamMemory(folder=tmp_path)


def test_a_missing_or_damaged_state_is_named_and_the_rest_goes_on(net, tmp_path):
    kept = OckhamMemory(folder=tmp_path)
    ids = [kept.add_candidate(net, 1.0 - i / 10, iter_num=i).id for i in range(3)]
    (tmp_path / f"{ids[0]}.pt").unlink()
    file = tmp_path / f"{ids[1]}.pt"
    raw = bytearray(file.read_bytes())
    raw[raw.index(net.weight.detach().numpy().tobytes())] ^= 1
    file.write_bytes(raw)
    again = OckhamMemory.open(tmp_path)
    assert [s.is_available for s in again.snapshots] == [False, True, True]
    with pytest.raises(CheckpointError, match=r"iter-000000 is gone .*left: iter-000001, iter-000002"):
        again.rollback(ids[0], net)
    with pytest.raises(CheckpointError, match=r"iter-000001.pt is damaged"):
        again.rollback(ids[1], net)
    again.rollback(ids[2], net)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"v": 1, "snapshots": [{"id": "../../x"}]}', '{"v": 1, "snapshots": [7]}'])
def test_a_damaged_index_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index.json is damaged"):
        OckhamMemory.open(tmp_path)


def test_an_index_of_another_version_or_none_is_said_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"index.json is missing"):
        memory.read_index(tmp_path)
    (tmp_path / "index.json").write_text('{"v": 2}')
    with pytest.raises(CheckpointError, match="has version 2, this program reads 1"):
        memory.read_index(tmp_path)


def test_a_disk_that_refuses_is_a_training_error_and_keeps_nothing(net, tmp_path):
    (tmp_path / "file").write_text("")
    kept = OckhamMemory(folder=tmp_path / "file" / "memory")
    with pytest.raises(TrainingError, match="cannot write"):
        kept.add_candidate(net, 1.0)
    assert (kept.snapshots, kept.latest) == ([], None)


def test_ranks_that_do_not_write_decide_and_keep_alike(net, tmp_path):
    ranks = [OckhamMemory(folder=tmp_path, max_snapshots=2, writes=writes) for writes in (True, False)]
    for i, loss in enumerate((2.0, 1.9, 1.7, 1.8)):
        verdicts = [rank.should_accept_update(context(loss), rank.latest) for rank in ranks]
        assert verdicts[0] == verdicts[1]
        for rank in ranks:
            rank.save_checkpoint(net, context(loss, i))
        before = sorted(tmp_path.iterdir())
    assert [[s.id for s in rank.snapshots] for rank in ranks] == [["iter-000002", "iter-000003"]] * 2
    OckhamMemory(folder=tmp_path / "none", writes=False).add_candidate(net, 1.0)
    assert sorted(tmp_path.iterdir()) == before
    ranks[1].rollback("iter-000002", net)


# a resumed run


def run(kept, net, losses, start=0):
    reasons = []
    for i, loss in enumerate(losses, start):
        accepted, reason = kept.should_accept_update(context(loss, i), kept.latest)
        reasons.append(reason)
        if accepted:
            kept.save_checkpoint(net, context(loss, i))
    return reasons


@pytest.mark.parametrize("cap", [1, 5])
def test_a_resumed_run_decides_and_counts_as_if_it_had_never_stopped(net, tmp_path, cap):
    losses = [1.45, 1.44, 1.3, 1.6, 1.2, 1.19, 1.0]
    straight = OckhamMemory(folder=tmp_path / "a", max_snapshots=cap, **SPEC)
    run(straight, net, losses)
    killed = OckhamMemory(folder=tmp_path / "b", max_snapshots=cap, **SPEC)
    run(killed, net, losses[:4])
    saved = json.loads(json.dumps(killed.state_dict()))  # plain types
    run(killed, net, losses[4:6], start=4)  # iteration 4 is accepted after the last checkpoint, then the run is killed
    resumed = OckhamMemory.open(tmp_path / "b", max_snapshots=cap, **SPEC)
    resumed.load_state_dict(saved)
    assert not (tmp_path / "b" / "iter-000004.pt").exists()
    assert memory.read_index(tmp_path / "b") == resumed.snapshots
    run(resumed, net, losses[4:], start=4)
    assert resumed.statistics == straight.statistics
    assert [s.id for s in resumed.snapshots] == [s.id for s in straight.snapshots]
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == sorted(p.name for p in (tmp_path / "a").iterdir())


def test_in_memory_the_states_that_are_held_stay(net):
    kept = OckhamMemory()
    snapshot = kept.add_candidate(net, 1.0)
    saved = kept.state_dict()
    kept.add_candidate(net, 0.9, iter_num=1)
    kept.load_state_dict(saved)
    assert kept.snapshots == [snapshot]
    assert kept.load(snapshot)["model"].keys() == net.state_dict().keys()


def test_a_state_of_another_version_is_refused():
    with pytest.raises(CheckpointError, match="version None, this program reads 1"):
        OckhamMemory().load_state_dict({})


def test_a_snapshot_cannot_be_changed(first):
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.loss = 0.0


@pytest.mark.slow
def test_ten_million_weights_go_back_bit_for_bit(tiny_model, capsys):
    model = tiny_model(block_size=256, vocab_size=65, n_layer=6, n_head=6, n_embd=384)
    kept = OckhamMemory()
    then = weights_of(model)
    snapshot = kept.save_checkpoint(model, context(1.4))
    disturb(model)
    took = memory.revert_ms(kept, snapshot)
    kept.rollback(snapshot)
    assert same(weights_of(model), then)
    with capsys.disabled():
        print(f"\nrollback of {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M weights: {took:.2f} ms, median of 20")
