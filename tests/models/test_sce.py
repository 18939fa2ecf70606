"""Scalable cross-entropy on the numbers of the specification, section 2.5, and its properties."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import sce as module
from models.losses import cross_entropy
from models.sce import Buckets, bucket_count, centres, sce

X = torch.tensor([[1.0, 0], [0, 1], [1, 1], [-1, 0.5]])
W = torch.tensor([[1, 0.2], [0.1, 1], [-0.5, 0.3], [0.6, 0.6], [-1, -1]])
Y = torch.tensor([0, 1, 3, 2])


def sizes(count: int, b_x: int, b_y: int, *, mix_x: bool = False) -> Buckets:
    return Buckets(count=count, b_x=b_x, b_y=b_y, mix_x=mix_x)


def test_vector() -> None:
    loss, selected = sce(X, W, Y, 5, sizes(2, 2, 3), torch.eye(2))
    assert float(loss) == pytest.approx(0.856850, abs=1e-6)
    assert selected.tolist() == [True, True, True, False]
    x, y = torch.tensor([[0, 2], [1, 2]]), torch.tensor([[0, 3, 1], [1, 3, 2]])
    by_bucket, present = module.bucket_losses(X, W, Y, x, y)
    assert present.tolist() == [[True, True], [True, True]]
    assert by_bucket.flatten().tolist() == pytest.approx([0.730871, 1.066377, 0.773300, 0.766135], abs=1e-6)


def test_vector_of_the_full_cross_entropy() -> None:
    rows = [float(cross_entropy(X[i : i + 1], W, Y[i : i + 1], 5)) for i in range(4)]
    assert rows == pytest.approx([0.890093, 1.012172, 1.160709, 1.175110], abs=1e-6)
    assert float(cross_entropy(X, W, Y, 5)) == pytest.approx(1.059521, abs=1e-6)


def tensors(n: int = 40, n_items: int = 25, dim: int = 6) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, dim, generator=generator, requires_grad=True)
    table = torch.randn(n_items + 1, dim, generator=generator, requires_grad=True)
    return hidden, table, torch.randint(n_items, (n,), generator=generator), generator


def naive(hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, buckets: Buckets, centre: Tensor) -> Tensor:
    """Position by position, with autograd."""
    best: dict[int, Tensor] = {}
    items = table[:n_items]
    for c in centre:
        positions = (hidden.detach() @ c).topk(min(buckets.b_x, len(hidden))).indices.tolist()
        chosen = (items.detach() @ c).topk(min(buckets.b_y, n_items)).indices.tolist()
        for i in positions:
            own = hidden[i] @ items[targets[i]]
            others = [hidden[i] @ items[j] for j in chosen if j != int(targets[i])]
            loss = torch.stack([own, *others]).logsumexp(0) - own
            if i not in best or float(loss.detach()) > float(best[i].detach()):
                best[i] = loss
    return torch.stack(list(best.values())).mean()


@pytest.mark.parametrize("chunk", [1, 1 << 22])
@pytest.mark.parametrize("shape", [(7, 9, 5), (1, 40, 25), (3, 100, 100), (4, 2, 1)])
def test_loss_and_gradients_equal_the_naive_ones(
    shape: tuple[int, int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", chunk)
    hidden, table, targets, generator = tensors()
    buckets = sizes(*shape)
    centre = centres(hidden, buckets, generator)
    mine, _ = sce(hidden, table, targets, 25, buckets, centre)
    wanted = naive(hidden, table, targets, 25, buckets, centre)
    torch.testing.assert_close(mine, wanted)
    got = torch.autograd.grad(3 * mine, (hidden, table))
    expected = torch.autograd.grad(3 * wanted, (hidden, table))
    torch.testing.assert_close(got, expected)
    assert float(got[1][25].abs().max()) == 0, "the row that is no item is in no bucket"


def test_one_bucket_of_everything_is_full_cross_entropy() -> None:
    hidden, table, targets, generator = tensors()
    buckets = sizes(1, 40, 25)
    loss, selected = sce(hidden, table, targets, 25, buckets, centres(hidden, buckets, generator))
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ table[:25].t(), targets))
    assert bool(selected.all())


@pytest.mark.parametrize("seed", range(5))
def test_never_above_full_cross_entropy_of_the_selected_positions(seed: int) -> None:
    hidden, table, targets, _ = tensors()
    buckets = sizes(5, 6, 8, mix_x=bool(seed % 2))
    centre = centres(hidden, buckets, torch.Generator().manual_seed(seed))
    loss, selected = sce(hidden, table, targets, 25, buckets, centre)
    full = F.cross_entropy(hidden @ table[:25].t(), targets, reduction="none")
    assert float(loss.detach()) <= float(full[selected].mean().detach()) + 1e-6
    gradient = torch.autograd.grad(loss, hidden)[0]
    assert (gradient.abs().sum(1) > 0).tolist() == selected.tolist()


def test_a_selected_position_with_loss_zero_counts() -> None:
    """Its only competitor is its own target, so that nothing is left to lose against."""
    hidden = torch.tensor([[1.0, 0.0], [0.9, 0.1]], requires_grad=True)
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss, selected = sce(hidden, table, torch.tensor([0, 1]), 2, sizes(1, 2, 1), torch.tensor([[1.0, 0.0]]))
    other = torch.log(torch.exp(torch.tensor(0.9)) + torch.exp(torch.tensor(0.1))) - 0.1
    assert selected.tolist() == [True, True] and float(loss.detach()) == pytest.approx(float(other) / 2, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert bool(gradient.isfinite().all())


def test_mixed_centres_are_combinations_of_the_outputs() -> None:
    line = torch.outer(torch.arange(1.0, 6.0), torch.tensor([1.0, 2.0, 3.0]))
    mixed = centres(line, sizes(4, 2, 2, mix_x=True), torch.Generator().manual_seed(0))
    assert mixed.shape == (4, 3) and torch.linalg.matrix_rank(mixed) == 1
    plain = centres(torch.zeros(5, 16), sizes(4000, 2, 2), torch.Generator().manual_seed(0))
    assert float(plain.std()) == pytest.approx(16**-0.25, rel=0.02)


@pytest.mark.parametrize(
    ("batch_size", "mean_length", "expected"),
    [
        (1024, 54.05, 470),
        (512, 54.05, 332),  # Yelp with BT, whose file keeps the 470 of the larger batch
        (2048, 95.0, 882),
        (2048, 52.9, 658),
        (64, 52.9, 116),
        (32, 95.0, 110),
        (1024, 10.0, 202),
    ],
)
def test_bucket_counts_of_the_released_files(batch_size: int, mean_length: float, expected: int) -> None:
    assert bucket_count(batch_size, mean_length, 200) == expected


def test_bucket_count_caps_the_mean_length_at_t() -> None:
    assert bucket_count(256, 190.0, 50) == bucket_count(256, 50.0, 50) == 226
    assert bucket_count(1, 0.1, 50) == 1
