"""How well ``kerascnn.diagnose`` tells networks that learn from those that don't."""
