"""What happened: the run directory, its events, and what a user asks of a live run. Imports no Keras."""
