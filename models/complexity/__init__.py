"""The complexity model: trains and measures what `services/router/core/complexity.py` runs."""
