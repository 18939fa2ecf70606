"""Does it pay to step K trials of one shape together? A prototype against the same trials one after another.

One thread, Beauty with T = 50. The trials have one seed and differ in alpha, so that all that could ever be shared is
shared: batches, targets and the draws of dropout. Parameters have a leading axis K, a node of the graph serves all,
and Adam steps once; the native kernels are called for each trial. Both ways compute the same losses:

    python -m tests.bench.stack --method bt_sr --batch 128 --trials 4 --precision bf16 --data-dir FOLDER
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.config import StudyOptions, TrialSpec
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.train import Trainer
from harness.values import Split
from models.dropout import keep_mask, scale_of
from models.kernels import attention
from models.kernels.cross_entropy import fused_cross_entropy
from models.linear import product_nt
from models.objective import Step
from models.packed import PackedBatch
from models.sasrec import EPS
from studies.profiles import trial, varied

CPU = torch.device("cpu")
DROPOUT = 0.2


class _Linear(torch.autograd.Function):
    """x [K, m, i], w [K, o, i], b [K, o] -> [K, m, o]: K products in one node."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, precision: Any) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.precision = precision
        return torch.stack([product_nt(x[k], w[k], b[k], precision) for k in range(len(w))])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        by_x, by_w = torch.empty_like(x), torch.empty_like(w)
        for k in range(len(w)):
            by_x[k] = product_nt(grad[k], w[k].t(), precision=ctx.precision)
            by_w[k] = product_nt(grad[k].t(), x[k].t(), precision=ctx.precision)
        return by_x, by_w, grad.sum(1), None


class _Attention(torch.autograd.Function):
    """The native attention for each of K trials, with one draw of dropout for all."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, batch: PackedBatch, last_only: bool, generator: Any) -> Tensor:
        drop = attention._draw(batch, 1, last_only, DROPOUT, generator)
        ctx.settings = {"heads": 1, "last_only": last_only, "mask_pad_keys": False, "drop": drop}
        out, log_sum = torch.empty_like(q), q.new_empty(*q.shape[:2], 1)
        if not last_only:
            out[:, batch.count :] = 0
        for k in range(len(q)):
            tensors = {"queries": q[k], "key_value": kv[k], "out": out[k], "log_sum": log_sum[k]}
            attention._call(batch, tensors, **ctx.settings)
        ctx.save_for_backward(q, kv, log_sum)
        ctx.batch = batch
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, kv, log_sum = ctx.saved_tensors
        by_q, by_kv, grad = torch.empty_like(q), torch.empty_like(kv), grad.contiguous()
        if not ctx.settings["last_only"]:
            by_q[:, ctx.batch.count :] = 0
        by_kv[:, ctx.batch.count + 1 :] = 0
        for k in range(len(q)):
            tensors = {"queries": q[k], "key_value": kv[k], "log_sum": log_sum[k], "grad_out": grad[k]}
            attention._call(ctx.batch, tensors | {"grad_queries": by_q[k], "grad_key_value": by_kv[k]}, **ctx.settings)
        return by_q, by_kv, None, None, None


class Stacked:
    """K trainers' models as one, from the weights that they begin with."""

    def __init__(self, trainers: list[Trainer]) -> None:
        every = [dict(trainer.objective.model.named_parameters()) for trainer in trainers]
        self.spec, self.n_items = trainers[0].spec, trainers[0].split.n_items
        self.alpha = torch.tensor([trainer.spec.aux.alpha for trainer in trainers])
        self.weights = {name: torch.stack([one[name].detach() for one in every]).requires_grad_() for name in every[0]}
        train = self.spec.train
        self.optimizer = torch.optim.Adam(
            self.weights.values(), lr=train.lr, betas=(0.9, train.beta2), weight_decay=train.weight_decay, fused=True
        )

    def _linear(self, x: Tensor, name: str) -> Tensor:
        w, b = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        out: Tensor = _Linear.apply(x, w, b, self.spec.train.precision)
        return out

    def _norm(self, x: Tensor, name: str) -> Tensor:
        w, b = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], None, None, EPS) * w[:, None] + b[:, None]

    def encode(self, batch: PackedBatch, generator: torch.Generator, *, last_only: bool = False) -> Tensor:
        """[K, n, D], or [K, B, D] of the last tokens; as `models.sasrec` with the reference's norms."""

        def drop(x: Tensor) -> Tensor:
            return x * keep_mask(x.shape[1:], DROPOUT, generator).to(x.dtype).mul_(scale_of(DROPOUT))

        table = self.weights["table"]
        k, rows, d = table.shape
        items = batch.items + torch.arange(k)[:, None] * rows
        x = F.embedding(items, table.view(k * rows, d)) * math.sqrt(d)
        x = drop(x + self.weights["positions"].index_select(1, batch.positions))
        for i in range(self.spec.encoder.blocks):
            name, last = f"blocks.{i}", last_only and i == self.spec.encoder.blocks - 1
            q = self._norm(x.index_select(1, batch.last) if last else x, f"{name}.norm_attention")
            pad = self.weights[f"{name}.key_value.bias"][:, None]
            kv = torch.cat([pad, self._linear(x, f"{name}.key_value")], 1)
            mixed = _Attention.apply(self._linear(q, f"{name}.query"), kv, batch, last, generator)
            x = self._norm(q + self._linear(mixed, f"{name}.output"), f"{name}.norm_forward")
            inner = torch.relu_(drop(self._linear(x, f"{name}.inner")))
            x = x + drop(self._linear(inner, f"{name}.outer"))
        return self._norm(x if last_only else x[:, : batch.count], "norm_last")

    def _barlow(self, a: Tensor, b: Tensor) -> Tensor:
        """[K] of two views [K, B, D], as `models.barlow` with the population's std."""

        def scaled(view: Tensor) -> Tensor:
            centred = F.normalize(view, dim=2)
            centred = centred - centred.mean(1, keepdim=True)
            return centred / centred.square().mean(1, keepdim=True).clamp_min(1e-12).sqrt()

        matrix = torch.bmm(scaled(a).transpose(1, 2), scaled(b)) / a.shape[1]
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        on = (1 - diagonal).square().sum(1)
        off = matrix.square().sum((1, 2)) - diagonal.square().sum(1)
        return (on + self.spec.aux.lam * off) / matrix.shape[1]

    def step(self, step: Step) -> Tensor:
        """One step of all trials; their losses [K]."""
        assert step.dropout is not None and step.view_dropout is not None
        self.optimizer.zero_grad(set_to_none=True)
        hidden = self.encode(step.batch, step.dropout)
        losses = torch.stack([
            fused_cross_entropy(h, table, step.targets, self.n_items, precision=self.spec.train.precision)
            for h, table in zip(hidden.unbind(0), self.weights["table"].unbind(0), strict=True)
        ])
        if step.views is not None:
            view = step.views.named["partner"]
            anchor = hidden.index_select(1, step.batch.last.index_select(0, step.views.anchors))
            other = self.encode(view.batch, step.view_dropout, last_only=True).index_select(1, view.rows)
            losses = losses + self.alpha * self._barlow(anchor, other)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()


def alone(trainer: Trainer, step: Step) -> Tensor:
    """One step of one trial, as in training; its loss."""
    trainer.optimizer.zero_grad()
    loss, _ = trainer.objective(step)
    loss.backward()
    trainer.optimizer.step()
    return loss.detach()


def measure(specs: list[TrialSpec], split: Split, rounds: int, steps: int) -> str:
    """Both ways in turn, after a round to warm up: processor time of a trial's step, min/median/max over the rounds."""
    trainers = [Trainer(spec, split, CPU) for spec in specs]
    stacked, theirs = Stacked(trainers), [trainer.steps(1) for trainer in trainers]
    shared = Trainer(specs[0], split, CPU).steps(1)
    times: list[tuple[float, float]] = []
    apart = 0.0

    def one_by_one() -> Tensor:
        every = [
            [alone(trainer, next(own)) for _ in range(steps)] for trainer, own in zip(trainers, theirs, strict=True)
        ]
        return torch.tensor(every).t()

    def together() -> Tensor:
        return torch.stack([stacked.step(next(shared)) for _ in range(steps)])

    def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
        begun = time.process_time()
        losses = work()
        return (time.process_time() - begun) / steps / len(specs) * 1e3, losses

    for _ in range(rounds + 1):
        (a, apart_losses), (b, stacked_losses) = timed(one_by_one), timed(together)
        apart = max(apart, float((apart_losses / stacked_losses - 1).abs().max()))
        times.append((a, b))
    columns = ([a for a, _ in times[1:]], [b for _, b in times[1:]], [a / b for a, b in times[1:]])
    shown = [f"{min(c):.2f} / {median(c):.2f} / {max(c):.2f}" for c in columns]
    return f"| {' | '.join(shown)} | {apart:.0e} |"


def main() -> None:
    """Print one row of the table: ms alone, ms stacked, gain, largest relative difference of a loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("sasrec_ce", "bt_sr"), default="bt_sr")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of each way in a round")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the raw data")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    base = trial(given.method, "beauty", StudyOptions(datasets=("beauty",), profile="paper"), 1235)
    base = varied(base, train={"batch_size": given.batch, "precision": given.precision}, encoder={"dropout": DROPOUT})
    alphas = [0.05 * (k + 1) for k in range(given.trials)]
    specs = [varied(base, aux={"alpha": alpha}) if base.aux.kind != "none" else base for alpha in alphas]
    split = prepare(base.data, RunPaths(data_dir=given.data_dir, work_dir=given.out))
    name = f"| {given.method} | {given.batch} | {given.trials} | {given.precision} "
    print(name + measure(specs, split, given.rounds, given.steps), flush=True)


if __name__ == "__main__":
    main()
