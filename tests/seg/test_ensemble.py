import pytest
import torch
from torch import nn

from custom_apps.seg.ensemble import EnsembleNetwork


class Constant(nn.Module):
    def __init__(self, value, as_list=False):
        super().__init__()
        self.value, self.as_list = nn.Parameter(torch.tensor(float(value))), as_list

    def forward(self, x, shift=0.0):
        logits = x * 0 + self.value + shift
        return [logits, logits[..., ::2]] if self.as_list else logits


def test_logits_are_averaged_whatever_the_networks_return():
    ensemble = EnsembleNetwork([Constant(1), Constant(2, as_list=True), Constant(6)])
    assert torch.equal(ensemble(torch.zeros(1, 2, 4)), torch.full((1, 2, 4), 3.0))
    assert torch.equal(ensemble(torch.zeros(1, 2, 4), shift=1.0), torch.full((1, 2, 4), 4.0))


def test_members_are_part_of_the_module():
    assert set(EnsembleNetwork([Constant(1), Constant(2)]).state_dict()) == {"networks.0.value", "networks.1.value"}


def test_half_precision_members_are_averaged_in_float32():
    ensemble = EnsembleNetwork([Constant(60000).half(), Constant(60000).half()])
    found = ensemble(torch.zeros(1, 1, 2, dtype=torch.float16))
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_an_empty_ensemble_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        EnsembleNetwork([])
