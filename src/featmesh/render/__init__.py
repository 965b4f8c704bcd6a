"""Mesh + camera -> per-pixel fragments, differentiable."""
