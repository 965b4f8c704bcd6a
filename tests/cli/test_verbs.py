"""Each verb hands its options to the library and shows what comes back."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from present.samples import PARTS, box_mesh, found, labels_of, segmented

from featmesh.apps import bundled
from featmesh.cli.main import execute
from featmesh.geometry.mesh import Mesh
from featmesh.model.labels import Labels, write_labels


@dataclass
class FakeModel:
    category: str = "car"
    hash: str = "0123"
    template: Mesh = field(default_factory=box_mesh)
    labels: Labels | None = None

    def shape_space(self, who: str) -> None:
        """It has shapes."""


@pytest.fixture
def asked(fake_module) -> list[dict[str, Any]]:
    """What the estimator was asked; it finds an object in every photo."""
    calls: list[dict[str, Any]] = []

    def estimate(model, photo, box=None, camera=None, task="pose", config=None, on_step=None):
        calls.append({"model": model, "box": box, "camera": camera, "task": task})
        return found(photo, maps=False)

    def load(name: str) -> FakeModel:
        calls.append({"loaded": name})
        return FakeModel()

    def segment(model, photo, estimate):
        return segmented(photo, estimate, parts=model.labels is not None).segmentation

    fake_module("featmesh.inference.estimator", estimate=estimate)
    fake_module("featmesh.inference.segment", segment=segment)

    def load_all(names: list[str]) -> list[FakeModel]:
        return [load(name) for name in names]

    def classify(models, photo, box=None, camera=None, config=None, task="pose"):
        calls.append({"models": models, "box": box, "camera": camera, "task": task})
        told = replace(found(photo, maps=False), category="bus", margin=0.2, rivals=(("car", 0.1),))
        return SimpleNamespace(number=1, estimate=told)

    fake_module(
        "featmesh.model.checkpoint",
        load=load,
        load_all=load_all,
        bundled_categories=lambda: ["boat", "bus"],
    )
    fake_module("featmesh.inference.classify", classify=classify)
    return calls


def write_photos(folder: Path, *names: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(np.full((90, 120, 3), 100, dtype=np.uint8)).save(folder / name)
    return [str(folder / name) for name in names]


def test_estimate_hands_on_box_and_focal_length(tmp_path: Path, asked) -> None:
    paths = write_photos(tmp_path, "a.png")
    words = ["--box", "-5", "2.5", "60", "70", "--focal-px", "150", "--out", str(tmp_path / "o")]
    assert execute(["estimate", *paths, *words, "--model", "models/van"]) == 0
    loaded, call = asked
    assert loaded == {"loaded": "models/van"}
    assert call["box"] == (-5.0, 2.5, 60.0, 70.0) and call["camera"].fx == 150
    document = json.loads((tmp_path / "o" / "a" / "result.json").read_text("utf-8"))
    assert document["model"]["name"] == "van"


@pytest.mark.parametrize(
    ("told", "names"), [("car,models/bus", ["car", "models/bus"]), ("any", ["boat", "bus"])]
)
def test_of_several_models_the_best_estimates(
    tmp_path: Path, asked, capsys, told: str, names: list[str]
) -> None:
    paths = write_photos(tmp_path, "a.png")
    words = ["--model", told, "--box", "0", "0", "60", "70", "--task", "shape"]
    assert execute(["estimate", *paths, *words, "--out", str(tmp_path / "o")]) == 0
    *loaded, call = asked
    assert [one["loaded"] for one in loaded] == names
    assert (len(call["models"]), call["box"], call["task"]) == (2, (0.0, 0.0, 60.0, 70.0), "shape")
    document = json.loads((tmp_path / "o" / "a" / "result.json").read_text("utf-8"))
    assert document["model"]["name"] == "bus"
    (one,) = document["objects"]
    assert (one["category"], one["margin"]) == ("bus", 0.2)
    assert one["rivals"] == [{"category": "car", "score": 0.1}]
    shown = capsys.readouterr().out
    assert "category" in shown and "bus" in shown


@pytest.mark.parametrize("words", [["--all"], ["--labels", "parts.json"]])
def test_what_goes_with_one_model_is_not_asked_of_several(
    tmp_path: Path, asked, capsys, words: list[str]
) -> None:
    paths = write_photos(tmp_path, "a.png")
    assert execute(["estimate", *paths, "--model", "car,bus", *words]) == 2
    assert "E_MODEL" in capsys.readouterr().err and not asked


@pytest.mark.parametrize("task", ["shape", "segment"])
def test_estimate_hands_on_the_task(tmp_path: Path, asked, task: str) -> None:
    paths = write_photos(tmp_path, "a.png")
    assert execute(["estimate", *paths, "--task", task, "--out", str(tmp_path / "o")]) == 0
    assert asked[1]["task"] == task


def test_estimate_finds_all_objects_where_asked(tmp_path: Path, asked, fake_module) -> None:
    def find_all(model, photo, camera=None, task="pose", config=None):
        return [segmented(photo, found(photo, maps=False))] * 2

    fake_module("featmesh.inference.several", find_all=find_all)
    paths = write_photos(tmp_path, "a.png")
    assert execute(["estimate", *paths, "--all", "--out", str(tmp_path / "o")]) == 0
    document = json.loads((tmp_path / "o" / "a" / "result.json").read_text("utf-8"))
    assert len(document["objects"]) == 2


def test_estimate_takes_another_labelling(tmp_path: Path, asked) -> None:
    paths, file = write_photos(tmp_path, "a.png"), tmp_path / "labels.json"
    write_labels(file, labels_of(box_mesh()), box_mesh())
    words = ["--labels", str(file), "--out", str(tmp_path / "o")]
    assert execute(["estimate", *paths, *words]) == 0
    assert asked[1]["model"].labels.names == PARTS
    document = json.loads((tmp_path / "o" / "a" / "result.json").read_text("utf-8"))
    assert [part["name"] for part in document["objects"][0]["parts"]] == list(PARTS)


def test_labels_of_another_template_are_refused(tmp_path: Path, asked, capsys) -> None:
    other = box_mesh().with_vertices(2 * box_mesh().vertices)
    write_labels(tmp_path / "labels.json", labels_of(other), other)
    words = ["--labels", str(tmp_path / "labels.json"), "--out", str(tmp_path / "o")]
    assert execute(["estimate", *write_photos(tmp_path, "a.png"), *words]) != 0
    assert "E_LABELS" in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_estimate_prints_one_json_document(tmp_path: Path, asked, capsys) -> None:
    paths = [*write_photos(tmp_path, "a.png"), str(tmp_path / "gone.png")]
    assert execute(["estimate", *paths, "--json", "--out", str(tmp_path / "o")]) == 1
    out, err = capsys.readouterr()
    results = json.loads(out)["results"]
    assert [r["objects"][0]["status"] for r in results] == ["ok", "bad_input"]
    assert results[1]["objects"][0]["code"] == "E_IO"
    assert err.startswith("featmesh: ") and "E_IO" in err


def test_estimate_takes_folders_patterns_and_lists(tmp_path: Path, asked, capsys) -> None:
    write_photos(tmp_path / "p", "b10.png", "b2.png")
    (tmp_path / "p" / "notes.md").write_text("no photo")
    (tmp_path / "photos.txt").write_text("p/b2.png\ngone.png\n")
    named = [str(tmp_path / "p"), str(tmp_path / "p" / "*.png"), str(tmp_path / "photos.txt")]
    assert execute(["estimate", *named, "--json", "--out", str(tmp_path / "o")]) == 1
    results = json.loads(capsys.readouterr().out)["results"]
    names = ["b2.png", "b10.png", "b2.png", "b10.png", "b2.png", "gone.png"]
    assert [Path(r["photo"]).name for r in results] == names
    assert [r["objects"][0]["status"] for r in results] == ["ok"] * 5 + ["bad_input"]
    written = sorted(folder.name for folder in (tmp_path / "o").iterdir())
    assert written == ["b10", "b10-2", "b2", "b2-2", "b2-3", "gone"]
    (tmp_path / "empty").mkdir()
    assert execute(["estimate", str(tmp_path / "empty"), "--out", str(tmp_path / "o")]) == 1
    assert "E_IO: estimate: expected pictures in the folder" in capsys.readouterr().err
    box = ["--box", "0", "0", "9", "9"]
    assert execute(["estimate", str(tmp_path / "p"), *box]) == 2
    assert "expected one photo with --box, got 2" in capsys.readouterr().err


def test_estimate_prints_a_table_and_writes_to_results(
    tmp_path: Path, asked, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute(["estimate", *write_photos(tmp_path / "p", "a.png", "b.png")]) == 0
    assert "34.4°" in capsys.readouterr().out
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("results/*/*"))
    masks = ("amodal.png", "occluded.png", "overlay.png")
    names = (*masks, "result.html", "result.json", "visible.png")
    assert written == [f"results/{stem}/{name}" for stem in "ab" for name in names]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.jpg", "--all", "--box", "0", "0", "9", "9"], "E_BOX: estimate: expected one of"),
        (["a.jpg", "b.jpg", "--box", "0", "0", "9", "9"], "E_BOX: estimate: expected one photo"),
        (["a.jpg", "--fov", "60", "--focal-px", "500"], "E_CAMERA: estimate: expected one of"),
        ([], "E_IO: estimate: expected photos"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], told: str, capsys) -> None:
    assert execute(["estimate", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--box", "1", "2", "3"], ["--task", "dance"], ["--fov", "x"]])
def test_options_that_cannot_be_read_are_usage_errors(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        execute(["estimate", "a.jpg", *words])
    assert caught.value.code == 2


def test_demo_estimates_the_bundled_photos(
    tmp_path: Path, asked, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [Path(path) for path in write_photos(tmp_path / "p", "a.png", "b.png")]
    monkeypatch.setattr(bundled, "photos", lambda: paths)
    monkeypatch.chdir(tmp_path)
    assert execute(["demo"]) == 0
    assert sorted(p.parent.name for p in tmp_path.glob("out/*/result.html")) == ["a", "b"]


def test_train_hands_on_its_config(fake_module, tmp_path: Path) -> None:
    given = []

    def train(config) -> int:
        given.append(config)
        return 130

    fake_module("featmesh.learn.session", train=train)
    words = ["--views", "a.json", "b.json", "--out", str(tmp_path), "--model.channels", "32"]
    assert execute(["train", *words, "--seed", "7"]) == 130
    (config,) = given
    assert tuple(config.views) == ("a.json", "b.json")
    assert (config.seed, config.model.channels) == (7, 32)


def test_learn_shape_hands_on_its_config(fake_module, tmp_path: Path) -> None:
    given = []

    def learn_shape(config) -> int:
        given.append(config)
        return 143

    fake_module("featmesh.learn.shape_space", learn_shape=learn_shape)
    words = ["--cad", "cads", "--out", str(tmp_path)]
    assert execute(["learn-shape", *words]) == 143
    assert (given[0].cad, given[0].out) == ("cads", str(tmp_path))


def test_shape_space_hands_on_its_options(fake_module, tmp_path: Path, capsys) -> None:
    calls: list[Any] = []

    class Model:
        def shape_space(self, who: str) -> str:
            return "space"

        def mesh(self) -> str:
            return "mean"

    class Found:
        def to_json(self) -> dict[str, int]:
            return {"latents": 3}

    def survey(space, mean, count):
        calls.append((space, mean, count))
        return Found()

    def write_shape_space(found, space, out, view):
        calls.append((out, [round(math.degrees(v)) for v in view]))
        return []

    fake_module("featmesh.model.checkpoint", load=lambda name: Model())
    fake_module(
        "featmesh.apps.shape_space",
        survey=survey,
        write_shape_space=write_shape_space,
        show=lambda name, found, files: calls.append(name),
    )
    words = ["models/van", "--out", str(tmp_path), "--directions", "2", "--azimuth", "90"]
    assert execute(["shape-space", *words]) == 0
    assert calls == [("space", "mean", 2), (tmp_path, [90, 15]), "van"]
    assert execute(["shape-space", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"latents": 3}


def test_shape_space_takes_one_model_and_some_directions(capsys) -> None:
    assert execute(["shape-space", "a", "--model", "b"]) == 2
    assert execute(["shape-space", "a", "--directions", "0"]) == 2
    assert "expected directions, got 0" in capsys.readouterr().err


def test_evaluate_prints_the_figures(asked, fake_module, tmp_path: Path, capsys) -> None:
    metrics = {"pose": {"count": 2, "acc_30": 0.5, "median_deg": None}, "status": {"ok": 2}}
    calls = []

    def evaluate(model, views, out_dir, estimate, locate=False, settings=None):
        calls.append((model.category, views, out_dir, locate))
        assert settings["scan"]["starts"] == 8
        return metrics

    fake_module("featmesh.evaluate.predict", evaluate=evaluate)
    fake_module("featmesh.views.record", read_views=lambda path: [str(path)])
    words = ["--model", "car", "--views", "v.json", "--out", str(tmp_path), "--locate"]
    assert execute(["evaluate", *words]) == 0
    assert calls == [("car", ["v.json"], tmp_path, True)]
    assert "acc_30      0.5" in capsys.readouterr().out
    assert execute(["evaluate", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == metrics
    metrics["symmetric"] = {"symmetry": 4, "pose": {"count": 2, "acc_30": 1.0}}
    assert execute(["evaluate", *words]) == 0
    out = capsys.readouterr().out
    assert "\nacc_30      0.5\n" in out and "\nsymmetric acc_30 1\n" in out


@pytest.mark.parametrize(("words", "name"), [([], "car"), (["a"], "a"), (["--model", "b"], "b")])
def test_info_takes_the_model_either_way(words: list[str], name: str, fake_module, capsys) -> None:
    fake_module("featmesh.apps.info", describe_model=lambda m: {"name": m}, info_text=str)
    assert execute(["info", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": name}


def test_info_takes_one_model(capsys) -> None:
    assert execute(["info", "a", "--model", "b"]) == 2
    assert "expected one model" in capsys.readouterr().err


def test_info_of_an_unknown_model_names_the_known(capsys) -> None:
    assert execute(["info", "no_such_model"]) == 1
    err = capsys.readouterr().err
    assert "E_CKPT_NAME" in err and err.count("\n") == 1


def test_doctor_tells_and_its_code_says_whether_it_works(
    capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featmesh.apps import doctor

    checks = [doctor.Check("python", True, "3.13"), doctor.Check("torch", False, "gone", fix="pip")]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert execute(["doctor"]) == 1
    assert "FAIL  torch" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: checks[:1])
    assert execute(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_shape_space_learnt_without_a_model_can_be_looked_at(tmp_path: Path, capsys) -> None:
    from fixtures import shaped_model

    from featmesh.model.shape_folder import ShapeSpace

    model = shaped_model()
    ShapeSpace("car", model.template, model.deformation).save(tmp_path / "space")
    words = [str(tmp_path / "space"), "--out", str(tmp_path / "out"), "--directions", "1"]
    assert execute(["shape-space", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latents"] == 3
    assert (tmp_path / "out" / "shape-space.png").is_file()
