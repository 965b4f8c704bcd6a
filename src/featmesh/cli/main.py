"""The command ``featmesh VERB ...``: finds the verb's module, reads its options, tells how it went.

A verb's module has ``Arguments``, a frozen dataclass that tyro reads, and ``run(arguments)``, which
returns the exit code. Modules are imported when called, so that ``--help`` is quick.
"""

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from featmesh import __version__
from featmesh.errors import FeatmeshError

from . import exits

# verb: what it does; its module is featmesh.cli.<verb>, with _ for -
VERBS = {
    "demo": "estimate the poses in the bundled photos",
    "estimate": "estimate the pose, or the shape, of the object in photos",
    "view": "turn the mesh over a photo on a local page, with live render-and-compare",
    "landscape": "draw the energy over azimuth and elevation, with the path of the refinement",
    "annotate": "label photos of your own on a local page; the model proposes each pose",
    "track": "follow one object through a video: a line a frame, an overlay",
    "serve": "estimate photos that come over HTTP, with a page to try it",
    "batch": "estimate many photos: resumable, several processes, part files",
    "train": "train a category model on a views file",
    "evaluate": "measure a model on a views file",
    "learn-shape": "learn a category's shape space from CAD files",
    "label-parts": "name the parts of a model's surface, from annotated photos or a mesh",
    "new-category": "make a model of a category of your own from CAD files",
    "render-views": "render labelled photos of CAD files: training views for any category",
    "shape-space": "show a model's shape space: pictures, GLBs, a table",
    "data": "turn data sets' folders into views files, check labelled photos",
    "export": "take meshes, poses or the network away, in other programs' formats",
    "push": "upload a model folder to the Hugging Face Hub",
    "pull": "fetch a model folder from the Hugging Face Hub, checked before it is used",
    "import-weights": "turn a PyTorch checkpoint into a trunk to train from, running none of it",
    "models": "list the bundled models with what was measured on them",
    "reproduce": "measure again every number of README and docs, on this machine",
    "info": "show what a model is and what was measured on it",
    "doctor": "check this installation",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code (0, 1 failed, 2 usage, 75, 130, 143)."""
    signal.signal(signal.SIGTERM, _terminate)
    raise SystemExit(execute(list(sys.argv[1:] if argv is None else argv)))


def execute(words: list[str]) -> int:
    """Return the exit code of a command line; errors are told in one line on stderr."""
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except exits.UsageError as error:
        return _complain(str(error), exits.USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", exits.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `featmesh info | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    except Exception as error:
        if exits.is_disk_full(error):
            told = f"expected room on the disk, got {error}; try: free some and run this again"
            known = getattr(error, "code", "") == "E_DISK_FULL"
            return _complain(str(error) if known else f"E_DISK_FULL: {told}", exits.DISK_FULL)
        if isinstance(error, FeatmeshError | OSError):
            return _complain(str(error), exits.FAILED)
        raise


def _dispatch(words: list[str]) -> int:
    """Return the exit code of a verb, or of ``--help`` and ``--version``."""
    if not words or words[0] in ("-h", "--help"):
        (sys.stdout if words else sys.stderr).write(overview())
        return 0 if words else exits.USAGE
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"featmesh {__version__}\n")
        return 0
    if words[0] not in VERBS:
        near = difflib.get_close_matches(words[0], VERBS, 1)
        hint = f"perhaps you meant {near[0]}" if near else "featmesh --help"
        raise exits.UsageError(
            f"expected a verb ({', '.join(VERBS)}), got {words[0]!r}; try: {hint}"
        )
    return _call(words[0], words[1:])


def overview() -> str:
    """Return the text of ``featmesh --help``."""
    rows = "".join(f"  {verb:<16}{told}\n" for verb, told in VERBS.items())
    return (
        "usage: featmesh VERB [OPTIONS]\n\n"
        "3D pose and shape of an object from one photo, by render-and-compare of features.\n\n"
        f"verbs:\n{rows}\n"
        "featmesh VERB --help tells a verb's options; featmesh --version the version.\n"
    )


def _call(verb: str, words: list[str]) -> int:
    """Read the verb's options (tyro leaves with code 2 where they are wrong) and run it."""
    import tyro

    module: Any = importlib.import_module(f"featmesh.cli.{verb.replace('-', '_')}")
    arguments = tyro.cli(
        module.Arguments,
        prog=f"featmesh {verb}",
        description=module.__doc__,
        args=words,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return module.run(arguments)


def _complain(message: str, code: int) -> int:
    """Tell what went wrong in one line and return the exit code."""
    sys.stderr.write(f"featmesh: {' '.join(message.split())}\n")
    return code


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(exits.TERMINATED)
