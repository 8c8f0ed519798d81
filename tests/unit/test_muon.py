"""Muon: updates are orthogonal, of a size that depends on the learning rate alone."""

import pytest
import torch
from torch import nn

from genclass.miniature.muon import Muon, orthogonal


@pytest.mark.parametrize(("rows", "columns"), [(24, 72), (72, 24), (48, 48)])
def test_singular_values_become_one_and_their_vectors_stay(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, rows, columns) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    found = u.mT @ orthogonal(matrices) @ v.mT
    values = found.diagonal(dim1=1, dim2=2)
    assert (found - torch.diag_embed(values)).abs().max() < 1e-3
    large = s > 0.1 * s[:, :1]  # the iterations bring up the smallest but part of the way
    assert large.float().mean() > 0.8
    assert values[large].min() > 0.6 and values[large].max() < 1.25


@pytest.mark.parametrize("shape", [(24, 72), (72, 24), (16, 8, 3, 3)])
@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_an_update_is_of_the_size_of_adamws(shape: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape)) for _ in range(2)]
    before = [matrix.detach().clone() for matrix in matrices]
    optimizer = Muon(matrices, lr=0.01)
    for matrix in matrices:
        matrix.grad = scale * torch.randn(shape)
    optimizer.step()
    for old, matrix in zip(before, matrices, strict=True):
        change = matrix.detach() - old
        assert change.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.25)
        assert (change * matrix.grad).sum() < 0  # down the slope


def test_it_finds_the_matrix_that_a_quadratic_loss_wants() -> None:
    torch.manual_seed(0)
    wanted, matrix = torch.randn(12, 30), nn.Parameter(torch.zeros(12, 30))
    optimizer = Muon([matrix], lr=0.2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=200)
    for _ in range(200):
        optimizer.zero_grad()
        (matrix - wanted).square().sum().backward()
        optimizer.step()
        schedule.step()
    assert (matrix - wanted).abs().max() < 0.02


def test_weights_decay_without_a_gradient() -> None:
    matrix = nn.Parameter(torch.ones(4, 6))
    optimizer = Muon([matrix], lr=0.1, weight_decay=0.5)
    matrix.grad = torch.zeros_like(matrix)
    optimizer.step()
    assert torch.allclose(matrix, torch.full((4, 6), 0.95))
