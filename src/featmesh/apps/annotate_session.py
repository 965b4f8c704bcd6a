"""A folder of photos that is being labelled for ``featmesh annotate``: their order, the file."""

import logging
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from featmesh.errors import DatasetError, FeatmeshError
from featmesh.geometry.camera import Camera
from featmesh.inference.config import EstimateConfig
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.progress import track
from featmesh.views.record import View, read_views, write_views

from .annotate_state import Desk, Marks
from .sight import look_closely
from .track_frames import PICTURES
from .view_state import Stage

log = logging.getLogger(__name__)


class Session:
    """A folder of photos that is being labelled: which come next, and the views file.

    Args:
        model: that proposes.
        folder: of the photos; those in the file are not asked again.
        out: the views file, in the folder or above it.
        config: settings of the method.
        camera_of: gives a photo its camera, None where nothing is known of it.

    Raises:
        DatasetError: E_IO where there is no photo; E_VIEWS for a file that is none, or lies where
            it cannot name the photos.

    Attributes:
        left: photos that are still to come.
        skipped: how many were left for another time.
    """

    def __init__(
        self,
        model: CategoryModel,
        folder: Path,
        out: Path,
        config: EstimateConfig | None = None,
        camera_of: Callable[[Photo], Camera | None] = lambda photo: None,
    ) -> None:
        self.model, self.out, self._camera_of = model, out.resolve(), camera_of
        self.config = config or EstimateConfig()
        found = folder.glob("*") if folder.is_dir() else ()
        photos = [p.resolve() for p in found if p.is_file() and p.suffix.lower() in PICTURES]
        if not photos:
            got = "none" if folder.is_dir() else "no such folder"
            raise _unusable("E_IO", f"photos ({' '.join(PICTURES)}) in {folder}", got, "a folder")
        if any(not photo.is_relative_to(self.out.parent) for photo in photos):
            where = f"a views file in {folder} or above it"
            raise _unusable("E_VIEWS", where, str(out), f"--out {folder / 'views.json'}")
        self.views = read_views(self.out) if self.out.exists() else []
        done = {view.image for view in self.views}
        self.left = sorted(photo for photo in photos if photo not in done)
        self.skipped = 0
        self._ahead: tuple[Path, Future[Desk]] | None = None
        self._pool = ThreadPoolExecutor(1, "featmesh-annotate-ahead")

    def by_doubt(self) -> None:
        """Put first the photos that the model is least sure of: all are looked at once."""
        sure: dict[Path, float] = {}
        for path in track(self.left, len(self.left), "looking"):
            try:
                desk = self._open(path)
            except FeatmeshError:
                sure[path] = math.inf  # told of when its turn comes
                continue
            quality = desk.quality(desk.stage.found, Marks())
            sure[path] = quality.evidence if quality.confidence is None else quality.confidence
        self.left.sort(key=lambda path: sure[path])

    def next(self) -> Desk | None:
        """Return the next photo with the model's proposal; None where none is left.

        A photo that cannot be read is told of and left out. The one after is looked at meanwhile.
        """
        while self.left:
            path, ahead = self.left.pop(0), self._ahead
            try:
                known = ahead is not None and ahead[0] == path
                desk = ahead[1].result() if ahead and known else self._open(path)
            except FeatmeshError as error:
                log.warning("annotate: %s left out: %s", path.name, error)
                continue
            if self.left:
                self._ahead = self.left[0], self._pool.submit(self._open, self.left[0])
            return desk
        return None

    def save(self, view: View) -> None:
        """Add a record to the views file; the file is whole at every moment.

        Raises:
            DatasetError: E_IO where it cannot be written.
        """
        views = [*self.views, view]
        try:
            write_views(self.out, views)
        except OSError as error:
            raise _unusable("E_IO", f"to write {self.out}", str(error), "make room") from error
        self.views = views

    def close(self) -> None:
        """Look at no further photo."""
        self._pool.shutdown(cancel_futures=True)

    def _open(self, path: Path) -> Desk:
        photo = read_photo(path)
        sight = look_closely(self.model, photo, None, self._camera_of(photo), self.config)
        return Desk(path, Stage(sight), self.config)


def _unusable(code: str, expected: str, got: str, hint: str) -> DatasetError:
    return DatasetError(code, f"annotate: expected {expected}, got {got}; try: {hint}")
