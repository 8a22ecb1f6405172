"""The battery of faults: attempts to break the daemon's promises, by kind. `tox -e faults` runs it."""
