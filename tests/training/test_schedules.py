"""Learning rates by epoch, and other courses of training."""

import pytest

from po2quant.training.schedules import constant, exponential_decay, piecewise, rising_cosine


def test_constant_and_exponential_decay():
    assert [constant(0.1)(epoch) for epoch in (0, 9)] == [0.1, 0.1]
    assert [exponential_decay(0.001, 0.5)(epoch) for epoch in (0, 1, 3)] == [0.001, 0.0005, 0.000125]


def test_piecewise_changes_at_its_epochs():
    rate = piecewise(((0, 0.001), (20, 0.0005), (30, 0.00025)))
    assert [rate(epoch) for epoch in (0, 19, 20, 29, 30, 99)] == [0.001, 0.001, 0.0005, 0.0005, 0.00025, 0.00025]


@pytest.mark.parametrize("stages", [(), ((1, 0.1),), ((0, 0.1), (0, 0.2)), ((0, 0.1), (5, 0.2), (4, 0.1))])
def test_piecewise_refuses_stages_that_do_not_ascend_from_zero(stages):
    with pytest.raises(ValueError, match="start at epoch 0 and ascend"):
        piecewise(stages)


def test_the_rising_cosine_goes_from_0_to_1():
    assert [rising_cosine(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.5, 1.0], abs=1e-15)
    assert rising_cosine(0.1) < 0.1 and rising_cosine(0.9) > 0.9
