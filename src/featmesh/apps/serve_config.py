"""What ``featmesh serve`` is told: torch-free."""

import math
from dataclasses import dataclass, field

from featmesh.errors import InputError
from featmesh.inference.config import EstimateConfig


@dataclass(frozen=True)
class ServeConfig:
    """Estimate the photos that HTTP clients send; every limit is on by default."""

    model: str = "car"
    """name of a bundled model, or a model folder; of several, joined by commas, or of any (one
    of each bundled category) a client may choose one, or else gets the one that explains the photo
    best"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 lets other machines in"""
    port: int = 8000
    """port to listen on; 0 = any that is free"""
    workers: int = 0
    """processes that estimate, of one thread each; 0 = one a core, at most 4"""
    queue: int = 32
    """requests under way at a time (sent, waiting, estimated); more get 429"""
    connections: int = 512
    """open connections; more get 429"""
    body_mb: float = 20.0
    """megabytes a request may have; a larger one gets 413 while it is sent"""
    megapixels: float = 50.0
    """pixels a photo may have; a larger one gets 413 by its header"""
    slow_s: float = 15.0
    """seconds without a whole header, or without progress in the body; then 408"""
    limit_s: float = 60.0
    """seconds an estimate may take; then 503, and the process is replaced"""
    recycle_after: int = 500
    """estimates after which a process is replaced"""
    memory_mb: float = 2000.0
    """resident memory above which a process is replaced"""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """settings of the method"""

    @property
    def body_bytes(self) -> int:
        """The largest body."""
        return int(self.body_mb * 1e6)

    def checked(self) -> "ServeConfig":
        """Return this, or raise E_CONFIG for a number that makes no sense."""
        whole = {"queue": 1, "connections": 1, "recycle_after": 1, "workers": 0, "port": 0}
        above = ("body_mb", "megapixels", "slow_s", "limit_s", "memory_mb")
        faults = [f"{name} >= {least}" for name, least in whole.items() if self._of(name) < least]
        faults += [f"{name} > 0" for name in above if not 0 < self._of(name) < math.inf]
        faults += ["port <= 65535"] if self.port > 65535 else []
        if faults:
            name = faults[0].split()[0]
            raise InputError(
                "E_CONFIG",
                f"serve: expected {', '.join(faults)}, got {name} {self._of(name)}; "
                "try: the defaults",
            )
        return self

    def _of(self, name: str) -> int | float:
        return getattr(self, name)
