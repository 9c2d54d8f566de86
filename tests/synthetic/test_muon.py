from __future__ import annotations

import pytest
import torch

from lingraft.synthetic.muon import Muon, orthogonal

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("shape", [(5, 16, 16), (3, 32, 16), (2, 16, 48)])
def test_singular_values_come_near_to_one_and_singular_vectors_stay(shape) -> None:
    torch.manual_seed(0)
    given = torch.randn(shape)
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    made = orthogonal(given)
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.3
    assert values.max() < 1.3
    along = left.mT @ made @ right.mT  # diagonal where the singular vectors are the same
    torch.testing.assert_close(along, torch.diag_embed(along.diagonal(dim1=1, dim2=2)), atol=1e-4, rtol=0)


def test_a_step_is_that_of_torchs_muon_but_for_its_rounding() -> None:
    torch.manual_seed(0)
    given = [torch.randn(shape) for shape in ((8, 8), (16, 8), (8, 8), (8, 24))]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in given] for _ in range(2))
    optimizers = Muon(ours, lr=0.1), torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0)
    for _ in range(3):
        for matrices in zip(ours, theirs, strict=True):
            gradient = torch.randn_like(matrices[0])
            for matrix in matrices:
                matrix.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
    for matrix, other, before in zip(ours, theirs, given, strict=True):
        assert (matrix - before).abs().max() > 0.05
        torch.testing.assert_close(matrix, other, atol=0.01, rtol=0)
