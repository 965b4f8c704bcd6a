"""Where the photos that come with featmesh lie: in the wheel, or in a checkout."""

from pathlib import Path

import featmesh
from featmesh.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def photos(package: Path | None = None) -> list[Path]:
    """Return the bundled photos by name.

    Args:
        package: folder of the package; default: where featmesh was imported from.

    Raises:
        InputError: E_IO where there are none.
    """
    package = package or Path(featmesh.__file__).resolve().parent
    places = [package / "bundled" / "photos", package.parent.parent / "examples" / "photos"]
    for place in places:
        found = sorted(p for p in place.glob("*") if p.suffix.lower() in SUFFIXES)
        if found:
            return found
    raise InputError(
        "E_IO",
        f"demo: expected photos in {places[0]} or {places[1]}, got none; "
        "try: install featmesh again",
    )
