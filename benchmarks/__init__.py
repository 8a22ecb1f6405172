"""How fast the daemon is, compared with the best that this machine can do: `python -m benchmarks`."""
