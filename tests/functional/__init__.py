"""The daemon as its clients meet it: a real process, a real socket, a real database."""
