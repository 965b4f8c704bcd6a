"""Tensors in, tensors out; knows nothing of images and networks."""
