"""How fast the daemon is, beside what this machine could do at best: `python -m benchmarks`."""
