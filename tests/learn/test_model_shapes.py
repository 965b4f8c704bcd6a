"""Claims about shapes by model name: photos of one model say together what its shape is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import CAMERA_OF, look, shaped_model, shaped_picture
from PIL import Image
from safetensors.numpy import load_file

from featmesh.learn.model_shapes import model_shapes, write_shapes
from featmesh.views.record import View

CODES = {"tall": (1.5, 0.0, 0.0), "wide": (0.0, 0.0, 1.5)}


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Three photos of each of two models, and one of the first under a wrong label."""
    folder, views = tmp_path_factory.mktemp("models"), []
    for name, code in CODES.items():
        for k, azimuth in enumerate((40, 75, 150)):
            pose = look(azimuth, 12, 0, 2.2)
            pixels, box = shaped_picture(torch.tensor(code), pose, CAMERA_OF)
            path = folder / f"{name}{k}.png"
            Image.fromarray(pixels).save(path)
            views.append(
                View(
                    image=path,
                    width=CAMERA_OF.width,
                    height=CAMERA_OF.height,
                    category="car",
                    R=pose.R.numpy(),
                    box=box,
                    distance=2.2,
                    model_name=name,
                    index=len(views),
                    image_name=path.name,
                )
            )
    wrong = replace(views[0], R=look(220, 12).R.numpy(), model_name="mislabelled")
    return [*views, wrong]


def test_each_model_gets_its_own_shape_and_wrong_labels_none(views, tmp_path):
    model = shaped_model()
    shapes = model_shapes(model, views, photos=3)
    assert sorted(shapes) == ["tall", "wide"]
    for name, code in CODES.items():
        truth = model.mesh(torch.tensor(code)).normalised().vertices.numpy()
        mean = model.template.vertices.numpy()
        error, before = (np.linalg.norm(v - truth, axis=1).mean() for v in (shapes[name], mean))
        assert error < 0.75 * before  # outlines of real features lie farther out
    write_shapes(tmp_path / "shapes.safetensors", shapes)
    back = load_file(tmp_path / "shapes.safetensors")
    assert all(np.allclose(back[k], shapes[k], atol=1e-6) for k in shapes)
