"""Hands out a host's isolated CPUs and hugepages over a Unix socket, each to one owner only."""

__version__ = "0.1.0"
