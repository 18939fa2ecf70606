"""Memory that the kernels work in."""

import threading

import torch


class Scratch(threading.local):
    """One piece of memory per thread, as large as any call needed so far."""

    memory = torch.empty(0, dtype=torch.uint8)

    def at_least(self, size: int) -> int:
        """Address of `size` bytes on a 64-byte boundary."""
        if self.memory.numel() < size + 64:
            self.memory = torch.empty(0, dtype=torch.uint8)
            self.memory = torch.empty(size + 64, dtype=torch.uint8)
        return -(-self.memory.data_ptr() // 64) * 64


SCRATCH = Scratch()
