"""Train a category model on a views file; an interrupted run goes on where it stopped."""

from featmesh.learn.config import TrainConfig

Arguments = TrainConfig


def run(arguments: TrainConfig) -> int:
    """Train, and write the model folder; stopped by Ctrl-C or SIGTERM, save and leave."""
    from featmesh.learn.session import train

    return train(arguments)
