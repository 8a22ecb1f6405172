"""How good placement is on streams of requests, beside other allocators: `python -m benchmarks.placement --help`."""
