"""Learn a category's shape space from CAD files; an interrupted run goes on where it stopped."""

from featmesh.learn.shape_config import ShapeLearnConfig

Arguments = ShapeLearnConfig


def run(arguments: ShapeLearnConfig) -> int:
    """Learn, report each CAD, and write the model folder; stopped, save and leave."""
    from featmesh.learn.shape_space import learn_shape

    return learn_shape(arguments)
