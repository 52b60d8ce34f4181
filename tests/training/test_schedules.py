"""Learning rates by epoch."""

import pytest

from po2quant.training.schedules import constant, exponential_decay, piecewise


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
