"""A close look keeps the very energy of the refinement, and the way it took."""

import numpy as np
import pytest
from fixtures import box_of, car_model, look, photo_of

from featmesh.apps.sight import Poses, Sight, look_closely, path_to
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig
from featmesh.inference.estimator import estimate

CAMERA = Camera(330.0, 330.0, 168.0, 112.0, 224, 336)
POSE = look(70.0, 12.0, 3.0, 2.6)
CONFIG = EstimateConfig(ScanConfig(azimuths=12), RefineConfig(steps=20, polish=3))


@pytest.fixture(scope="module", params=[True, False], ids=["known lens", "unknown lens"])
def sight(request: pytest.FixtureRequest) -> Sight:
    photo = photo_of(POSE, CAMERA, known=request.param)
    return look_closely(car_model(), photo, box_of(POSE, CAMERA), config=CONFIG)


def test_the_energy_is_the_one_the_refinement_was_told_of(sight: Sight) -> None:
    for step in sight.steps:
        poses = Poses(step.R, step.t, step.log_zoom, step.log_stretch)
        assert np.array_equal(sight.energy.evaluate(poses).energy, step.energy)


def test_gradient_and_curvature_hold_the_priors(sight: Sight) -> None:
    step = sight.steps[0]
    bent = Poses(step.R[:1], step.t[:1], step.log_zoom[:1] + 0.1, step.log_stretch[:1] + 0.05)
    found = sight.energy.evaluate(bent)
    for k in range(4):
        moved = [np.zeros(4), np.zeros(4)]
        moved[0][k], moved[1][k] = 1e-3, -1e-3
        high, low = (
            sight.energy.evaluate(
                Poses(bent.R, bent.t, bent.log_zoom + m[0], bent.log_stretch + m[1:])
            ).energy[0]
            for m in moved
        )
        assert found.gradient[0, 6 + k] == pytest.approx((high - low) / 2e-3, rel=0.2, abs=2e-2)
    assert (np.linalg.eigvalsh(found.curvature[0]) > -1e-9).all()


def test_the_path_leads_from_a_start_to_the_pose_found(sight: Sight) -> None:
    path, refined, first = sight.path, sight.trial.refined, sight.steps[0]
    assert np.array_equal(path.poses.R[-1], refined.R[0])
    assert path.energy[-1] == refined.energy[0] == path.energy.min()
    assert (first.R == path.poses.R[0]).all((1, 2)).any()
    assert path.stages[0] == "adam"
    turned = np.einsum("kij,kij->k", path.poses.R[1:], path.poses.R[:-1])
    assert (turned > 1 + 2 * np.cos(0.4)).all()  # no leap from one start's row to another's
    polish = path.energy[np.array(path.stages) == "polish"]
    assert (np.diff(polish) < 0).all()


def test_a_pose_of_other_steps_has_no_path(sight: Sight) -> None:
    other = Poses.of(sight.steps[0], 0)
    with pytest.raises(InputError, match="E_POSE"):
        path_to(Poses(other.R, other.t + 1, other.log_zoom, other.log_stretch), sight.steps)


def test_it_says_what_estimate_says(sight: Sight) -> None:
    said = estimate(car_model(), sight.photo, sight.box, config=CONFIG)
    told = sight.estimate()
    assert said.viewpoint is not None and told.viewpoint is not None
    assert vars(told.viewpoint) == pytest.approx(vars(said.viewpoint), abs=1e-9)
    assert told.camera == said.camera


def test_a_box_is_found_where_none_is_given() -> None:
    photo = photo_of(POSE, CAMERA, known=True)
    sight = look_closely(car_model(), photo, config=CONFIG)
    x0, y0, x1, y1 = box_of(POSE, CAMERA)
    assert x0 < (sight.box[0] + sight.box[2]) / 2 < x1
    assert y0 < (sight.box[1] + sight.box[3]) / 2 < y1
    assert sight.config.refine.box_worth == 0
