"""Settings of ``render-views``: what the rendered photos look like. Loads nothing heavy."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GenerateConfig:
    """What the rendered photos look like; lengths in object units, angles in degrees.

    Attributes:
        category: name written into the records.
        weights: how often each CAD is drawn; empty = equally.
        width: shortest and longest width of a photo, pixels.
        aspects: width over height, drawn from these.
        span: smallest and largest share of the photo's width the object takes.
        distance: nearest and farthest camera, drawn evenly in the logarithm.
        focal: shortest and longest focal length over the photo's longer side.
        elevation: mean and deviation of the usual cameras' elevation.
        elevation_wide: range of the other cameras' elevation.
        share_wide: share of those other cameras.
        theta: deviation of the in-plane rotation.
        share_truncated: share of objects cut by the photo's border.
        share_small: share of objects shown in few pixels.
        small: least and largest height of such an object, pixels.
        share_occluded: share of photos with occluders in front.
        share_flat_ground: share of photos with a painted ground, not only a picture.
        share_shadow: share of photos with a shadow on the ground.
        stretch: each axis of the CAD is stretched by up to this share.
        ground: what is painted below the object: road, floor or water.
        share_sky: share of photos of the object in the sky, without ground and shadow.
        share_recoloured: share of photos in which a textured CAD gets another body colour.
        colours: kinds of that colour (see ``looks.draw_colour``); empty = as cars on the road.
        exposure: least and largest factor of the light on the object.
        level: of the occluders, where there are some; "" = drawn.
    """

    category: str = "car"
    weights: tuple[float, ...] = ()
    width: tuple[int, int] = (320, 480)
    aspects: tuple[float, ...] = (4 / 3, 4 / 3, 3 / 2, 16 / 9)
    span: tuple[float, float] = (0.2, 0.95)
    distance: tuple[float, float] = (0.9, 12.0)
    focal: tuple[float, float] = (0.6, 8.0)
    elevation: tuple[float, float] = (5.0, 7.0)
    elevation_wide: tuple[float, float] = (-5.0, 35.0)
    share_wide: float = 0.3
    theta: float = 4.0
    share_truncated: float = 0.2
    share_small: float = 0.35
    small: tuple[float, float] = (24.0, 72.0)
    share_occluded: float = 0.4
    share_flat_ground: float = 0.3
    share_shadow: float = 0.8
    stretch: float = 0.05
    ground: Literal["road", "floor", "water"] = "road"
    share_sky: float = 0.0
    share_recoloured: float = 0.9
    colours: tuple[str, ...] = ()
    exposure: tuple[float, float] = (1.0, 1.0)
    level: Literal["", "L1", "L2", "L3"] = ""
