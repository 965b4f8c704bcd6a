"""How each category is photographed: settings of ``render-views`` for the PASCAL3D+ categories.

Angles follow what PASCAL3D+ shows (spec 2.3); the rest is ours.
"""

import re
from dataclasses import field, fields, make_dataclass, replace
from typing import Any

from .generate_config import GenerateConfig

_BRIGHT = (1.0, 2.4)
_MIXED = ("any", "any", "white", "grey", "dark")
_HOME = ("any", "any", "brown", "white", "grey", "dark")
_INDOOR = (4 / 3, 4 / 3, 3 / 2, 1.0, 3 / 4)
_UPRIGHT = (1.0, 3 / 4, 3 / 4, 2 / 3, 4 / 3)

# what categories of one's own are taken with
GENERAL = GenerateConfig(
    category="object",
    elevation=(10.0, 10.0),
    elevation_wide=(-15.0, 55.0),
    theta=5.0,
    aspects=_INDOOR,
    small=(36.0, 96.0),
    share_small=0.25,
    share_recoloured=0.6,
    exposure=_BRIGHT,
    colours=_MIXED,
)
PRESETS = {
    "aeroplane": GenerateConfig(
        category="aeroplane",
        elevation=(3.0, 9.0),
        elevation_wide=(-30.0, 35.0),
        share_wide=0.4,
        theta=9.0,
        small=(20.0, 60.0),
        ground="road",
        share_sky=0.45,
        share_flat_ground=0.25,
        share_shadow=0.5,
        share_recoloured=0.7,
        stretch=0.08,
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
    "bicycle": GenerateConfig(
        category="bicycle",
        elevation=(6.0, 8.0),
        elevation_wide=(-10.0, 40.0),
        theta=7.0,
        aspects=(4 / 3, 4 / 3, 3 / 2, 1.0),
        small=(36.0, 90.0),
        share_recoloured=0.8,
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
    "boat": GenerateConfig(
        category="boat",
        elevation=(6.0, 6.0),
        elevation_wide=(-3.0, 35.0),
        theta=5.0,
        ground="water",
        share_flat_ground=0.5,
        share_shadow=0.5,
        share_recoloured=0.7,
        stretch=0.1,
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
    "bottle": GenerateConfig(
        category="bottle",
        elevation=(5.0, 9.0),
        elevation_wide=(-10.0, 60.0),
        theta=6.0,
        aspects=_UPRIGHT,
        span=(0.1, 0.6),
        small=(36.0, 110.0),
        ground="floor",
        share_recoloured=0.6,
        stretch=0.1,
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
    "bus": GenerateConfig(
        category="bus",
        elevation=(4.0, 6.0),
        theta=4.0,
        stretch=0.06,
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
    "car": GenerateConfig(),
    "chair": GenerateConfig(
        category="chair",
        elevation=(12.0, 9.0),
        elevation_wide=(-5.0, 55.0),
        theta=5.0,
        aspects=_INDOOR,
        span=(0.2, 0.8),
        small=(36.0, 100.0),
        ground="floor",
        share_recoloured=0.5,
        stretch=0.08,
        exposure=_BRIGHT,
        colours=_HOME,
        share_small=0.25,
    ),
    "diningtable": GenerateConfig(
        category="diningtable",
        elevation=(16.0, 10.0),
        elevation_wide=(0.0, 60.0),
        theta=5.0,
        aspects=_INDOOR,
        ground="floor",
        share_recoloured=0.4,
        stretch=0.1,
        exposure=_BRIGHT,
        colours=_HOME,
        share_small=0.25,
    ),
    "motorbike": GenerateConfig(
        category="motorbike",
        elevation=(6.0, 7.0),
        elevation_wide=(-10.0, 40.0),
        theta=6.0,
        aspects=(4 / 3, 4 / 3, 3 / 2, 1.0),
        small=(32.0, 84.0),
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
    "sofa": GenerateConfig(
        category="sofa",
        elevation=(11.0, 8.0),
        elevation_wide=(-3.0, 50.0),
        theta=4.0,
        aspects=_INDOOR,
        ground="floor",
        share_recoloured=0.7,
        stretch=0.1,
        exposure=_BRIGHT,
        colours=_HOME,
        share_small=0.25,
    ),
    "train": GenerateConfig(
        category="train",
        elevation=(5.0, 6.0),
        elevation_wide=(-5.0, 30.0),
        theta=4.0,
        stretch=0.08,
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
    "tvmonitor": GenerateConfig(
        category="tvmonitor",
        elevation=(6.0, 9.0),
        elevation_wide=(-20.0, 40.0),
        theta=5.0,
        aspects=_INDOOR,
        ground="floor",
        share_flat_ground=0.25,
        share_shadow=0.4,
        share_recoloured=0.5,
        stretch=0.1,
        exposure=_BRIGHT,
        colours=_MIXED,
        share_small=0.25,
    ),
}

# numbers of the Caltech background pictures that show the category, to be left out (looked through)
SHOWN_IN_CALTECH: dict[str, tuple[int, ...]] = {
    "aeroplane": (97, 284, 357),
    "bicycle": (55, 222, 351),
    "boat": (5, 96, 182, 253, 289),
    "car": (13, 77, 107, 110, 137, 148, 162, 192, 236, 237, 298),
    "tvmonitor": (119, 364, 367, 370, 436),
}


def preset(category: str) -> GenerateConfig:
    """Return the settings of a category; those of any object for one that is not PASCAL3D+'s."""
    return PRESETS.get(category, replace(GENERAL, category=category))


def _look() -> type:
    """Return a dataclass like GenerateConfig in which every field may be left out."""
    told = dict(re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", GenerateConfig.__doc__ or "", re.M))
    given: list[Any] = []
    for one in fields(GenerateConfig):
        note = " ".join(told[one.name].split())
        kind: Any = one.type
        given.append((one.name, kind | None, field(default=None, metadata={"note": note})))
    made = make_dataclass("Look", given, frozen=True)
    notes = "\n".join(f"    {f.name}: {f.metadata['note']}" for f in fields(made))
    made.__doc__ = f"Settings that differ from the category's own.\n\nArgs:\n{notes}\n"
    return made


Look: Any = _look()  # every field None where the category's own is kept


def chosen(category: str, look: Any) -> GenerateConfig:
    """Return the settings of a category, but those of a ``Look`` that are not None."""
    given = {f.name: getattr(look, f.name) for f in fields(GenerateConfig)}
    kept = {name: value for name, value in given.items() if value is not None}
    return replace(preset(category), **{"category": category} | kept)
