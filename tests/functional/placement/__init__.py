"""Placement over the wire: options, wishes, dry runs, explanations, and claims that stay in place."""
