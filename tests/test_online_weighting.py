"""Token weights: from spans, so that any tokenizer will do; and the weighted loss, against torch."""

import pytest
import torch
import torch.nn.functional as F

from ockham.errors import ConfigError, ShapeError
from ockham.online import weighting
from ockham.online.config import ImportanceWeightingSettings
from ockham.online.weighting import ImportanceWeighter, Tokens, occurrences, register, weighted_loss

TEXT = "Tom is my friend"
PIECES = ["Tom", " is", " my", " fri", "end"]  # as a BPE tokenizer cuts it


def weighter(*strategies, **settings):
    return ImportanceWeighter(ImportanceWeightingSettings(strategies=strategies, **settings))


def weights(*strategies, pieces=PIECES, text=TEXT, entities=(), answer="", **settings):
    return weighter(*strategies, **settings).weights(pieces, entities, answer, text).tolist()


def test_disabled_is_all_ones():
    found = weights({"name": "entity_based"}, entities=["Tom"], answer="my friend", enabled=False)
    assert found == [1.0] * 5


def test_entities_weigh_three_in_every_piece_that_they_touch():
    assert weights({"name": "entity_based"}, entities=["Tom", "friend"]) == [3, 1, 1, 3, 3]


def test_characters_are_weighted_as_their_word_is():
    found = weights({"name": "entity_based"}, pieces=list(TEXT), entities=["tom"])
    assert found == [3.0] * 3 + [1.0] * 13


def test_tom_is_not_found_in_tomato():
    assert occurrences("Tom", "Tomato, tom, atom and TOM.") == [(8, 11), (22, 25)]
    assert occurrences("New York", "in New\n York") == [(3, 12)]
    assert occurrences("C++", "he likes C++.") == [(9, 12)]
    assert occurrences(" ", "a b") == []


def test_answer_tokens_have_a_weight_of_their_own():
    assert weights(answer="my friend", fact_token_weight=4.0) == [1, 1, 4, 4, 4]


def test_first_and_last_tokens():
    values = {"first_n_tokens": 2, "first_token_weight": 2.0, "last_n_tokens": 4, "last_token_weight": 1.5}
    assert weights({"name": "position_based", **values}) == [2.0, 3.0, 1.5, 1.5, 1.5]
    assert weights({"name": "position_based"}, pieces=["Tom", TEXT[3:]]) == [2.0, 2.0]  # fewer than five


def test_words_that_come_twice_weigh_two():
    pieces = ["Tea", " is", " tea", ", not", " teas"]
    assert weights({"name": "repetition_based"}, pieces=pieces, text="".join(pieces)) == [2, 1, 2, 1, 1]


def test_products_are_cut_at_the_cap():
    both = [{"name": "entity_based"}, {"name": "position_based"}]  # 3 · 2 · 3 for the first piece
    assert weights(*both, entities=["Tom"], answer="Tom", max_weight=100.0)[0] == 18.0
    assert weights(*both, entities=["Tom"], answer="Tom", max_weight=10.0)[0] == 10.0


def test_a_strategy_that_is_off_does_nothing():
    assert weights({"name": "entity_based", "enabled": False}, entities=["Tom"]) == [1.0] * 5


def test_the_strategys_weight_goes_before_the_rooms():
    assert weights({"name": "entity_based"}, entities=["Tom"], entity_weight=7.0)[0] == 7.0
    assert weights({"name": "entity_based", "weight": 2.0}, entities=["Tom"], entity_weight=7.0)[0] == 2.0


def test_special_tokens_without_text_keep_the_default_weight():
    made = weighter({"name": "entity_based"}, default_weight=2.0)
    assert made.weights_at([(0, 0), (0, 3), (3, 6)], ["Tom"], "", TEXT).tolist() == [2.0, 6.0, 2.0]


def test_pieces_that_are_not_the_text_are_refused():
    with pytest.raises(ShapeError, match="must join to the text"):
        weights(pieces=["Tim"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "entity_base"}, r"unknown strategy 'entity_base' \(did you mean entity_based\?\)"),
        ({"name": "entity_based", "wieght": 2.0}, r"unknown key wieght .*did you mean weight\?"),
        ({"name": "entity_based", "weight": -1}, "weight must be a number >= 0, got -1"),
        ({"name": "nowhere_at_all:f"}, "module 'nowhere_at_all' cannot be imported; put its folder on PYTHONPATH"),
        ({"name": "json:dumbs"}, r"module 'json' has no 'dumbs' \(did you mean dumps\?\)"),
        ({"name": "ockham:__version__"}, "must be a function, got str"),
    ],
)
def test_a_strategy_that_cannot_be_used_is_an_error_at_once(entry, message):
    with pytest.raises(ConfigError, match=message):
        weighter(entry)


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(weighting, "_registered", {})

    def numbers(tokens: Tokens, values):
        return [values["factor"] if any(c.isdigit() for c in tokens.text[a:b]) else 1.0 for a, b in tokens.spans]

    return numbers


def test_a_strategy_of_ones_own_gets_its_config_entry(own):
    register("numbers", own)
    found = weights({"name": "numbers", "factor": 2.5}, pieces=["born", " 1815"], text="born 1815")
    assert found == [1.0, 2.5]
    with pytest.raises(ConfigError, match="built in"):
        register("entity_based", own)


@pytest.mark.parametrize(
    ("gives", "error", "message"),
    [
        ([1.0], ShapeError, "'mine' must give 5 factors"),
        ([float("nan")] * 5, ConfigError, "'mine' gave factors that are"),
    ],
)
def test_what_a_strategy_of_ones_own_gives_is_checked(own, gives, error, message):
    register("mine", lambda tokens, values: gives)
    with pytest.raises(error, match=message):
        weights({"name": "mine"})


def test_equal_weights_are_torchs_mean_cross_entropy():
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 5, 11, requires_grad=True), torch.randint(11, (2, 5))
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, T)
    mean = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(weighted_loss(losses, torch.ones_like(losses)), mean)


def test_the_weighted_loss_is_torchs_with_class_weights():
    """torch weighs by class, Σ w·l / Σ w: with each token a class of its own, the two are the same law."""
    torch.manual_seed(1)
    logits, by_class = torch.randn(6, 6), torch.rand(6) + 0.1
    losses = F.cross_entropy(logits, torch.arange(6), reduction="none")
    torch.testing.assert_close(weighted_loss(losses, by_class), F.cross_entropy(logits, torch.arange(6), weight=by_class))


def test_a_heavier_token_pulls_harder():
    """Witness: the gradient on the weighted token's logits grows, the others' shrinks."""
    logits = torch.zeros(5, 4, requires_grad=True)
    sizes = []
    for weight in (torch.ones(5), torch.tensor([3.0, 1, 1, 1, 1])):
        losses = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long), reduction="none")
        (gradient,) = torch.autograd.grad(weighted_loss(losses, weight), logits)
        sizes.append(gradient.norm(dim=1))
    assert sizes[1][0] == pytest.approx(float(sizes[0][0]) * 3 * 5 / 7)
    assert sizes[1][1] < sizes[0][1]


def test_a_loss_without_weight_or_of_another_shape_is_an_error():
    with pytest.raises(ConfigError, match="weight 0"):
        weighted_loss(torch.ones(3), torch.zeros(3))
    with pytest.raises(ShapeError, match="one shape"):
        weighted_loss(torch.ones(3), torch.ones(2))
