"""Cli: the command epa-orchestrator. Words on the command line become requests, answers become tables.

It never decides anything: it prints what a daemon answered, or what the rooms below found.
"""
