"""Check this installation, and say what to do about what is broken."""

import json
import sys
from dataclasses import dataclass

from . import exits


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh doctor``."""

    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Print the checks; the exit code is 1 where featmesh cannot work."""
    from featmesh.apps.doctor import doctor_json, doctor_text, examine, is_sound

    checks = examine()
    text = json.dumps(doctor_json(checks), indent=1) + "\n" if arguments.json else ""
    sys.stdout.write(text or doctor_text(checks))
    return 0 if is_sound(checks) else exits.FAILED
