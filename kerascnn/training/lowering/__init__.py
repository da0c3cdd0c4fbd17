"""A built Keras network as functions of torch over the same variables, channels last in memory.

Keras stays the definition, the saver, and what computes a network with a layer that isn't in the set.
"""
