"""The ways found to break the daemon, each with the tests of its kind."""
