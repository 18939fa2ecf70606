"""The released configuration files, row by row as the specification lists them (section 1.6).

Left out are three of which `studies.points` says that they are: sce_same_ndcg of Gowalla and Kindle Store, and Beauty's
of leave-one-out. Bucket counts follow from the data; seeds are those of `harness.config.SEEDS` for all.
"""

from typing import Any

import pytest

from models.config import AuxConfig, LossConfig
from studies.points import POINTS, Point

FILES = """
data set      method                loss        B     k     b_y   mix_x  alpha  lambda  dropout  epochs  patience
ml1m          sasrec_bce            bce         64    256   x     x      x      x       0.3      1000    10
ml1m          sasrec_ce             ce          256   x     x     x      x      x       0.3      50      10
ml1m          sasrec_ce+bt          ce          256   x     x     x      0.2    0.05    0.1      200     30
ml1m          duorec_released       ce          256   x     x     x      x      0.001   0.3      100     10
ml1m          sasrec_sce            sce         256   x     256   yes    x      x       0.3      200     10
yelp          sasrec_bce            bce         256   256   x     x      x      x       0.3      1000    10
yelp          sasrec_ce             ce          64    x     x     x      x      x       0.3      300     20
yelp          sasrec_sce+bt         sce         512   x     1024  no     0.1    0.05    0.3      300     10
yelp          sasrec_ce_sampled     ce_sampled  16    4096  x     x      x      x       0.3      1000    10
yelp          duorec_released       ce          64    x     x     x      x      0.01    0.3      300     10
yelp          sasrec_gbce           gbce        4     64    x     x      x      x       0.3      1000    10
yelp          sasrec_sce            sce         1024  x     1024  no     x      x       0.3      300     10
gowalla       sasrec_bce            bce         128   256   x     x      x      x       0.3      1000    10
gowalla       sasrec_ce             ce          32    x     x     x      x      x       0.3      300     10
gowalla       sasrec_sce+bt         sce         2048  x     256   no     0.25   0.05    0.3      300     10
gowalla       sasrec_ce_sampled     ce_sampled  64    1024  x     x      x      x       0.3      1000    10
gowalla       duorec_released       bce         256   256   x     x      x      0.01    0.3      300     10
gowalla       sasrec_gbce           gbce        128   256   x     x      x      x       0.3      1000    10
gowalla       sasrec_sce            sce         2048  x     256   no     x      x       0.3      300     10
beauty        sasrec_bce            bce         256   256   x     x      x      x       0.5      300     50
beauty        sasrec_ce             ce          512   x     x     x      x      x       0.6      300     10
beauty        sasrec_ce+bt          ce          512   x     x     x      0.25   0.05    0.6      300     50
beauty        sasrec_ce_sampled     ce_sampled  64    1024  x     x      x      x       0.6      300     10
beauty        sasrec_ce_sampled+bt  ce_sampled  64    1024  x     x      0.25   0.1     0.6      300     10
beauty        duorec_released       ce          256   x     x     x      x      0.01    0.5      300     20
beauty        sasrec_sce            sce         1024  x     256   no     x      x       0.6      300     50
beauty        sasrec_sce+bt         sce         1024  x     256   no     0.25   0.1     0.6      300     30
kindle_store  sasrec_bce            bce         64    1024  x     x      x      x       0.3      1000    10
kindle_store  sasrec_ce             ce          64    x     x     x      x      x       0.3      300     10
kindle_store  sasrec_ce+bt          ce          64    x     x     x      1.0    0.05    0.3      300     10
kindle_store  sasrec_ce_sampled     ce_sampled  64    1024  x     x      x      x       0.3      1000    10
kindle_store  sasrec_ce_sampled+bt  ce_sampled  64    1024  x     x      0.05   0.2     0.3      300     10
kindle_store  duorec_released       ce          64    x     x     x      x      0.01    0.3      300     30
kindle_store  sasrec_gbce           gbce        64    1024  x     x      x      x       0.3      1000    10
kindle_store  sasrec_sce+bt         sce         2048  x     256   yes    0.08   0.07    0.3      300     10
kindle_store  sasrec_sce            sce         2048  x     256   yes    x      x       0.3      300     10
"""
"""Of DuoRec the weight that counts, lmd_sem, stands under lambda."""

DROPOUT_VIEW = {("kindle_store", "sasrec_ce_sampled+bt"), ("kindle_store", "sasrec_sce+bt")}
"""Files with an extra dropout view."""


@pytest.mark.parametrize("line", FILES.strip().splitlines()[1:], ids=lambda line: "-".join(line.split()[:2]))
def test_a_row_is_that_of_its_file(line: str) -> None:
    dataset, method, kind, batch, k, b_y, mix_x, alpha, lam, dropout, epochs, patience = line.split()
    loss: dict[str, Any] = {"kind": kind}
    if k != "x":
        loss["negatives"] = int(k)
    if kind == "gbce":
        loss["gbce_t"] = 0.75
    if kind == "sce":
        loss |= {"sce_b_y": int(b_y), "sce_mix_x": mix_x == "yes"}
    aux = AuxConfig()
    if method == "duorec_released":
        aux = AuxConfig(kind="duorec_released", alpha=float(lam))
    elif alpha != "x":
        view = (dataset, method) in DROPOUT_VIEW
        aux = AuxConfig(kind="barlow_twins", alpha=float(alpha), lam=float(lam), extra_dropout_view=view)
    assert POINTS[method][dataset] == Point(
        batch_size=int(batch),
        dropout=float(dropout),
        epochs=int(epochs),
        patience=int(patience),
        loss=LossConfig(**loss),
        aux=aux,
    )


@pytest.mark.parametrize(
    ("dataset", "base"), [("ml1m", "ce"), ("yelp", "ce"), ("gowalla", "sce"), ("beauty", "ce"), ("kindle_store", "sce")]
)
def test_bt_sr_is_the_base_loss_of_table_2_with_its_term(dataset: str, base: str) -> None:
    assert POINTS["bt_sr"][dataset] == POINTS[f"sasrec_{base}+bt"][dataset]
