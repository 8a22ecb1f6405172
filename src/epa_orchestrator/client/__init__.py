"""Client: asks a running daemon. One exchange over the socket, its answer checked against the protocol.

It trusts no answer, and never asks for anything by itself. The command line and the charm use it.
"""
