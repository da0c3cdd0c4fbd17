"""A built Keras network computed by a backend's own functions over the same variables, where Keras's way is slower.

``graph`` and ``layers`` say the whole network in torch's functions, ``adam`` its optimizer; ``tensorflow`` does so for
BatchNorm. Keras stays the definition, the saver, and what computes all else.
"""
