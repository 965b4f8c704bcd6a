"""Two-loop evaluation: every record a row, every row a figure, and a killed run goes on."""

import io
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from featmesh.errors import BackendUnavailable, CheckpointError, DatasetError, InputError
from featmesh.evaluate.predict import evaluate, predict, score_predictions
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose, so3_exp
from featmesh.geometry.viewpoint import ray_rotation, rotation_from_angles
from featmesh.inference.result import Estimate
from featmesh.views.record import View

MODEL = SimpleNamespace(category="car", hash="abc123")
SIZE = (48, 64)  # height, width
K = np.array([[70.0, 0.0, 30.0], [0.0, 70.0, 25.0], [0.0, 0.0, 1.0]])


def turn(degrees, axis=(0.0, 0.0, 1.0)):
    return so3_exp(torch.tensor(axis, dtype=torch.float64) * math.radians(degrees))


def true_R(index):
    angles = torch.tensor([0.7 * index, 0.1, 0.05], dtype=torch.float64)
    return rotation_from_angles(*angles.unbind(0))


def views_of(folder, count, **changes):
    """Distinct little photos, one record each."""
    height, width = SIZE
    made = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("RGB", (width, height), (index, 50, 90)).save(path)
        least = {"R": true_R(index).numpy(), "index": index, "image_name": path.name}
        made.append(View(path, width, height, "car", **(least | changes)))
    return made


class Fake:
    """An estimator that knows the answers, is off by a known turn, and keeps what it was asked."""

    def __init__(self, views, errors=None, camera=None, **changes):
        self.views, self.errors, self.camera, self.changes = views, errors, camera, changes
        self.asked = []

    def __call__(self, model, photo, box, camera):
        self.asked.append((box, camera))
        view = self.views[photo.pixels[0, 0, 0]]  # the red value is the record's number
        used = camera or self.camera or Camera.assumed(*SIZE)
        R = torch.from_numpy(view.R)
        if view.K is None:
            x0, y0, x1, y1 = view.box_or_image
            centre = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2], dtype=torch.float64)
            R = ray_rotation(used.unproject(centre)).T @ R
        R = turn(self.errors[view.index] if self.errors else 0) @ R
        pose = Pose(R, torch.tensor([0.1, 0.2, 3.0], dtype=torch.float64))
        told = {"cam_from_obj": pose, "score": 0.5, "camera": used, "box": view.box_or_image}
        told["camera_source"] = "given" if camera else "exif" if self.camera else "assumed"
        return Estimate(**({"status": "ok", "category": "car"} | told | self.changes))


def run(views, out, estimate, **options):
    return predict(MODEL, views, out, estimate, stream=io.StringIO(), **options)


def errors_deg(views, rows):
    """The error of each record alone, degrees."""
    kept = []
    for view in views:
        found = score_predictions([view], [row for row in rows if row["index"] == view.index])
        kept.append(found["pose"]["median_deg"])
    return kept


def test_one_row_a_record_with_the_keys_of_the_contract(tmp_path):
    views = views_of(tmp_path, 3)
    rows = run(views, tmp_path / "out", Fake(views))
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert [row["index"] for row in rows] == [0, 1, 2]
    keys = "index image box R t t_unit score confidence status seconds".split()
    assert all(key in rows[0] for key in keys)
    assert rows[1]["image"] == "1.png" and rows[1]["status"] == "ok"
    assert rows[1]["confidence"] is None and rows[1]["seconds"] >= 0 and "code" not in rows[1]


def test_perfect_predictions_are_perfect_figures(tmp_path):
    views = views_of(tmp_path, 4)
    found = evaluate(MODEL, views, tmp_path / "out", Fake(views), stream=io.StringIO())
    assert found["pose"]["acc_5"] == 1.0 and found["pose"]["median_deg"] < 1e-5
    assert found["count"] == 4 and found["model"] == {"name": "car", "hash": "abc123"}
    assert found["box_iou"] == {"count": 4, "median": 1.0}
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == found


def test_errors_up_to_the_models_symmetry_stand_beside_the_official_ones(tmp_path):
    views = views_of(tmp_path, 4, K=K)
    errors = [0.0, 0.0, 0.0, 20.0]

    def turned(model, photo, box, camera):  # by quarters about the object's upright axis
        found = Fake(views, errors)(model, photo, box, camera)
        quarters = turn(90.0 * float(photo.pixels[0, 0, 0]))
        pose = found.cam_from_obj
        return replace(found, cam_from_obj=replace(pose, R=pose.R @ quarters))

    def measured(extra, name):
        model = SimpleNamespace(**vars(MODEL), extra=extra)
        return evaluate(model, views, tmp_path / name, turned, stream=io.StringIO())

    plain = measured({}, "plain")
    assert plain["pose"]["acc_30"] == 0.25 and "symmetric" not in plain
    assert measured({"symmetry": 1}, "one").keys() == plain.keys()
    for symmetry, right in ((2, 0.5), (4, 1.0), ("any", 1.0)):
        both = measured({"symmetry": symmetry}, f"out-{symmetry}")
        beside = both.pop("symmetric")
        assert {k: both[k] for k in both if k != "seconds"} == {
            k: plain[k] for k in plain if k != "seconds"
        }
        assert beside["symmetry"] == symmetry and beside["pose"]["acc_30"] == right
        assert beside["categories"]["car"] == beside["pose"]
        assert beside["category_mean"]["acc_30"] == right
    text = json.loads((tmp_path / "out-any/metrics.json").read_text())
    assert text["symmetric"] == beside
    with pytest.raises(CheckpointError, match="got 'round'"):
        measured({"symmetry": "round"}, "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("box", [None, (2.0, 5.0, 30.0, 20.0), (40.0, 30.0, 64.0, 48.0)])
@pytest.mark.parametrize("K_record", [None, K])
@pytest.mark.parametrize("camera", [None, Camera(40.0, 40.0, 30.0, 20.0, *SIZE)])
def test_a_known_turn_is_the_error_whatever_camera_was_used(tmp_path, box, K_record, camera):
    views = views_of(tmp_path, 2, box=box, K=K_record)
    rows = run(views, tmp_path / "out", Fake(views, errors=[0, 20], camera=camera))
    assert errors_deg(views, rows) == pytest.approx([0, 20], abs=1e-5)


def test_without_K_the_turn_to_the_box_centre_matters(tmp_path):
    views = views_of(tmp_path, 1, box=(40.0, 30.0, 64.0, 48.0))
    (row,) = run(views, tmp_path / "out", Fake(views))
    ray = torch.tensor([52.0 - 32, 39.0 - 24, 1.15 * 64], dtype=torch.float64)
    off_axis = math.degrees(math.acos(float(ray[2] / ray.norm())))
    plain = score_predictions([views_of(tmp_path, 1, K=K)[0]], [row])["pose"]["median_deg"]
    assert errors_deg(views, [row]) == pytest.approx([0], abs=1e-5)
    assert plain == pytest.approx(off_axis, abs=1e-4) and off_axis > 18
    assert row["K"] is None  # a row that names no camera was made with the assumed one


def test_the_estimator_is_given_what_the_record_knows(tmp_path):
    views = [*views_of(tmp_path, 1), *views_of(tmp_path, 1, K=K, box=(1.0, 2.0, 30.0, 40.0))]
    fake = Fake(views)
    run([views[0]], tmp_path / "a", fake)
    run([views[1]], tmp_path / "b", fake)
    run([views[1]], tmp_path / "c", fake, locate=True)
    whole, given, free = fake.asked
    assert whole == ((0.0, 0.0, 64.0, 48.0), None)
    assert given[0] == (1.0, 2.0, 30.0, 40.0) and given[1].fx == 70
    assert free[0] is None and free[1].fx == 70


def test_every_record_counts(tmp_path):
    views = views_of(tmp_path, 5)
    views[1].image.unlink()
    views[2].image.write_bytes(b"<html>")
    Image.new("RGB", (20, 20), (3, 0, 0)).save(views[3].image)
    rows = run(views, tmp_path / "out", Fake(views))
    assert [row["status"] for row in rows] == ["ok", *["bad_input"] * 3, "ok"]
    assert [row["code"] for row in rows[1:4]] == ["E_IO", "E_IMG_FORMAT", "E_VIEWS"]
    assert "expected a 64x48 photo, got 20x20" in rows[3]["message"] and rows[1]["R"] is None
    found = score_predictions(views, rows)
    assert (found["pose"]["count"], found["pose"]["failed"]) == (5, 3)
    assert found["pose"]["acc_30"] == 0.4 and found["pose"]["median_deg"] == 180.0
    assert found["codes"] == {"E_IO": 1, "E_IMG_FORMAT": 1, "E_VIEWS": 1}
    assert found["status"] == {"ok": 2, "bad_input": 3}
    assert found["box_iou"] == {"count": 5, "median": 0.0}
    without = score_predictions(views, rows[:1])
    assert without["pose"]["failed"] == 4 and without["status"]["missing"] == 4


def test_a_refused_positive_has_no_pose(tmp_path):
    views = views_of(tmp_path, 2)
    for status, failed in (("no_object", 2), ("uncertain", 0)):
        rows = run(views, tmp_path / status, Fake(views, status=status))
        assert score_predictions(views, rows)["pose"]["failed"] == failed


def test_only_the_input_is_forgiven(tmp_path):
    views = views_of(tmp_path, 1)

    def bad_box(*_, **__):
        raise InputError("E_BOX", "box: no")

    def no_backend(*_, **__):
        raise BackendUnavailable("E_BACKEND", "numba: no")

    assert run(views, tmp_path / "a", bad_box)[0]["code"] == "E_BOX"
    with pytest.raises(BackendUnavailable):
        run(views, tmp_path / "b", no_backend)
    assert (tmp_path / "b/predictions.jsonl").read_text() == ""


def test_negatives_count_as_refused_or_not_and_nowhere_else(tmp_path):
    views = views_of(tmp_path, 6)
    views[3:] = [
        View(view.image, view.width, view.height, "car", no_object=True, index=view.index)
        for view in views[3:]
    ]
    rows = run(views, tmp_path / "out", Fake(views_of(tmp_path, 6)))
    rows[3] |= {"status": "no_object", "score": None, "R": None}
    rows[4] |= {"score": 0.1, "status": "uncertain"}
    rows[5] |= {"status": "bad_input", "score": None, "R": None}
    found = score_predictions(views, rows)
    assert found["pose"]["count"] == 3 == found["pose"]["count"] and found["count"] == 6
    refusal = found["refusal"]
    assert (refusal["negatives"], refusal["refused"], refusal["positives_refused"]) == (3, 1, 0)
    assert refusal["refused_share"] == pytest.approx(1 / 3)
    assert refusal["auroc_score"] == 1.0 and refusal["auroc_confidence"] is None


def test_groups_and_the_mean_over_categories(tmp_path):
    views = views_of(tmp_path, 4, occluded=1)
    views[3] = View(views[3].image, 64, 48, "bus", R=views[3].R, index=3)
    fake = Fake(views, errors=[0, 0, 0, 40])
    found = score_predictions(views, run(views, tmp_path / "out", fake))
    assert found["pose"]["acc_30"] == 0.75 and found["category_mean"]["acc_30"] == 0.5
    assert found["categories"]["bus"]["median_deg"] == pytest.approx(40, abs=1e-5)
    assert found["occluded"]["1"]["count"] == 3 and list(found["occluded"]) == ["1"]


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_killed_run_goes_on_where_it_was(tmp_path, cut):
    views, out = views_of(tmp_path, 4), tmp_path / "out"
    whole = run(views, out, Fake(views))
    file = out / "predictions.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:cut])  # killed while writing the third
    fake = Fake(views)
    again = run(views, out, fake)
    assert len(fake.asked) == 2
    drop = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert drop(again) == drop(whole) and again[:2] == whole[:2]
    assert [json.loads(line) for line in file.read_text().splitlines()] == again
    assert run(views, out, fake) == again and len(fake.asked) == 2


def test_a_death_in_the_loop_loses_no_finished_row(tmp_path):
    views, out = views_of(tmp_path, 3), tmp_path / "out"
    fake = Fake(views)

    def dies(model, photo, box, camera):
        if len(fake.asked) == 2:
            raise KeyboardInterrupt
        return fake(model, photo, box, camera)

    with pytest.raises(KeyboardInterrupt):
        run(views, out, dies)
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 2
    assert len(run(views, out, fake)) == 3 and len(fake.asked) == 3


def test_runs_are_not_mixed(tmp_path):
    views, out = views_of(tmp_path, 2), tmp_path / "out"
    fake = Fake(views)
    run(views, out, fake, settings={"starts": 3})

    def refused(match, views=views, model=MODEL, settings=(("starts", 3),), locate=False):
        with pytest.raises(DatasetError, match=match) as caught:
            predict(model, views, out, fake, locate, dict(settings), io.StringIO())
        assert caught.value.code == "E_RUN" and "try: another --out" in str(caught.value)

    refused("model differ", model=SimpleNamespace(category="car", hash="other"))
    refused("settings differ", settings=())
    refused("locate differ", locate=True)
    refused("views differ", views=views[:1])
    refused("views differ", views=views_of(tmp_path, 2, K=K))
    relabelled = views_of(tmp_path, 2, R=np.eye(3))  # labels are only for scoring
    assert len(predict(MODEL, relabelled, out, fake, False, {"starts": 3}, io.StringIO())) == 2
    (out / "run.json").unlink()
    refused("another run")
    (out / "predictions.jsonl").write_text('{"index": 0}\nnonsense\n')
    refused("broken lines")
    nameless = SimpleNamespace(category="car")
    predict(nameless, views, tmp_path / "new", fake, stream=io.StringIO())
    with pytest.raises(DatasetError, match="without a hash"):
        predict(nameless, views, tmp_path / "new", fake, stream=io.StringIO())


def test_scoring_refuses_what_it_cannot_pair_or_score(tmp_path):
    views = views_of(tmp_path, 2)
    rows = run(views, tmp_path / "out", Fake(views))
    with pytest.raises(DatasetError, match="one of record 1"):
        score_predictions(views[:1], rows)
    with pytest.raises(DatasetError, match="an index twice"):
        score_predictions([views[0], views[0]], rows[:1])
    unlabelled = View(views[0].image, 64, 48, "car")
    with pytest.raises(DatasetError, match="record 0 key 'R'"):
        evaluate(MODEL, [unlabelled], tmp_path / "no", Fake(views), stream=io.StringIO())
    assert not (tmp_path / "no").exists()


def test_odd_indices_alone_keep_their_numbers(tmp_path):
    views = views_of(tmp_path, 4)
    rows = run(views[1::2], tmp_path / "out", Fake(views))
    assert [row["index"] for row in rows] == [1, 3]
    assert score_predictions(views[1::2], rows)["pose"]["acc_5"] == 1.0


def test_progress_is_shown(tmp_path):
    views, stream = views_of(tmp_path, 2), io.StringIO()
    predict(MODEL, views, tmp_path / "out", Fake(views), stream=stream)
    assert "evaluate: 2/2 done" in stream.getvalue()
