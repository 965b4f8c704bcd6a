"""Which public CADs show which category, their frames and licences, and which are only reported on.

Nothing is downloaded or kept here: the CADs lie where their packages put them. Ours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featmesh.errors import DatasetError

from .cad import Cad, read_plain, read_sweethome3d, turned
from .materials import dressed

FURNITURE = Path("/usr/share/sweethome3d/furniture")  # of Debian's sweethome3d-furniture
PASCAL3D_LICENCE = "MIT (github.com/yuxng/3DVP); 12 PASCAL3D+ categories, from 3D Warehouse"


@dataclass(frozen=True)
class Items:
    """Items of a Sweet Home 3D catalogue.

    Attributes:
        catalogue: its file, without ``.sh3f``.
        names: regular expression of whole item names.
        leave_out: regular expression found in the paths of models that look otherwise, or "".
    """

    catalogue: str
    names: str
    leave_out: str = ""


CC0, CC_BY, KATOR, SCOPIA = "BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Scopia"
SOURCES: dict[str, tuple[Items, ...]] = {
    "aeroplane": (Items(CC0, "biplane"),),
    "bicycle": (Items(CC_BY, "bike"), Items(SCOPIA, "bicycle")),
    "boat": (Items(CC_BY, "rowboat"),),
    "bottle": (
        Items(CC0, "baby bottle|yogurt bottle|flacon"),
        Items(CC_BY, "beer bottle"),
        Items(KATOR, "wine bottle"),
        Items(SCOPIA, "wine bottle|bottle|medicine bottle"),
    ),
    "bus": (Items(SCOPIA, "bus|city bus"),),
    "car": (
        Items(CC_BY, "ford focus"),
        Items(KATOR, ".*concept sedan.*|.*beetle.*"),
        Items(SCOPIA, "seat leon|peugeot 308 cc|renault scenic|suv|chevrolet|van|smart car"),
    ),
    "chair": (
        Items(CC0, "armchair|oak chair|chair|osaka chair|chair with cushion|winchester armchair"),
        Items(CC_BY, "armchair|chair|chair with cushion|child chair|class seat|folding chair"),
        Items(KATOR, "cafe chair|armchair|chair"),
        Items(
            SCOPIA,
            "armchair|bar chair|chair|children chair|modern armchair|plastic chair"
            "|rattan armchair|teck chair",
            "ext_chair",  # one end of a sofa
        ),
    ),
    "diningtable": (
        Items(CC_BY, "table|round table"),
        Items(KATOR, "cafe table|folding table|glass table"),
        Items(
            SCOPIA,
            "black table|children table|glass table|table|table on trestles|wooden table"
            "|wooden alder table",
            "ext_table|living_room_table|pear_table/",  # on the floor, with drawers, of one side
        ),
    ),
    "motorbike": (
        Items(KATOR, "scooter"),
        Items(SCOPIA, "scooter|yamaha yzr r6", "/scooter/"),  # that one is pushed by foot
    ),
    "sofa": (
        Items(CC0, "couch|sofa|winchester sofa", "couch2"),  # no corner sofas
        Items(CC_BY, "couch|sofa"),
        Items(KATOR, "futon couch|sofa"),
        Items(SCOPIA, "burlap sofa|clear sofa|convertible sofa bz|rattan sofa|sofa|sofa . seats"),
    ),
    "train": (),
    "tvmonitor": (
        Items(CC0, "tv"),
        Items(KATOR, "apple imac 1998"),
        Items(SCOPIA, "tv 16:9|wall flat tv"),
    ),
}


def held_out(names: Sequence[str]) -> tuple[str, ...]:
    """Return which of a category's PASCAL3D+ CADs are only reported on, never trained on.

    The last one by name, the last two where there are six or more (contracts 6).
    """
    ordered = sorted(names)
    return tuple(ordered[-2 if len(ordered) >= 6 else -1 :])


def read_reported_cads(category: str, pascal3d: str | Path) -> list[Cad]:
    """Return the CADs that are only reported on, with materials.

    Args:
        category: PASCAL3D+ name.
        pascal3d: folder that holds ``<category>/NN.off``.

    Raises:
        DatasetError: E_DATA (no such folder).
        InputError: as :func:`featmesh.views.cad.read_plain`.
    """
    names = _pascal_names(category, pascal3d)
    return [_pascal_cad(category, name, pascal3d) for name in held_out(names)]


def read_training_cads(
    category: str, pascal3d: str | Path | None, furniture: str | Path = FURNITURE
) -> list[Cad]:
    """Return the CADs a category is trained on, with materials: the catalogues', then PASCAL3D+'s.

    Each has a name of its own: of items called alike, the model's file name is part of it.

    Args:
        category: one of :data:`SOURCES`.
        pascal3d: folder that holds ``<category>/NN.off``; None = only the catalogues.
        furniture: where the catalogues lie.

    Raises:
        DatasetError: E_DATA (unknown category, no catalogue, no such folder, no CAD at all).
        InputError: as the readers of :mod:`featmesh.views.cad`.
    """
    if category not in SOURCES:
        raise _bad(f"a category of {', '.join(SOURCES)}", repr(category), "a folder of CADs")
    cads = [cad for items in SOURCES[category] for cad in _read_items(items, Path(furniture))]
    if category == "diningtable":  # long along x, as PASCAL3D+ has it
        cads = [turned(c, 90.0) if c.extent[1] > 1.02 * c.extent[0] else c for c in cads]
    if pascal3d is not None:
        names = _pascal_names(category, pascal3d)
        kept = [name for name in names if name not in held_out(names)]
        cads += [_pascal_cad(category, name, pascal3d) for name in kept]
    cads = _with_own_names(cads)
    if not cads:
        raise _bad(f"CADs of {category}", "none in the catalogues", "the PASCAL3D+ CADs as well")
    return cads


def training_weights(cads: Sequence[Cad], share: float = 0.4) -> tuple[float, ...]:
    """Return how often to draw each CAD: those of PASCAL3D+ together at least this share."""
    plain = [cad.licence == PASCAL3D_LICENCE for cad in cads]
    few = sum(plain)
    if not few or few >= share * len(cads):
        return tuple(1.0 for _ in cads)
    each = share / (1 - share) * (len(cads) - few) / few
    return tuple(each if p else 1.0 for p in plain)


def attributions(cads: Sequence[Cad]) -> list[str]:
    """Return one line a CAD, to be quoted wherever renders of it are used."""
    return [f"{cad.name}: {cad.licence} [{cad.source}]" for cad in cads]


def _with_own_names(cads: Sequence[Cad]) -> list[Cad]:
    """Return the CADs, those that share a name with their file's name behind it."""
    count = Counter(cad.name for cad in cads)
    own = [f"{c.name} ({Path(c.source).stem})" if count[c.name] > 1 else c.name for c in cads]
    again = Counter(own)
    own = [f"{n} {c.source}" if again[n] > 1 else n for n, c in zip(own, cads, strict=True)]
    return [replace(cad, name=name) for cad, name in zip(cads, own, strict=True)]


def _read_items(items: Items, furniture: Path) -> list[Cad]:
    path = furniture / f"{items.catalogue}.sh3f"
    if not path.is_file():
        raise _bad(str(path), "no such catalogue", "apt-get install sweethome3d-furniture")
    cads = read_sweethome3d(path, f"^({items.names})$", items.leave_out or None)
    if not cads:
        hint = "apt-get install --reinstall sweethome3d-furniture"
        raise _bad(f"items called {items.names} in {path}", "none", hint)
    return cads


def _pascal_names(category: str, pascal3d: str | Path) -> list[str]:
    folder = Path(pascal3d) / category
    names = sorted(path.stem for path in folder.glob("*.off"))
    if not names:
        hint = f"put the PASCAL3D+ CADs there as {folder}/01.off, 02.off, ..."
        raise _bad(f"NN.off in {folder}", "none", hint)
    return names


def _pascal_cad(category: str, name: str, pascal3d: str | Path) -> Cad:
    cad = read_plain(Path(pascal3d) / category / f"{name}.off", PASCAL3D_LICENCE)
    return dressed(cad, category)


def _bad(expected: str, got: str, hint: str) -> DatasetError:
    return DatasetError("E_DATA", f"read CADs: expected {expected}, got {got}; try: {hint}")
