"""Claims about the verb: it hands on its options, writes the file and says what came of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_model
from part_scenes import NAMES, coco, part_of, part_views, square, true_labels

from featmesh.cli.main import execute
from featmesh.learn.part_votes import Sighting
from featmesh.model.labels import read_labels
from featmesh.model.part_evidence import PartEvidence


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The painted car in place of the bundled model."""
    monkeypatch.setattr("featmesh.model.checkpoint.load", lambda name: car_model())


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Photos that were looked at; each shows a hood in face 0, the third nothing."""
    ids: list[int] = []

    def look(model, photo, config, search=None):
        ids.append(photo.id)
        if photo.id == 3:
            return "unsure"
        part, share = np.ones(1, np.uint8), np.ones(1)
        return Sighting(photo.id, np.zeros(1, np.int64), part, share, np.zeros(5))

    monkeypatch.setattr("featmesh.learn.parts.look", look)
    return ids


def test_photos_label_the_surface(tmp_path: Path, loaded, looked, capsys) -> None:
    rows = [(k, 2, [square(5, 5, 20, 20)]) for k in (1, 2, 3, 4)]
    photos, out = coco(tmp_path, rows, images=4), tmp_path / "labels.json"
    words = ["label-parts", "--photos", str(photos), "--out", str(out)]
    assert execute([*words, "--ids", "1:3", "--learn.steps", "0"]) == 0
    assert looked == [1, 2, 3]
    told = capsys.readouterr().out
    for text in ("hood", "2 photos voted", "1 did not, unsure: 3", "labels.json"):
        assert text in told
    labels = read_labels(out, car_mesh())
    assert labels.names == NAMES and bool((labels.hard[car_mesh().faces[0]] == 1).all())


def test_json(tmp_path: Path, loaded, looked, capsys) -> None:
    path = part_views(tmp_path, 2)
    words = ["label-parts", "--photos", str(path), "--names", *NAMES, "--json"]
    assert execute([*words, "--out", str(tmp_path / "l.json"), "--learn.steps", "0"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == {"voted": [0, 1], "dropped": [], "skipped": {}}
    assert told["parts"][0]["name"] == "hood" and told["parts"][0]["photos"] == 2
    assert told["parts"][3] == {"name": "wheel", "vertices": 0, "photos": 0, "agreement": None}


def test_evidence_lies_beside_the_file(tmp_path: Path, loaded, looked, capsys, monkeypatch) -> None:
    given = {}

    def learn(model, photos, config, occluders, seed):
        given.update(ids=[p.id for p in photos], passes=config.epochs, pictures=len(occluders))
        return PartEvidence({"frequency": torch.ones(5) / 5})

    monkeypatch.setattr("featmesh.learn.evidence_training.learn_evidence", learn)
    rows = [(k, 2, [square(5, 5, 20, 20)]) for k in (1, 2)]
    photos, out = coco(tmp_path, rows), tmp_path / "labels.json"
    words = ["label-parts", "--photos", str(photos), "--out", str(out), "--learn.steps", "0"]
    assert execute([*words, "--evidence", "--head.epochs", "3", "--json"]) == 0
    assert given == {"ids": [1, 2], "passes": 3, "pictures": 0}
    told = json.loads(capsys.readouterr().out)
    assert told["evidence"] == str(tmp_path / "labels.safetensors")
    assert read_labels(out, car_mesh()).evidence is not None
    assert execute(words) == 0
    assert "labels.safetensors" not in capsys.readouterr().out
    assert read_labels(out, car_mesh()).evidence is None


def test_a_mesh_gives_no_evidence(capsys) -> None:
    assert execute(["label-parts", "--mesh", "b.obj", "--evidence"]) == 2
    assert "expected --evidence with --photos" in capsys.readouterr().err


def test_a_named_mesh_labels_the_surface(tmp_path: Path, loaded, capsys) -> None:
    mesh = car_mesh()
    lines = [f"v {x} {y} {z}" for x, y, z in mesh.vertices.tolist()]
    parts = part_of(mesh.corners.mean(1)).tolist()
    for part, face in sorted(zip(parts, mesh.faces.tolist(), strict=True)):
        name = "none" if part == 0 else NAMES[part - 1]
        lines += [f"g {name}", "f " + " ".join(str(k + 1) for k in face)]
    (tmp_path / "car.obj").write_text("\n".join(lines), "utf-8")
    out = tmp_path / "labels.json"
    words = ["label-parts", "--mesh", str(tmp_path / "car.obj"), "--out", str(out), "--json"]
    assert execute(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] is None and [p["name"] for p in told["parts"]] == list(NAMES)
    labels = read_labels(out, mesh)
    assert float((labels.hard == true_labels().hard).double().mean()) > 0.9
    assert torch.equal(labels.hard.unique(), torch.arange(5))


@pytest.mark.parametrize("words", [[], ["--photos", "a.json", "--mesh", "b.obj"]])
def test_photos_or_a_mesh(words: list[str], capsys) -> None:
    assert execute(["label-parts", *words]) == 2
    assert "expected --photos or --mesh" in capsys.readouterr().err


def test_what_is_wrong_with_the_photos_is_told(tmp_path: Path, loaded, looked, capsys) -> None:
    assert execute(["label-parts", "--photos", str(tmp_path / "gone.json")]) == 1
    assert "E_IO" in capsys.readouterr().err
    photos = coco(tmp_path, [(3, 2, [square(5, 5, 20, 20)])], images=3)
    assert execute(["label-parts", "--photos", str(photos)]) == 1
    assert "1 unsure" in capsys.readouterr().err
    assert execute(["label-parts", "--photos", str(photos), "--ids", "x"]) == 1
    assert "E_IDS" in capsys.readouterr().err
