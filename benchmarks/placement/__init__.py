"""Placement on streams of requests, compared with other allocators: `python -m benchmarks.placement --help`."""
