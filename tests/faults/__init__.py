"""The battery: every kind of fault that was found to break a promise, sought again in all its forms."""
