"""What runs do not share, in few words."""

import pytest

from reports.ran import Ran, mixture

AMX = "fused_ce_amxbf16, fused_attention_avx512bf16"
VECTORS = "fused_ce_avx512bf16, fused_attention_avx512bf16"


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        ((AMX, AMX), ""),
        ((AMX, VECTORS), "kernels: amxbf16, avx512bf16"),
        ((VECTORS, f"{VECTORS}; then {AMX}"), "kernels: amxbf16, avx512bf16"),
        ((VECTORS, "torch (no fused_ce_avx2 here: no compiler)"), "kernels: avx512bf16, torch"),
        (("torch (off)", "torch (no compiler)"), "kernels: torch (no compiler), torch (off)"),
    ],
)
def test_kernels_are_named_by_their_instructions(kernels: tuple[str, str], words: str) -> None:
    assert mixture(Ran(device="cpu", precision="bf16", kernels=one) for one in kernels) == words
