"""Native kernels for processors, built at first use; every one has a torch path that needs no compiler."""
