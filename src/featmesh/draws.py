"""Random numbers keyed by (seed, purpose, epoch, index), never by call order (contracts 7)."""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """Return the random generator that belongs to one draw, whatever was drawn before it.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for, e.g. ``"augment"``; other purposes are independent.
        epoch: pass over the data.
        index: sample within the pass.
    """
    key = hashlib.sha256(f"{seed}/{purpose}/{epoch}/{index}".encode()).digest()
    return np.random.default_rng(np.frombuffer(key, dtype=np.uint32))
