"""Settings of the robustness suite; needs no torch, the command line reads them first."""

from dataclasses import dataclass, replace

from featmesh.errors import InputError


@dataclass(frozen=True)
class SuiteConfig:
    """What the robustness suite measures.

    Raises:
        InputError: E_CONFIG for a value that cannot be.
    """

    severity: tuple[int, ...] = (1, 3, 5)
    """Severities of the corruptions, 1 to 5."""
    photos: int | None = None
    """At most so many records, evenly over the views file; default: all."""
    conditions: tuple[str, ...] = ()
    """Only these: clean, occlusion, corruption, resolution, rotation, context, or corruptions by
    name; default: all. Clean is always measured."""
    unseen: tuple[tuple[float, float], ...] = ()
    """Ranges of azimuth the model was not trained on, degrees: 30 60 120 150."""
    resamples: int = 1000
    """Draws of the bootstrap intervals."""
    seed: int = 0
    """Of every draw."""

    def __post_init__(self) -> None:
        if not self.severity or not set(self.severity) <= {1, 2, 3, 4, 5}:
            raise _bad("severities from 1 to 5", self.severity, "--severity 1 3 5")
        if self.photos is not None and self.photos < 1:
            raise _bad("one photo or more", self.photos, "--photos 100")
        if self.resamples < 2:
            raise _bad("two resamples or more", self.resamples, "--resamples 1000")


FEW = ("occlusion", "gaussian_noise", "motion_blur", "fog", "jpeg", "resolution", "rotation")
QUICK = SuiteConfig(severity=(3,), photos=8, conditions=FEW, resamples=200)


def quick(config: SuiteConfig) -> SuiteConfig:
    """Return the config with a few photos and conditions wherever it has the defaults."""
    usual = SuiteConfig()
    names = ("severity", "photos", "conditions", "resamples")
    kept = [name for name in names if getattr(config, name) == getattr(usual, name)]
    return replace(config, **{name: getattr(QUICK, name) for name in kept})


def _bad(expected: str, got: object, hint: str) -> InputError:
    return InputError("E_CONFIG", f"suite: expected {expected}, got {got!r}; try: {hint}")
