"""What all tests of learning share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _as_before():
    """A run sets torch's threads and its determinism for the whole process."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
