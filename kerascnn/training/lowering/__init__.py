"""A built Keras network computed by a backend's own functions over the same variables, where Keras's way is slower.

``torch`` says the whole network in torch's functions, and its optimizer; ``tensorflow`` does so for BatchNorm and the
optimizer, ``adam`` says which one that may be. Keras stays the definition, the saver, and what computes all else.
"""
