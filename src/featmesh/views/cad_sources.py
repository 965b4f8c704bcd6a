"""Which public CADs show which category, their frames and licences, and which are only reported on.

Nothing is downloaded or kept here: the CADs lie where their packages put them. Ours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featmesh.errors import DatasetError

from .cad import Cad, read_plain, read_sweethome3d, turned
from .cad_ac3d import NO_BODY, read_ac3d
from .materials import dressed

FURNITURE = Path("/usr/share/sweethome3d/furniture")  # of Debian's sweethome3d-furniture
FLIGHTGEAR_DATA = Path("/usr/share/games/flightgear")  # of Debian's flightgear-data-ai, -models
FLIGHTGEAR_LICENCE = "GPL-2+ (FlightGear data; files are not redistributed)"
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


@dataclass(frozen=True)
class Model:
    """An AC3D file of FlightGear's data; paths are below its folder.

    Attributes:
        file: without ``.ac``.
        skins: folder of its bitmaps, or "" = beside the file.
        turn: degrees, counter-clockwise from above, that bring its front to -y.
        leave_out: regular expression of names of objects to leave out besides
            :data:`featmesh.views.cad_ac3d.NO_BODY`, or "".
        behind: files put behind it, without ``.ac``.
    """

    file: str
    skins: str = ""
    turn: float = 0.0
    leave_out: str = ""
    behind: tuple[str, ...] = ()


def _aircraft(name: str, file: str, skin: str = "") -> Model:
    folder = f"AI/Aircraft/{name}"
    return Model(f"{folder}/{file}", f"{folder}/Textures/{skin}" if skin else "")


def _ship(name: str, turn: float = 0.0, leave_out: str = "") -> Model:
    return Model(f"Models/Maritime/{name}", turn=turn, leave_out=leave_out)


# every one looked at from all sides: front, whole, nothing apart from it (no front and back alike)
GPL_SOURCES: dict[str, tuple[Model, ...]] = {
    "aeroplane": (
        _aircraft("A320", "Models/A320", "Lufthansa"),
        _aircraft("747", "Models/74N", "Cargolux"),
        _aircraft("A346", "Models/A346", "VirginAtlantic"),
        _aircraft("787", "Models/788", "ANA"),
        _aircraft("MD80", "Models/md-80", "American"),
        _aircraft("BAE146-300", "Models/BAE146-300", "Brussels"),
        _aircraft("CR9", "Models/CR9", "IberiaRegional"),
        _aircraft("tu154b", "Model/tu154B"),
        _aircraft("AT7", "Models/AT7", "AirCorsica"),
        _aircraft("Fokker-50", "Models/fokker50", "KLM"),
        _aircraft("BAe-125", "Models/bae125"),
        _aircraft("Cessna208Caravan", "Models/caravan"),
        _aircraft("DR400", "Models/dr400"),
        _aircraft("pa-28", "Models/pa-28", "g-cbal"),
        _aircraft("c172", "Models/c172p", "n737bq"),
        _aircraft("DH82", "Models/DH82", "G-ACDA"),
        _aircraft("Fokker-S-11", "Models/s11"),
        _aircraft("A6M2", "Models/a6m2"),
        _aircraft("F-15", "Models/F-15-lowpoly"),
        _aircraft("F-18", "Models/F-18-model"),
        _aircraft("Mirage2000", "m2000-5_lowpoly"),
        _aircraft("MiG-21bis", "Models/MiG-21bis-lowpoly"),
        _aircraft("f16", "Models/rnlaf/f16"),
        _aircraft("T-38", "Models/T38"),
    ),
    "boat": (
        _ship("Civilian/ContainerShip"),
        _ship("Civilian/CruiseShip"),
        _ship("Civilian/FerryBoat1"),
        _ship("Civilian/Freighter"),
        _ship("Civilian/LargeFerry", 90.0),
        _ship("Civilian/LargeTrawler"),
        _ship("Civilian/Maritime-Pre-Positioning-Ship"),
        _ship("Civilian/MediumFerry"),
        _ship("Civilian/SailBoatUnderPower"),
        _ship("Civilian/SailBoatUnderSail"),
        _ship("Civilian/Tanker"),
        _ship("Civilian/Trawler", leave_out="^cylinder0[23]|^object(08|09|10|11)|^sqhull01_1"),
        _ship("Civilian/container_carrier"),
        _ship("Military/LPD17", leave_out="^rect"),
        _ship("Military/OliverPerryFFG"),
        _ship("Military/PSC9", 90.0),
        Model("Models/Geometry/sailboat1/sailboat"),
    ),
    "bus": (Model("Models/Transport/110Bus"),),
    "train": (
        Model("Models/Transport/ICE3firstcar", leave_out="^marker|^sphere"),
        Model("Models/Transport/locomotive-A4", behind=("Models/Transport/tender-A4",)),
        Model("Models/Transport/Class_66", behind=("Models/Transport/wagon-ore",)),
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
    category: str,
    pascal3d: str | Path | None,
    furniture: str | Path = FURNITURE,
    gpl: str | Path | None = None,
) -> list[Cad]:
    """Return the CADs a category is trained on, with materials: the catalogues', then PASCAL3D+'s.

    FlightGear's, where they are asked for, come between those.

    Each has a name of its own: of items called alike, the model's file name is part of it.

    Args:
        category: one of :data:`SOURCES`.
        pascal3d: folder that holds ``<category>/NN.off``; None = only the catalogues.
        furniture: where the catalogues lie.
        gpl: where FlightGear's data lie, e.g. :data:`FLIGHTGEAR_DATA`; None = without CADs under
            the GPL.

    Raises:
        DatasetError: E_DATA (unknown category, no catalogue, no such folder or model, no CAD at
            all).
        InputError: as the readers of :mod:`featmesh.views.cad`.
    """
    if category not in SOURCES:
        raise _bad(f"a category of {', '.join(SOURCES)}", repr(category), "a folder of CADs")
    cads = [cad for items in SOURCES[category] for cad in _read_items(items, Path(furniture))]
    if category == "diningtable":  # long along x, as PASCAL3D+ has it
        cads = [turned(c, 90.0) if c.extent[1] > 1.02 * c.extent[0] else c for c in cads]
    if gpl is not None:
        cads += [_read_model(model, Path(gpl)) for model in GPL_SOURCES.get(category, ())]
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


def _read_model(model: Model, root: Path) -> Cad:
    files = [root / f"{name}.ac" for name in (model.file, *model.behind)]
    folders = [root / model.skins] if model.skins else []
    for path in (*files, *folders):
        if not path.exists():
            hint = "apt-get install flightgear-data-ai flightgear-data-models"
            raise _bad(str(path), "no such file of FlightGear's data", hint)
    cad = read_ac3d(
        files[0],
        licence=FLIGHTGEAR_LICENCE,
        skins=folders,
        leave_out=f"{NO_BODY}|{model.leave_out}" if model.leave_out else NO_BODY,
        behind=files[1:],
    )
    source = " + ".join(f"{name}.ac" for name in (model.file, *model.behind))
    named = replace(cad, name=files[0].stem, source=f"flightgear:{source}")
    return turned(named, model.turn) if model.turn else named


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
