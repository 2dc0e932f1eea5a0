"""The arithmetic of compute units."""

import pytest

from ockham.ledger import Ledger


@pytest.mark.parametrize(("rate", "saved"), [(0.3, 0.47), (0.6, 0.27), (0.9, 0.07), (1.0, 0.0)])
def test_skipped_batches_save_two_of_three_units(rate, saved):
    ledger = Ledger()
    for i in range(1000):
        updated = i % 10 < rate * 10
        ledger.forward()
        if updated:
            ledger.backward()
        ledger.verdict(updated, tokens=5)
    assert ledger.update_rate == pytest.approx(rate)
    assert ledger.saved == pytest.approx(saved, abs=0.005)
    assert ledger.units == 1000 + 2 * ledger.updates


def test_scoring_forwards_are_charged():
    ledger = Ledger()
    ledger.forward(2)
    ledger.backward()
    ledger.verdict(True, tokens=1)
    assert ledger.saved == pytest.approx(-1 / 3)


def test_recent_rate_forgets_the_beginning():
    ledger = Ledger()
    for i in range(1500):
        ledger.verdict(i >= 500, tokens=1)
    assert ledger.update_rate_recent == 1.0
    assert ledger.update_rate == pytest.approx(2 / 3)


def test_state_round_trip_continues():
    a, b = Ledger(), Ledger()
    for i in range(10):
        a.forward()
        a.verdict(i % 2 == 0, tokens=3)
    b.load_state_dict(a.state_dict())
    for ledger in (a, b):
        ledger.verdict(True, tokens=3)
    assert a == b
