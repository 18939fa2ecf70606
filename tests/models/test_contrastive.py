"""InfoNCE and the negative term of EC4SRec on the numbers of the specification, section 4."""

import pytest
import torch
import torch.nn.functional as F

from models.contrastive import info_nce, info_nce_rows, negative_contrast, negative_contrast_rows

Z = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
Z2 = torch.tensor([[0.5, 0.5], [0, 2], [1, -1]])
NEGATIVE = torch.tensor([[0.0, 1], [1, 0], [0.5, 0.5]])


def test_info_nce_vector() -> None:
    rows = [1.706656, 0.574438, 2.806018, 1.775626, 0.924866, 1.652784]
    assert info_nce_rows(Z, Z2).tolist() == pytest.approx(rows, abs=1e-6)
    assert float(info_nce(Z, Z2)) == pytest.approx(1.573398, abs=1e-6)


def test_negative_vector() -> None:
    rows = [2.667281, 2.420853, 2.186498]
    assert negative_contrast_rows(Z, Z2, NEGATIVE, tau=1.0).tolist() == pytest.approx(rows, abs=1e-6)
    assert float(negative_contrast(Z, Z2, NEGATIVE, tau=1.0)) == pytest.approx(2.424877, abs=1e-6)
    assert float(negative_contrast(Z, Z2, NEGATIVE)) == pytest.approx(10.604368, abs=1e-5)


def test_cosine_is_the_dot_product_of_normalised_rows_and_tau_divides() -> None:
    expected = info_nce(F.normalize(Z, dim=1) * 2, F.normalize(Z2, dim=1) * 2)
    torch.testing.assert_close(info_nce(Z, Z2, similarity="cosine", tau=0.25), expected)


def test_views_may_be_swapped_and_users_permuted() -> None:
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(info_nce(Z, Z2), info_nce(Z2, Z))
    torch.testing.assert_close(info_nce(Z, Z2), info_nce(Z[order], Z2[order]))
    torch.testing.assert_close(
        negative_contrast(Z, Z2, NEGATIVE), negative_contrast(Z2[order], Z[order], NEGATIVE[order])
    )


def test_gradients_are_finite_and_autocast_does_not_reach_in() -> None:
    views = [x.clone().requires_grad_() for x in (Z, Z2, NEGATIVE)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(views[0], views[1]) + negative_contrast(views[0], views[1], views[2])
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(v.grad is not None and bool(v.grad.isfinite().all()) for v in views)
    half = info_nce(Z.bfloat16(), Z2.bfloat16())
    assert half.dtype == torch.float32 and float(half) == pytest.approx(1.573398, abs=1e-6)
