"""Configure: the snap's configure hook. Checks the proposed options against host and claims, and stores them.

It refuses a whole set of options or accepts it; it never changes claims.
"""
