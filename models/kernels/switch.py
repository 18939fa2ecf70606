"""The user's switch, ``BTSR_KERNELS``; torch is not imported."""

import os


def switched_off() -> bool:
    """Whether ``BTSR_KERNELS`` is off; raises ValueError for any other value than off or auto."""
    mode = os.environ.get("BTSR_KERNELS", "auto")
    if mode not in {"auto", "off"}:
        raise ValueError(f"BTSR_KERNELS={mode}: use auto or off")
    return mode == "off"
