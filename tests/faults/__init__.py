"""The battery of faults: what was found to break the daemon's promises, by kind. `tox -e faults` runs it."""
