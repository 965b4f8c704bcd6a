"""Train a category model on a views file; an interrupted run goes on where it stopped."""

from featmesh.learn.config import TrainConfig

Arguments = TrainConfig


def run(arguments: TrainConfig) -> int:
    """Train, and write the model folder."""
    from featmesh.learn.trainer import train

    train(arguments)
    return 0
