"""Which code does a trial's heavy work, for its provenance."""

import torch

from models.config import EncoderConfig, LossConfig, Precision
from models.kernels import attention, binary_cross_entropy, buckets, liger, rows
from models.kernels.build import KernelUnavailable, load
from models.kernels.cross_entropy import available
from models.linear import bf16_results

ROUNDED = "results of bf16 products rounded to bf16"
"""What torch's products do on some processors, and the kernels' do not."""


def kernels_used(device: torch.device, encoder: EncoderConfig, loss: LossConfig, precision: Precision) -> str:
    """The kernels that training on this device uses, or `torch`; `torch (reason)` where they cannot be had.

    Such as `fused_ce_avx2, fused_attention_avx2, fused_norm_linear_avx2, fused_feed_forward_avx2` on processors,
    `liger_ce` on CUDA. In fp32 the same code has the same name, with AMX or without. Says where torch's bf16 products
    are rounded more than the kernels'. Builds them if they are not in the cache.
    """
    rounded = precision == "bf16" and bf16_results(device)
    linear_too = f", torch_linear ({ROUNDED})" if rounded and device.type != "cpu" else ""
    if device.type in liger.DEVICES and loss.kind == "ce":
        report = liger.available(device, precision)
        return (report.name if report.reason is None else f"torch ({report.reason})") + linear_too
    if device.type != "cpu":
        return f"torch{linear_too}"
    try:
        library = load()
    except KernelUnavailable as missing:
        return f"torch ({missing}; {ROUNDED})" if rounded else f"torch ({missing})"
    variant, names = library.variant, []
    vectors, products = variant.instructions("fp32"), variant.instructions(precision)
    if loss.kind == "ce":
        report = available(precision)
        names.append(report.name if report.reason is None else f"torch_ce ({report.reason})")
    x = torch.empty(1, encoder.dim)
    if loss.kind in {"bce", "gbce"} and binary_cross_entropy.usable(x, x):
        names.append(f"fused_bce_{vectors}")
    if loss.kind == "sce" and buckets.usable(x, x):
        names.append(f"fused_sce_{vectors}")
    if attention.usable(x, encoder.heads):
        names.append(f"fused_attention_{vectors}")
    linear = rows.usable(x, encoder.dim, precision)
    forward = encoder.activation == "relu" and rows.usable(x, encoder.inner_dim or encoder.dim, precision)
    if linear:
        names.append(f"fused_norm_linear_{products}")
    if forward:
        names.append(f"fused_feed_forward_{products}")
    if rounded and not (linear and forward):
        names.append(f"torch_linear ({ROUNDED})")
    return ", ".join(names) or "torch"
