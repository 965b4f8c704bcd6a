"""Smooth motion of a pose: a causal filter, and a two-sided pass over a finished sequence.

Rotations are filtered in the tangent space: differences of rotations are rotation vectors (radians,
camera axes), which are averaged and put back by the exponential map, so that there is no gimbal
lock and no average of matrices. Translations are filtered as (x / z, y / z, log z): where the
object is seen is sharp in a picture, its distance is not and scales with itself. Ours; the gains
are those of the fading-memory filter of first order (g-h filter).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .pose import Pose, so3_exp, so3_log
from .rotations import procrustes

COAST = 0.7  # of its speed that unseen motion keeps each frame
PASSES = 3  # of the two-sided fit: the weights of outliers settle
OUTLIER = 2.5  # typical residuals from which a frame counts less


def offset(frm: Pose, to: Pose) -> Float[Tensor, "*batch 6"]:
    """Return the step from one pose to another: rotation vector, then (x / z, y / z, log z).

    Args:
        frm: where it begins, z > 0.
        to: where it ends, z > 0, in the unit of ``frm``.
    """
    turn = so3_log(to.R @ frm.R.transpose(-1, -2))
    return torch.cat([turn, _seen(to.t) - _seen(frm.t)], -1)


def moved(pose: Pose, step: Float[Tensor, "*batch 6"]) -> Pose:
    """Return the pose at the end of a step, the inverse of :func:`offset`."""
    x, y, log_z = (_seen(pose.t) + step[..., 3:]).unbind(-1)
    z = log_z.exp()
    return Pose(procrustes(so3_exp(step[..., :3]) @ pose.R), torch.stack([x * z, y * z, z], -1))


def _seen(t: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    x, y, z = t.unbind(-1)
    return torch.stack([x / z, y / z, z.log()], -1)


@dataclass(frozen=True)
class Motion:
    """What a causal filter knows: pose and speed, from the frames so far.

    Attributes:
        pose: filtered, ``cam_from_obj``.
        speed: step a frame, as :func:`offset` has it.
        count: frames it was made of.
    """

    pose: Pose
    speed: Float[Tensor, "6"]
    count: int = 1

    @classmethod
    def at(cls, pose: Pose) -> "Motion":
        """Return the motion of which one pose is known: at rest."""
        return cls(pose, torch.zeros(6, dtype=pose.R.dtype))

    def predicted(self) -> Pose:
        """Return the pose in the next frame if it moves on at the same speed."""
        return moved(self.pose, self.speed)

    def coasted(self) -> "Motion":
        """Return the motion a frame later in which nothing was seen; it slows down."""
        return Motion(self.predicted(), COAST * self.speed, self.count)

    def corrected(self, measured: Pose, smoothing: float, trust: float = 1.0) -> "Motion":
        """Return the motion a frame later in which a pose was measured.

        The first frames count as in a straight line fitted to them (expanding memory), later ones
        with weights that fall by ``smoothing`` each frame.

        Args:
            measured: in the next frame.
            smoothing: 0 (the measured pose itself) to below 1 (the smoothest).
            trust: 0 to 1, of the measured pose against those before it.
        """
        expected, n = self.predicted(), self.count
        g = max(1 - smoothing**2, 2 * (2 * n + 1) / ((n + 1) * (n + 2)))
        h = max((1 - smoothing) ** 2, 6 / ((n + 1) * (n + 2)))
        news = trust * offset(expected, measured)
        return Motion(moved(expected, g * news), self.speed + h * news, n + 1)


def smooth_poses(
    poses: Sequence[Pose], frames: Sequence[int], trust: Sequence[float], width: float
) -> list[Pose]:
    """Return a finished sequence smoothed from both sides: no lag, outliers count less.

    About each frame a straight line is fitted to the steps from it to its neighbours, with Gaussian
    weights; its value there is the correction.

    Args:
        poses: of one object, in order; no two neighbours a half turn apart.
        frames: number of each, growing; may have gaps.
        trust: of each pose against the others, 0 to 1.
        width: standard deviation of the weights, frames; 0: nothing is changed.
    """
    if width <= 0 or len(poses) < 3:
        return list(poses)
    stack = Pose(torch.stack([p.R for p in poses]), torch.stack([p.t for p in poses]))
    times = torch.tensor(frames, dtype=stack.R.dtype)
    sure = torch.tensor(trust, dtype=stack.R.dtype).clamp_min(1e-3)
    ahead = times[None, :] - times[:, None]
    near = torch.exp(-0.5 * (ahead / width) ** 2)
    now = stack
    for _ in range(PASSES):
        off = offset(now, stack)
        size = off[:, :3].norm(dim=-1) + off[:, 3:].norm(dim=-1)
        typical = size.median().clamp_min(1e-9) * OUTLIER
        weights = near * (sure / (1 + (size / typical) ** 2))[None, :]
        now = moved(now, _values(now, stack, ahead, weights))
    return [Pose(R, t) for R, t in zip(now.R, now.t, strict=True)]


def _values(
    now: Pose, measured: Pose, ahead: Float[Tensor, "n n"], weights: Float[Tensor, "n n"]
) -> Float[Tensor, "n 6"]:
    """Return the value at each frame of the line fitted to the steps from it to all frames."""
    rows = []
    for k in range(len(ahead)):
        close = (weights[k] > 1e-4 * weights[k].max()).nonzero()[:, 0]
        here = Pose(now.R[k].expand(len(close), 3, 3), now.t[k].expand(len(close), 3))
        steps = offset(here, Pose(measured.R[close], measured.t[close]))
        w, x = weights[k][close], ahead[k][close]
        total, first, second = w.sum(), (w * x).sum(), (w * x * x).sum()
        sums, moments = (w[:, None] * steps).sum(0), ((w * x)[:, None] * steps).sum(0)
        spread = total * second - first**2
        if float(spread) < 1e-9 * float(total) ** 2:  # alone: no line
            rows.append(sums / total)
        else:
            rows.append((second * sums - first * moments) / spread)
    return torch.stack(rows)
