"""What the server counts, in Prometheus' text format."""

import os
import sys
from collections import Counter
from pathlib import Path

from .serve_pool import Pool

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


def resident_bytes() -> int:
    """Return the resident memory of this process; its peak where the system tells no other."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Metrics:
    """Counts requests and estimates; one thread."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.estimates: Counter[str] = Counter()
        self._seconds: Counter[float] = Counter()
        self._sum, self._count = 0.0, 0

    def answered(self, path: str, status: int) -> None:
        """Count an answer to a known path."""
        self.requests[path, status] += 1

    def refused(self, code: str) -> None:
        """Count a refusal by its error code."""
        self.refusals[code] += 1

    def estimated(self, status: str, seconds: float) -> None:
        """Count an estimate, and the time from the whole request to its result."""
        self.estimates[status] += 1
        self._sum, self._count = self._sum + seconds, self._count + 1
        for bound in BOUNDS:
            self._seconds[bound] += seconds <= bound

    def text(self, pool: Pool, under_way: int) -> str:
        """Return everything as Prometheus reads it."""
        rows = [
            *_family("requests_total", "counter", "answers by path and status"),
            *(
                _line("requests_total", count, path=path, status=str(status))
                for (path, status), count in sorted(self.requests.items())
            ),
            *_family("refusals_total", "counter", "refusals by error code"),
            *(_line("refusals_total", n, code=code) for code, n in sorted(self.refusals.items())),
            *_family("estimates_total", "counter", "estimates by status of the first object"),
            *(
                _line("estimates_total", count, status=status)
                for status, count in sorted(self.estimates.items())
            ),
            *self._histogram(),
            *_family("workers_replaced_total", "counter", "processes replaced by reason"),
            *(_line("workers_replaced_total", n, reason=why) for why, n in pool.replaced.items()),
        ]
        gauges = {
            "requests_under_way": (under_way, "estimates being sent, waiting or worked on"),
            "requests_waiting": (pool.waiting, "estimates that wait for a process"),
            "workers_ready": (pool.ready, "processes that have their model"),
            "workers_resident_bytes": (pool.bytes, "memory of the processes at their last answer"),
            "server_resident_bytes": (resident_bytes(), "memory of the server itself"),
        }
        for name, (value, told) in gauges.items():
            rows += [*_family(name, "gauge", told), _line(name, value)]
        return "\n".join(rows) + "\n"

    def _histogram(self) -> list[str]:
        name = "estimate_seconds"
        counts = [(f"{bound:g}", self._seconds[bound]) for bound in BOUNDS]
        return [
            *_family(name, "histogram", "seconds from the whole request to its result"),
            *(_line(f"{name}_bucket", n, le=le) for le, n in [*counts, ("+Inf", self._count)]),
            _line(f"{name}_sum", round(self._sum, 6)),
            _line(f"{name}_count", self._count),
        ]


def _family(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP featmesh_{name} {told}", f"# TYPE featmesh_{name} {kind}"]


def _line(name: str, value: int | float, **labels: str) -> str:
    told = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"featmesh_{name}{{{told}}} {value}" if told else f"featmesh_{name} {value}"
