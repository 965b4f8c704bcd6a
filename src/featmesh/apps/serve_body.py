"""Taking in a request's body: never more than allowed, never for ever, never in memory.

The photo goes into a folder of its own under a name of ours; what a client calls it is only shown.
"""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from featmesh.errors import InputError

from .serve_options import FIELDS, PHOTO, bad

SLOWEST = 64_000  # bytes a second: what is sent faster has all the time it needs
FIELD_BYTES = 20_000
NAME = "photo"  # of the form's field
RAW = ("image/", "application/octet-stream")
HINT = "POST the file itself as image/jpeg, or a multipart form with a file named photo"


@dataclass(frozen=True)
class Taken:
    """A body that was taken in: its photo lies in the request's folder.

    Attributes:
        name: what the client calls the photo.
        fields: of the form.
    """

    name: str
    fields: dict[str, str]


@dataclass(frozen=True)
class BodyLimits:
    """How large a body may be, and how slow; see ``ServeConfig``."""

    bytes: int
    slow_s: float


async def take(request: Request, folder: Path, limits: BodyLimits) -> Taken:
    """Write the photo of a request, raw or in a multipart form, to ``folder/photo``.

    Raises:
        InputError: E_BODY, E_SLOW, E_REQUEST.
        ClientDisconnect: the client is gone.
    """
    kind = request.headers.get("content-type", "").lower()
    whole = chunks(request, limits)
    if kind.startswith("multipart/form-data"):
        return await _of_form(request, whole, folder)
    if kind and not kind.startswith(RAW):
        got = f"content-type {kind!r:.60}"
        raise bad("E_REQUEST", "a photo or a multipart form", got, HINT)
    path, size = folder / PHOTO, 0
    with path.open("wb") as file:
        async for chunk in whole:
            size += file.write(chunk)
    if not size:
        raise bad("E_REQUEST", "a photo", "an empty body", HINT)
    return Taken(NAME, {})


async def chunks(request: Request, limits: BodyLimits) -> AsyncGenerator[bytes, None]:
    """Yield the body, or raise E_BODY once it is too large, E_SLOW once it is too slow."""
    size, begun = 0, time.monotonic()
    more = True
    while more:
        patience = begun + limits.slow_s + size / SLOWEST - time.monotonic()
        try:
            async with asyncio.timeout(max(min(patience, limits.slow_s), 0.0)):
                message = await request.receive()
        except TimeoutError:
            raise slow("body", limits.slow_s) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size, more = size + len(chunk), message.get("more_body", False)
        if size > limits.bytes:
            raise too_large(limits.bytes)
        if chunk:
            yield chunk


async def _of_form(request: Request, whole: AsyncGenerator[bytes, None], folder: Path) -> Taken:
    """Take the photo and the fields of a multipart form."""
    parser = MultiPartParser(
        request.headers, whole, max_files=1, max_fields=len(FIELDS), max_part_size=FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _malformed(error.message) from None
    except (KeyError, ValueError, AssertionError) as error:
        if isinstance(error, InputError):
            raise
        raise _malformed(type(error).__name__) from None
    try:
        return await _sorted(form, folder)
    finally:  # also those of parts that never ended, which the form does not know
        for file in getattr(parser, "_files_to_close_on_error", ()):
            file.close()


async def _sorted(form: FormData, folder: Path) -> Taken:
    """Return the fields of a form, its photo written."""
    files = {name: value for name, value in form.multi_items() if isinstance(value, UploadFile)}
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    photo = files.get(NAME)
    if photo is None:
        got = f"fields {', '.join([*files, *fields])!r:.80}" if files or fields else "an empty form"
        raise bad("E_REQUEST", f"a file in the field {NAME!r}", got, f"curl -F {NAME}=@FILE")
    if len(files) + len(fields) < len(form.multi_items()):
        raise bad("E_REQUEST", "each field once", "one of them twice", "send each once")
    await asyncio.to_thread(_copy, photo, folder / PHOTO)
    return Taken(shown_name(photo.filename), fields)


def _copy(photo: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(photo.file, file)


def shown_name(told: str | None) -> str:
    """Return a file's name as a client told it, fit to be shown: no folders, no controls."""
    name = re.split(r"[\\/]", told or "")[-1]
    kept = "".join(letter for letter in name if letter.isprintable())[:100]
    return kept.strip(". ") or NAME


def too_large(limit: int) -> InputError:
    """Return the error of a body above the limit."""
    expected = f"at most {limit / 1e6:g} MB"
    return bad("E_BODY", expected, "more", "a smaller file, or featmesh serve --body-mb")


def slow(what: str, limit_s: float) -> InputError:
    """Return the error of a client that lets us wait."""
    got = f"nothing for {limit_s:g} s, or less than {SLOWEST // 1000} kB/s after that"
    return bad("E_SLOW", f"the {what} without long pauses", got, "again on a faster line")


def _malformed(told: Any) -> InputError:
    return bad("E_REQUEST", "a multipart form", f"a malformed one ({told})", HINT)
