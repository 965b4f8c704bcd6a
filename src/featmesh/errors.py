"""Exceptions with stable codes: each message says who complains, expected, got, and what to try."""


class FeatmeshError(ValueError):
    """Base of all errors of featmesh; ``code`` is stable (``E_BOX``, ``E_IMG_TRUNCATED``, ...)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


class InputError(FeatmeshError):
    """Something the user handed in (photo, box, camera, mesh, number) cannot be used."""


class DatasetError(FeatmeshError):
    """A views file or a data set folder is not what it should be."""


class CheckpointError(FeatmeshError):
    """A model folder or a training checkpoint is broken, foreign or of another version."""


class BackendUnavailable(FeatmeshError):
    """A backend or optional package was asked for that cannot be used on this machine."""
