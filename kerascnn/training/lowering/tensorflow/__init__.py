"""BatchNorm and Adam by TensorFlow's fused kernels, where Keras composes them of many."""
