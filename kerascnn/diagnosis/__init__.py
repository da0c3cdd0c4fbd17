"""Why a network doesn't learn: signals out of its layers."""

STEPS = 200
"""Of the short run, at most."""
BATCH_SIZE = 64
"""Of a network that comes without a recipe."""
