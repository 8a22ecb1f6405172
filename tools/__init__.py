"""Tools that build what the project ships and tests with; none of them is installed."""
