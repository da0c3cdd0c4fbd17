"""How a network learns: the backend, its initial weights, the engine, checkpoints."""
