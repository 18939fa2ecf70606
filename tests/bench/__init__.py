"""Side-by-side benchmark against peers: ``make bench``, or ``python -m tests.bench --help``."""
