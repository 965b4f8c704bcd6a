"""Claims about labels: a file holds them as they are, for one template only."""

import json

import pytest
import torch
from fixtures import car_mesh
from part_scenes import NAMES, true_labels

from featmesh.errors import InputError
from featmesh.model.labels import Labels, read_labels, write_labels


def soft() -> Labels:
    """Labels with a few weights a vertex."""
    rng = torch.Generator().manual_seed(0)
    weights = torch.rand(len(car_mesh().vertices), 5, generator=rng) ** 4
    return Labels(NAMES, weights / weights.sum(1, keepdim=True))


@pytest.mark.parametrize("labels", [true_labels(), soft()], ids=["hard", "soft"])
def test_a_file_holds_the_labels(tmp_path, labels: Labels) -> None:
    path = tmp_path / "labels.json"
    write_labels(path, labels, car_mesh())
    back = read_labels(path, car_mesh())
    assert back.names == labels.names
    assert torch.allclose(back.weights, labels.weights, atol=3e-4)
    assert torch.allclose(back.weights.sum(1), torch.ones(len(back.weights)))
    assert torch.equal(back.hard, labels.hard)


def test_another_template_is_refused(tmp_path) -> None:
    path = tmp_path / "labels.json"
    write_labels(path, true_labels(), car_mesh())
    wider = car_mesh().with_vertices(car_mesh().vertices * torch.tensor([1.01, 1, 1]).double())
    with pytest.raises(InputError, match=r"E_LABELS.*another template's"):
        read_labels(path, wider)


def test_what_are_no_labels_of_the_template_is_refused() -> None:
    good = soft()
    wrong = {
        "weights of 602 vertices": Labels(NAMES, good.weights[1:]),
        "a column more": Labels(NAMES[:3], good.weights),
        "names that differ": Labels((*NAMES[:3], NAMES[0]), good.weights),
        "none negative": Labels(NAMES, good.weights - 0.1),
        "finite": Labels(NAMES, good.weights * torch.nan),
        "sum to 1": Labels(NAMES, good.weights * 0.9),
    }
    assert good.checked(car_mesh()) is good
    for told, labels in wrong.items():
        with pytest.raises(InputError, match=told):
            labels.checked(car_mesh())


def test_a_file_that_is_none_is_refused(tmp_path) -> None:
    path = tmp_path / "labels.json"
    write_labels(path, true_labels(), car_mesh())
    document = json.loads(path.read_text("utf-8"))
    for change in ({"schema": 9}, {"weights": [[[99, 1.0]]]}, {"names": None}, {"weights": []}):
        path.write_text(json.dumps(document | change), "utf-8")
        with pytest.raises(InputError, match="E_LABELS"):
            read_labels(path, car_mesh())
