"""What environment variables ask for that trials could not keep to; torch is not imported."""

import os

from harness.errors import ConfigError
from models.kernels.switch import switched_off

TF32 = "NVIDIA_TF32_OVERRIDE"
"""Where it is 1, NVIDIA's libraries round float32 products to TF32 whatever a program asks for."""
FPMATH = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
"""Where one is BF16 or ANY, oneDNN rounds float32 products on processors to bfloat16 whatever a program asks for."""


def check_environment(kind: str) -> None:
    """Raise ConfigError where float32 would be less on a device of this kind (`cpu` or `cuda`), or where BTSR_KERNELS
    is neither off nor auto."""
    if kind == "cuda" and os.environ.get(TF32, "") not in {"", "0"}:
        raise ConfigError(f"{TF32}={os.environ[TF32]} makes float32 products TF32 whatever is asked for: unset it")
    for name in FPMATH if kind == "cpu" else ():
        if os.environ.get(name, "").upper() not in {"", "STRICT"}:
            raise ConfigError(f"{name}={os.environ[name]} makes float32 products less exact than asked for: unset it")
    try:
        switched_off()
    except ValueError as error:
        raise ConfigError(str(error)) from error
