"""What the sliders say is the pose, the mesh, the energy and the colours of the estimate."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import box_of, look, photo_of, shaped_model
from part_scenes import true_labels

from featmesh.apps.sight import Poses, look_closely
from featmesh.apps.view_state import Stage, ViewState, backdrop
from featmesh.geometry.camera import Camera
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig, ShapeConfig
from featmesh.inference.result import OCCLUDED, VISIBLE
from featmesh.present.masks import STATE_COLOURS

CAMERA = Camera(330.0, 330.0, 150.0, 122.0, 224, 336)
POSE = look(70.0, 12.0, 3.0, 2.6)
CONFIG = EstimateConfig(
    ScanConfig(azimuths=12), RefineConfig(steps=20, polish=3), ShapeConfig(steps=5, polish=1)
)


def stage_of(known: bool) -> Stage:
    """A look at the painted car, with parts and a shape space."""
    model = replace(shaped_model(), labels=true_labels())
    photo = photo_of(POSE, CAMERA, known)
    return Stage(look_closely(model, photo, box_of(POSE, CAMERA), config=CONFIG))


@pytest.fixture(scope="module", params=[True, False], ids=["known lens", "unknown lens"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return stage_of(request.param)


@pytest.fixture(scope="module")
def known() -> Stage:
    return stage_of(True)


def test_a_state_is_its_pose_and_back(stage: Stage) -> None:
    refined = stage.sight.trial.refined
    poses = stage.poses(stage.found)
    assert np.allclose(poses.R, refined.R[:1]) and np.allclose(poses.t, refined.t[:1])
    other = ViewState(4.0, -0.3, 0.2, 3.1, 0.1, -0.05, 0.2, (0.1, 0.0, -0.1), (0.5, 0.0, -1.0))
    back = stage.state_of(stage.poses(other), np.array(other.latent))
    assert np.allclose(np.hstack(list(vars(back).values())), np.hstack(list(vars(other).values())))


def test_angles_are_those_of_the_estimate(stage: Stage) -> None:
    said = stage.sight.estimate().viewpoint
    assert said is not None
    for name in ("azimuth", "elevation", "theta", "distance"):
        assert getattr(stage.found, name) == pytest.approx(getattr(said, name), abs=1e-6), name


def test_the_state_found_has_the_energy_found(stage: Stage) -> None:
    shown = stage.show(stage.found)
    assert shown.energy == pytest.approx(float(stage.sight.trial.refined.energy[0]), abs=1e-9)
    assert shown.visible > 0.8 and shown.confidence is None
    turned = stage.show(replace(stage.found, azimuth=stage.found.azimuth + 1.0))
    assert turned.energy > shown.energy


def test_vertices_and_pose_draw_the_object_in_the_photo(stage: Stage) -> None:
    shown = stage.show(stage.found)
    assert shown.pose is not None
    points = shown.pose.apply(torch.from_numpy(shown.vertices).double())
    pixels, _ = shown.camera.project(points)
    low, high = pixels.amin(0).tolist(), pixels.amax(0).tolist()
    assert (*low, *high) == pytest.approx(box_of(POSE, CAMERA), abs=8)


def test_latents_and_stretches_move_the_vertices(known: Stage) -> None:
    mean = known.show(known.found).vertices
    bent = known.show(replace(known.found, latent=(2.0, 0.0, 0.0)))
    assert np.abs(bent.vertices - mean).max() > 0.05
    assert bent.energy != known.show(known.found).energy
    wide = known.show(replace(known.found, log_stretch=(0.2, 0.0, 0.0))).vertices
    assert np.ptp(wide[:, 0]) > 1.15 * np.ptp(mean[:, 0])


def test_an_object_outside_the_photo_has_no_pose(known: Stage) -> None:
    assert known.show(replace(known.found, across=1.2)).pose is None


def test_colours_cover_every_face_once(known: Stage) -> None:
    shown = known.show(known.found)
    assert known.colourings == ("plain", "visible, occluded", "parts")
    for colouring, least in zip(known.colourings, (1, 2, 4), strict=True):
        groups = known.groups(shown, colouring)
        corners = np.concatenate([group.vertices[group.faces] for group in groups])
        assert len(corners) == len(known.faces), colouring
        assert {tuple(sorted(c)) for c in corners} == {tuple(sorted(f)) for f in known.faces}
        assert len(groups) >= least
    painted = {group.colour for group in known.groups(shown, "visible, occluded")}
    assert STATE_COLOURS[VISIBLE] in painted
    away = known.show(replace(known.found, azimuth=known.found.azimuth + np.pi))
    painted = {group.colour for group in known.groups(away, "visible, occluded")}
    assert STATE_COLOURS[OCCLUDED] in painted


def test_render_and_compare_runs_from_the_state_and_tells_every_step(stage: Stage) -> None:
    begin = replace(stage.found, azimuth=stage.found.azimuth + 0.25, elevation=0.4)
    told: list[tuple[ViewState, float, str]] = []
    end = stage.refine(begin, lambda *step: told.append(step))
    assert told[0][0].azimuth == pytest.approx(begin.azimuth)
    assert len(told) == CONFIG.refine.steps + 1 + CONFIG.refine.polish + 1
    assert stage.show(end).energy == pytest.approx(min(energy for _, energy, _ in told))
    assert stage.show(end).energy < stage.show(begin).energy
    R, found = (torch.from_numpy(stage.poses(state).R[0]) for state in (end, stage.found))
    assert float(geodesic_angle(R, found)) < 0.1


def test_render_and_compare_holds_the_shape_shown(known: Stage) -> None:
    begin = replace(known.found, latent=(1.5, 0.0, 0.0))
    told: list[float] = []
    end = known.refine(begin, lambda state, energy, stage: told.append(energy))
    assert end.latent == begin.latent
    plain = replace(begin, log_stretch=(0.0, 0.0, 0.0))  # the proportions begin at the mean
    assert told[0] == pytest.approx(known.show(plain).energy, abs=1e-6)


def test_the_shape_is_fitted(known: Stage) -> None:
    stages: set[str] = set()
    end = known.fit(known.found, lambda state, energy, stage: stages.add(stage))
    assert stages == {"shape-adam", "shape-polish"} and len(end.latent) == 3


def test_every_pixel_of_the_backdrop_lies_on_its_ray(stage: Stage) -> None:
    shown = stage.show(stage.found)
    behind = backdrop(shown)
    pixels, _ = shown.camera.project(torch.from_numpy(behind.corners))
    w, h = shown.camera.width, shown.camera.height
    assert np.allclose(pixels.numpy(), [[0, 0], [w, 0], [w, h], [0, h]])
    assert np.allclose(behind.corners.mean(0), behind.centre)
    assert behind.width == pytest.approx(np.ptp(behind.corners[:, 0]))
    assert shown.pose is not None
    far = shown.pose.apply(torch.from_numpy(shown.vertices).double())[:, 2].max()
    assert behind.centre[2] > float(far)


def test_poses_keep_their_rows() -> None:
    some = Poses(np.eye(3)[None].repeat(2, 0), np.ones((2, 3)), np.zeros(2), np.zeros((2, 3)))
    other = Poses(some.R, some.t * 2, some.log_zoom, some.log_stretch)
    assert some.choose(np.array([False, True]), other).t.tolist() == [[1] * 3, [2] * 3]
