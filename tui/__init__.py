"""The terminal UI: a reader of run directories and a starter of `kerascnn train --detach`. It imports no Keras."""
