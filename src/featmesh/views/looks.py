"""What the materials of one view look like: colours, gloss, grain, and a livery with its windows.

Drawn anew for every view and only for CADs that :mod:`featmesh.views.materials` has dressed. Ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from .scene import Scene, linear

SIDE, FRONT, BACK, TOP = range(4)  # regions of a livery
REGION = 96  # texels along each side of a region
GRAIN = 64  # texels along each side of a grain
STRANGE = 0.12  # share of views whose materials have any colour


@dataclass(frozen=True)
class Palette:
    """What a material may look like.

    Attributes:
        colours: kinds of colour (see :func:`draw_colour`), one of them drawn.
        gloss: least and largest strength of highlights.
        mirror: least and largest share mirrored at right angles.
        grain: least and largest strength of a grain, and whether it runs along.
    """

    colours: tuple[str, ...]
    gloss: tuple[float, float] = (0.0, 0.3)
    mirror: tuple[float, float] = (0.0, 0.02)
    grain: tuple[float, float] = (0.0, 0.0)


PAINT = ("any", "any", "white", "grey", "dark")
WEAVE = (0.02, 0.2)
PALETTES = {
    "cap": Palette(("any", "white", "dark", "metal"), (0.1, 0.8), (0.0, 0.06)),
    "cushion": Palette(("any", "any", "grey", "white"), (0.0, 0.1), grain=WEAVE),
    "dark": Palette(("dark",), (0.0, 0.4)),
    "frame": Palette(PAINT, (0.1, 0.9), (0.01, 0.06)),
    "leg": Palette(("wood", "wood", "metal", "dark", "white"), (0.0, 0.5), (0.0, 0.1)),
    "livery": Palette(PAINT, (0.05, 0.9), (0.01, 0.06)),
    "loose": Palette(("any", "metal", "dark", "white", "grey"), (0.0, 0.6), (0.0, 0.08)),
    "metal": Palette(("metal",), (0.2, 1.0), (0.05, 0.3)),
    "rubber": Palette(("dark",), (0.0, 0.15)),
    "sail": Palette(("white", "white", "white", "any"), (0.0, 0.1)),
    "seat": Palette(("any", "wood", "grey", "dark", "white", "brown"), (0.0, 0.4), grain=WEAVE),
    "top": Palette(("wood", "wood", "white", "dark", "any"), (0.0, 0.8), (0.0, 0.08), (0.0, 0.15)),
    "trim": Palette(("any", "wood", "dark", "metal"), (0.0, 0.4)),
}


def draw_colour(rng: np.random.Generator, kind: str) -> Float[np.ndarray, " 3"]:
    """Return a colour of a kind (any, white, grey, dark, metal, wood, brown) as display RGB."""
    if kind == "any":
        hue, saturation, value = rng.uniform(), rng.uniform(0.2, 1.0), rng.uniform(0.15, 0.95)
        ramp = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
        return value * (1 - saturation + saturation * ramp.clip(0, 1))
    if kind in ("wood", "brown"):
        value = rng.uniform(0.2, 0.85)
        warm = np.array([1.0, rng.uniform(0.62, 0.82), rng.uniform(0.3, 0.6)])
        return np.clip(value * warm, 0, 1)
    low, high = {"white": (0.75, 0.97), "grey": (0.3, 0.75), "metal": (0.45, 0.8)}.get(
        kind, (0.02, 0.22)
    )
    return (rng.uniform(low, high) * (1 + rng.normal(0, 0.03, 3))).clip(0.01, 0.98)


def draw_looks(
    rng: np.random.Generator,
    scene: Scene,
    category: str,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> tuple[
    Float32[np.ndarray, "p 3"],
    Float32[np.ndarray, "p 4"],
    Int32[np.ndarray, "p 3"],
    Float32[np.ndarray, "t 5"],
]:
    """Return colours and surfaces of the parts as ``draw_paint`` does, their bitmaps and texels.

    Args:
        rng: generator of this view.
        scene: of a dressed CAD.
        category: whose livery is painted; one of :data:`LIVERIES`, or any other for plain paint.
        pictures: what a screen may show.
    """
    n = len(scene.materials)
    paint, surface = np.zeros((n, 3), np.float32), np.zeros((n, 4), np.float32)
    bitmaps = np.zeros((n, 3), np.int32)
    texels: list[np.ndarray] = [np.zeros((1, 5), np.float32)]
    strange = rng.uniform() < STRANGE
    one_wood = rng.uniform() < 0.3  # a chair all of one wood, a bicycle all of one paint
    drawn: dict[str, np.ndarray] = {}
    for k, name in enumerate(scene.materials):
        palette = PALETTES.get(name.split(".")[0], PALETTES["loose"])
        kind = "any" if strange else str(rng.choice(palette.colours))
        paint[k] = linear(draw_colour(rng, kind))
        if one_wood and name in ("leg", "seat", "trim", "top"):
            paint[k] = drawn.setdefault("wood", paint[k])
        gloss, mirror = rng.uniform(*palette.gloss), rng.uniform(*palette.mirror)
        seen_through = category == "bottle" and name == "livery" and rng.uniform() < 0.3
        opacity = rng.uniform(0.4, 0.85) if seen_through else 1.0
        surface[k] = gloss, rng.uniform(10, 150), mirror, opacity
        bitmap = None
        if name == "livery":
            bitmap = _livery(rng, category, pictures)
        elif palette.grain[1] > 0 or kind == "wood":
            bitmap = _grain(rng, kind == "wood", rng.uniform(*palette.grain))
        if bitmap is not None:
            bitmaps[k] = sum(len(t) for t in texels), *bitmap.shape[:2]
            texels.append(bitmap.reshape(-1, 5))
    return paint, surface, bitmaps, np.concatenate(texels).astype(np.float32)


def _grain(rng: np.random.Generator, wood: bool, strength: float) -> np.ndarray:
    """Return a bitmap that makes the paint of a part darker and brighter."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal((GRAIN, GRAIN), np.float32)
    along = rng.integers(2)
    if wood:
        sigma = (12.0, 0.7) if along else (0.7, 12.0)
        noise, strength = gaussian_filter(noise, sigma, mode="wrap"), rng.uniform(0.05, 0.3)
    elif rng.uniform() < 0.3:  # stripes
        wave = np.sin(np.arange(GRAIN) * 2 * np.pi / rng.choice([8, 16, 32]))
        noise = np.broadcast_to(wave[:, None] if along else wave, noise.shape)
    else:
        noise = gaussian_filter(noise, rng.uniform(0.3, 2.0), mode="wrap")
    noise = noise / max(float(noise.std()), 1e-6)
    out = np.zeros((GRAIN, GRAIN, 5), np.float32)
    out[..., 3] = 1
    out[..., 4] = np.clip(1 + strength * noise, 0.2, 2.0)
    return out


class _Canvas:
    """The four regions of a livery; places are shares of a region, v up."""

    def __init__(self) -> None:
        self.texels = np.zeros((4, REGION, REGION, 5), np.float32)
        self.texels[..., 3:] = 1

    def fill(
        self, region: int, box: tuple[float, float, float, float], rgb: np.ndarray | None
    ) -> None:
        """Fill (u0, u1, v0, v1) with a display colour, or with the body's paint (None)."""
        u0, u1, v0, v1 = (round(float(np.clip(x, 0, 1)) * REGION) for x in box)
        area = self.texels[region, REGION - v1 : REGION - v0, u0:u1]
        area[..., 3] = float(rgb is None)
        if rgb is not None:
            area[..., :3] = linear(rgb)

    def picture(
        self, region: int, box: tuple[float, float, float, float], pixels: np.ndarray
    ) -> None:
        """Paste a picture (display RGB, 0..255) into (u0, u1, v0, v1)."""
        from PIL import Image

        u0, u1, v0, v1 = (round(float(np.clip(x, 0, 1)) * REGION) for x in box)
        if u1 > u0 and v1 > v0:
            small = np.asarray(Image.fromarray(pixels).resize((u1 - u0, v1 - v0))) / 255
            area = self.texels[region, REGION - v1 : REGION - v0, u0:u1]
            area[..., :3], area[..., 3] = linear(small), 0

    def bitmap(self) -> np.ndarray:
        """Return the 2 x 2 regions as one bitmap, first row on top."""
        upper = np.concatenate([self.texels[SIDE], self.texels[FRONT]], 1)
        lower = np.concatenate([self.texels[BACK], self.texels[TOP]], 1)
        return np.concatenate([upper, lower], 0)


Pictures = Sequence[UInt8[np.ndarray, "_ _ 3"]]
Painter = Callable[[np.random.Generator, "_Canvas", Pictures], None]


def _livery(rng: np.random.Generator, category: str, pictures: Pictures) -> np.ndarray:
    canvas = _Canvas()
    painter = LIVERIES.get(category)
    if painter is not None:
        painter(rng, canvas, pictures)
    return canvas.bitmap()


def _pane(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.03, 0.3) * (1 + rng.uniform(-0.1, 0.2, 3))


def _stripes(rng: np.random.Generator, canvas: _Canvas, low: float, high: float) -> None:
    """Paint up to three level stripes around the body."""
    for _ in range(int(rng.integers(0, 4))):
        v, thick = rng.uniform(low, high), rng.choice([0.02, 0.05, 0.15, 0.3]) * rng.uniform(0.5, 1)
        colour = draw_colour(rng, str(rng.choice(PAINT)))
        for region in (SIDE, FRONT, BACK):
            canvas.fill(region, (0.0, 1.0, v, v + thick), colour)


def _lamps(rng: np.random.Generator, canvas: _Canvas) -> None:
    low, size = rng.uniform(0.15, 0.3), rng.uniform(0.05, 0.1)
    for u in (0.06, 0.94 - 2 * size):
        canvas.fill(FRONT, (u, u + 2 * size, low, low + size), rng.uniform(0.7, 1.0, 3))
        red = np.array([rng.uniform(0.4, 0.9), 0.05, 0.05])
        canvas.fill(BACK, (u, u + size, low, low + size), red)


def _coach(rng: np.random.Generator, canvas: _Canvas, _: Pictures) -> None:
    """A bus or a train: windows in a row, a large pane in front, doors."""
    _stripes(rng, canvas, 0.05, 0.9)
    pane = _pane(rng)
    low, high = rng.uniform(0.42, 0.58), rng.uniform(0.74, 0.9)
    edge, count = rng.uniform(0.01, 0.08), int(rng.integers(5, 14))
    gap = rng.choice([0.0, 0.004, 0.012]) * rng.uniform(0.5, 1.5)
    for u in np.linspace(edge, 1 - edge, count + 1)[:-1]:
        width = (1 - 2 * edge) / count
        canvas.fill(SIDE, (u + gap, u + width - gap, low, high), pane)
    for u in rng.uniform(0.05, 0.9, int(rng.integers(0, 3))):
        canvas.fill(SIDE, (u, u + 0.06, 0.15, high), pane * 1.2)
    inner = rng.uniform(0.04, 0.12)
    canvas.fill(FRONT, (inner, 1 - inner, rng.uniform(0.35, 0.5), rng.uniform(0.78, 0.9)), pane)
    if rng.uniform() < 0.7:
        inner = rng.uniform(0.1, 0.25)
        canvas.fill(BACK, (inner, 1 - inner, rng.uniform(0.5, 0.65), high), pane)
    if rng.uniform() < 0.5:  # the destination
        canvas.fill(FRONT, (0.25, 0.75, 0.9, 0.96), rng.uniform(0.0, 1.0, 3))
    _lamps(rng, canvas)


def _airliner(rng: np.random.Generator, canvas: _Canvas, _: Pictures) -> None:
    """An aeroplane: a cheatline, a row of small panes, the cockpit, another colour at the tail."""
    line = rng.uniform(0.25, 0.5)
    if rng.uniform() < 0.5:
        canvas.fill(SIDE, (0.0, 1.0, 0.0, line), draw_colour(rng, str(rng.choice(PAINT))))
    if rng.uniform() < 0.6:
        colour = draw_colour(rng, str(rng.choice(PAINT)))
        canvas.fill(SIDE, (0.0, 1.0, line, line + rng.uniform(0.02, 0.08)), colour)
    if rng.uniform() < 0.6:
        tail = rng.uniform(0.75, 0.9)
        canvas.fill(SIDE, (tail, 1.0, 0.5, 1.0), draw_colour(rng, str(rng.choice(PAINT))))
    pane = _pane(rng)
    if rng.uniform() < 0.6:
        for u in np.arange(0.12, 0.8, rng.uniform(0.015, 0.03)):
            canvas.fill(SIDE, (u, u + 0.011, line + 0.03, line + 0.06), pane)
    if rng.uniform() < 0.6:
        canvas.fill(SIDE, (0.04, 0.08, line + 0.03, line + 0.1), pane)
        canvas.fill(FRONT, (0.44, 0.56, line + 0.03, line + 0.1), pane)
    if rng.uniform() < 0.3:
        canvas.fill(
            TOP, (0.0, 1.0, 0.0, rng.uniform(0.2, 0.5)), draw_colour(rng, str(rng.choice(PAINT)))
        )


def _hull(rng: np.random.Generator, canvas: _Canvas, _: Pictures) -> None:
    """A boat: another colour under water and above the rail, panes in the rows of a deck house."""
    rail = rng.uniform(0.25, 0.5)
    if rng.uniform() < 0.6:
        above = draw_colour(rng, str(rng.choice(["white", "white", "wood", "grey", "any"])))
        for region in (SIDE, FRONT, BACK):
            canvas.fill(region, (0.0, 1.0, rail, 1.0), above)
    if rng.uniform() < 0.5:
        below = draw_colour(rng, str(rng.choice(PAINT)))
        for region in (SIDE, FRONT, BACK):
            canvas.fill(region, (0.0, 1.0, 0.0, rail * rng.uniform(0.2, 0.6)), below)
    if rng.uniform() < 0.5:
        pane, step = _pane(rng), rng.uniform(0.02, 0.08)
        for v in np.arange(rail + 0.04, rng.uniform(rail, 0.9), 0.1):
            for u in np.arange(0.1, 0.9, step):
                canvas.fill(SIDE, (u, u + 0.6 * step, v, v + 0.05), pane)
            canvas.fill(FRONT, (0.2, 0.8, v, v + 0.05), pane)
    if rng.uniform() < 0.5:
        kind = str(rng.choice(["wood", "white", "grey", "any"]))
        canvas.fill(TOP, (0.0, 1.0, 0.0, 1.0), draw_colour(rng, kind))


def _label(rng: np.random.Generator, canvas: _Canvas, _: Pictures) -> None:
    """A bottle: a label around it or in front, with a few lines and blots; a foil at the neck."""
    if rng.uniform() < 0.4:
        foil = draw_colour(rng, str(rng.choice(["any", "metal", "dark"])))
        v = rng.uniform(0.65, 0.85)
        for region in (SIDE, FRONT, BACK):
            canvas.fill(region, (0.0, 1.0, v, 1.0), foil)
    if rng.uniform() < 0.2:
        return
    low, high = rng.uniform(0.05, 0.3), rng.uniform(0.35, 0.6)
    paper = draw_colour(rng, str(rng.choice(["white", "white", "any", "any", "dark"])))
    around = rng.uniform() < 0.6
    half = 0.5 if around else rng.uniform(0.25, 0.45)
    regions = (SIDE, FRONT, BACK) if around else (FRONT, BACK)
    for region in regions:
        canvas.fill(region, (0.5 - half, 0.5 + half, low, high), paper)
    for _k in range(int(rng.integers(1, 6))):
        ink = draw_colour(rng, str(rng.choice(["any", "dark", "white"])))
        v, u = rng.uniform(low, high), rng.uniform(0.5 - half, 0.5)
        size = (rng.uniform(0.05, 1.2 * half), rng.uniform(0.01, 0.12))
        for region in regions:
            canvas.fill(region, (u, u + size[0], v, min(high, v + size[1])), ink)


def _telly(rng: np.random.Generator, canvas: _Canvas, pictures: Pictures) -> None:
    """A screen: dark, or showing a picture; vents and a label behind."""
    side, foot = rng.uniform(0.02, 0.08), rng.uniform(0.02, 0.16)
    box = (side, 1 - side, foot, 1 - rng.uniform(0.02, 0.08))
    if len(pictures) and rng.uniform() < 0.5:
        canvas.picture(FRONT, box, pictures[int(rng.integers(len(pictures)))])
    else:
        canvas.fill(FRONT, box, rng.uniform(0.01, 0.25) * (1 + rng.uniform(-0.1, 0.2, 3)))
    for _k in range(int(rng.integers(0, 5))):
        u, v = rng.uniform(0.1, 0.8, 2)
        size = rng.uniform(0.03, 0.25, 2)
        canvas.fill(BACK, (u, u + size[0], v, v + size[1]), draw_colour(rng, "dark"))


LIVERIES: dict[str, Painter] = {
    "aeroplane": _airliner,
    "boat": _hull,
    "bottle": _label,
    "bus": _coach,
    "train": _coach,
    "tvmonitor": _telly,
}
