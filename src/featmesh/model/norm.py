"""Group norm whose statistics may be those of each cell's neighbourhood (ours).

A head learns on crops that an object fills. In the map of a whole photo the mean and deviation are
the background's, and a small object's features fade; taken around each cell they are those of a
crop about it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Window = tuple[int, int]  # cells, height and width


class LocalGroupNorm(nn.GroupNorm):
    """:class:`torch.nn.GroupNorm`, or the same over a window about each cell."""

    def forward(
        self, x: Float[Tensor, "b c h w"], window: Window | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return x less its mean, over its deviation; ``window`` None or not smaller: the map's."""
        if window is None or (window[0] >= x.shape[2] and window[1] >= x.shape[3]):
            return super().forward(x)
        b, c, h, w = x.shape
        grouped = x.reshape(b, self.num_groups, c // self.num_groups, h, w)
        moments = torch.cat([grouped.mean(2), grouped.square().mean(2)], 1)
        mean, square = _around(moments, window).unflatten(1, (2, -1, 1)).unbind(1)
        scale = (square - mean.square()).clamp_min(0).add(self.eps).rsqrt()
        y = ((grouped - mean) * scale).reshape(b, c, h, w)
        return y * self.weight[:, None, None] + self.bias[:, None, None]


def _around(x: Float[Tensor, "b c h w"], window: Window) -> Float[Tensor, "b c h w"]:
    """Return the means over a window about each cell, of its part inside the map."""
    high, wide = (min(n, most) // 2 * 2 + 1 for n, most in zip(window, x.shape[2:], strict=True))
    x = functional.avg_pool2d(x, (high, 1), 1, (high // 2, 0), count_include_pad=False)
    return functional.avg_pool2d(x, (1, wide), 1, (0, wide // 2), count_include_pad=False)
