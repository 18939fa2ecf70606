"""The Barlow Twins term on the numbers of the specification, section 3.3, and its partners."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.barlow import barlow_twins, correlation
from models.views import PartnerPool

A = torch.tensor([[1.0, 2, 0], [0, 1, 3], [2, -1, 1], [1, 0, -2]])
B = torch.tensor([[1.0, 1, 0], [1, 1, 2], [2, -2, 1], [0, 1, -1]])


def test_population_vector() -> None:
    term = barlow_twins(A, B, 0.05)
    matrix, clamped = correlation(F.normalize(A, dim=1), F.normalize(B, dim=1))
    assert matrix.diagonal().tolist() == pytest.approx([0.301716, 0.745571, 0.999527], abs=1e-6)
    assert float(term.on_diagonal) == pytest.approx(0.184111, abs=1e-6)
    assert float(term.off_diagonal) == pytest.approx(0.373443, abs=1e-6)
    assert float(term.total) == pytest.approx(0.202784, abs=1e-6)
    assert float(barlow_twins(A, B, 0.05, reduction="sum").total) == pytest.approx(0.608351, abs=2e-6)
    assert int(clamped) == 0


def test_unbiased_vector() -> None:
    term = barlow_twins(A, B, 0.05, std="unbiased")
    matrix, _ = correlation(F.normalize(A, dim=1), F.normalize(B, dim=1), "unbiased")
    assert matrix.diagonal().tolist() == pytest.approx([0.226287, 0.559178, 0.749645], abs=1e-6)
    assert float(term.on_diagonal) == pytest.approx(0.285211, abs=1e-6)
    assert float(term.off_diagonal) == pytest.approx(0.210062, abs=1e-6)
    assert float(term.total) == pytest.approx(0.295714, abs=1e-6)


def test_identical_views() -> None:
    assert float(barlow_twins(A, A, 0.0).total) == pytest.approx(0.0, abs=1e-9)
    term = barlow_twins(A, A, 0.0, std="unbiased")
    matrix, _ = correlation(F.normalize(A, dim=1), F.normalize(A, dim=1), "unbiased")
    assert matrix.diagonal().tolist() == pytest.approx([0.75] * 3)
    assert float(term.total) == pytest.approx(0.0625)


@pytest.mark.parametrize(("rows", "floor"), [(64, 1.0), (256, 0.247), (512, 0.123), (2048, 0.031)])
def test_independent_columns_cost_what_the_batch_size_says(rows: int, floor: float) -> None:
    """Of lambda (D-1)/(B-1), with D = 64."""
    a, b = torch.randn(2, rows, 64, generator=torch.Generator().manual_seed(0))
    term = barlow_twins(a, b, 0.05)
    assert float(term.total - term.on_diagonal) == pytest.approx(0.05 * floor, rel=0.1)


def test_pearson_by_numpy() -> None:
    a, b = F.normalize(A, dim=1), F.normalize(B, dim=1)
    matrix, _ = correlation(a, b)
    np.testing.assert_allclose(matrix, np.corrcoef(a.T, b.T)[:3, 3:], atol=1e-6)


def test_a_dimension_without_variance_is_clamped_counted_and_keeps_gradients_finite() -> None:
    flat = A.clone()
    flat[:, 2] = 0
    view = flat.requires_grad_()
    term = barlow_twins(view, B, 0.5)
    term.total.backward()
    assert int(term.clamped_dims) == 1
    assert view.grad is not None and bool(view.grad.isfinite().all()) and bool(term.total.isfinite())


def test_lambda_zero_leaves_the_diagonal_and_rows_may_be_permuted() -> None:
    assert float(barlow_twins(A, B, 0.0).total) == pytest.approx(float(barlow_twins(A, B, 0.0).on_diagonal))
    order = torch.tensor([2, 0, 3, 1])
    assert float(barlow_twins(A[order], B[order], 0.05).total) == pytest.approx(float(barlow_twins(A, B, 0.05).total))


def test_float32_inside_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term = barlow_twins(A.bfloat16(), B.bfloat16(), 0.05)
    assert term.total.dtype == torch.float32
    assert float(term.total) == pytest.approx(0.202784, abs=1e-6)  # these small integers are exact in bfloat16


def test_partners_share_the_target_are_uniform_and_never_the_anchor() -> None:
    targets = np.array([5, 3, 5, 9, 5, 3], np.int32)
    pool = PartnerPool(targets)
    assert pool.share == pytest.approx(5 / 6)
    anchors = np.tile(np.arange(6), 3000)
    partners, real = pool.draw(anchors, np.random.default_rng(0))
    assert (targets[partners] == targets[anchors]).all()
    assert (real == (anchors != 3)).all()
    assert ((partners == anchors) == (anchors == 3)).all()
    counts = np.bincount(partners[anchors == 2], minlength=6)
    assert counts[[0, 4]].sum() == 3000 and abs(counts[0] - 1500) < 150


def test_too_few_rows_is_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        barlow_twins(A[:1], B[:1], 0.05)
