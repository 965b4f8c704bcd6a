"""From a request to its answer: a place in the queue, the body, a process, the result."""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from featmesh.errors import FeatmeshError, InputError
from featmesh.paths import FULL

from .serve_body import BodyLimits, take, too_large
from .serve_config import ServeConfig
from .serve_metrics import Metrics
from .serve_options import CAMERA, FORMATS, PAGE, PICTURE, bad, read_options
from .serve_pool import Pool, stopped
from .serve_protocol import error_json

# code: HTTP status; every other code is 422, something about this photo
STATUS = {
    "E_REQUEST": 400,
    "E_NOT_FOUND": 404,
    "E_METHOD": 405,
    "E_SLOW": 408,
    "E_BODY": 413,
    "E_IMG_TOO_LARGE": 413,
    "E_IMG_FORMAT": 415,
    "E_BUSY": 429,
    "E_INTERNAL": 500,
    "E_WORKER": 503,
    "E_TIMEOUT": 503,
    "E_STOPPED": 503,
    "E_DISK_FULL": 503,
    "E_IO": 503,
}
# a result page is shown in a frame of the demo page, and by itself by whoever saves it
PAGE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
PAGE_POLICY += "script-src 'unsafe-inline'; sandbox allow-scripts"
SAFE = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


def refusal(error: FeatmeshError, metrics: Metrics) -> Response:
    """Return an error as JSON with its status, counted."""
    metrics.refused(error.code)
    status = STATUS.get(error.code, 422)
    headers = SAFE | ({"retry-after": "1"} if status in (429, 503) else {})
    return JSONResponse(error_json(error), status, headers)


class Desk:
    """Answers ``POST /estimate``.

    Args:
        config: settings.
        pool: what estimates.
        scratch: folder for photos while they are estimated.

    Attributes:
        under_way: requests that have a place.
    """

    def __init__(self, config: ServeConfig, pool: Pool, scratch: Path) -> None:
        self.config, self.pool, self.scratch = config, pool, scratch
        self.metrics = Metrics()
        self.under_way = 0

    @property
    def models(self) -> list[str]:
        """Names of the models a client may choose from."""
        return [model["name"] for model in self.pool.card["models"]]

    async def answer(self, request: Request) -> Response:
        """Return the result of a request, or why there is none."""
        try:
            with self._place(request), self._folder() as folder:
                return await self._estimated(request, folder)
        except FeatmeshError as error:
            return refusal(error, self.metrics)
        except OSError as error:  # of the disk: those of the network end in a disconnect
            return refusal(_no_room(error), self.metrics)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except asyncio.CancelledError:  # the time to end in peace is over
            return refusal(stopped(), self.metrics)

    async def _estimated(self, request: Request, folder: Path) -> Response:
        """Take in the request, have it estimated, and return the result."""
        taken = await take(request, folder, BodyLimits(self.config.body_bytes, self.config.slow_s))
        options = read_options({**request.query_params, **taken.fields}, self.models)
        if options.camera is not None:
            (folder / CAMERA).write_text(options.camera, "utf-8")
        begun = time.monotonic()
        document = await self._result(request, options.record(str(folder), taken.name))
        self.metrics.estimated(document["objects"][0]["status"], time.monotonic() - begun)
        if options.format == "json":
            content = json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
        else:
            path = folder / {"html": PAGE, "png": PICTURE}[options.format]
            content = await run_in_threadpool(path.read_bytes)
        policy = {"content-security-policy": PAGE_POLICY} if options.format == "html" else {}
        return Response(content, 200, SAFE | policy, FORMATS[options.format])

    async def _result(self, request: Request, record: dict[str, Any]) -> dict[str, Any]:
        """Return the document of a record; where the client goes before it is begun, drop it."""
        result = asyncio.wrap_future(self.pool.submit(record))
        gone = asyncio.ensure_future(_gone(request))
        both: set[asyncio.Future[Any]] = {result, gone}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            told = result.result()
        finally:
            gone.cancel()
            result.cancel()
        if told.get("status") == "bad_input":
            text = told["message"].removeprefix(f"{told['code']}: ")
            raise InputError(told["code"], text)
        return told["document"]

    @contextmanager
    def _place(self, request: Request) -> Iterator[None]:
        """Hold a place in the queue.

        Raises:
            InputError: E_BODY for a body that says it is too large, E_BUSY.
        """
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > self.config.body_bytes:
            raise too_large(self.config.body_bytes)
        if self.under_way >= self.config.queue:
            got = f"{self.under_way} under way"
            raise bad("E_BUSY", "a place in the queue", got, "again in a moment")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Return a folder of this request's own."""
        with tempfile.TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def _no_room(error: OSError) -> FeatmeshError:
    """Return the error of a photo that could not be put down; it names no folder."""
    full = error.errno in FULL
    text = f"serve: expected room for the photo, got {error.strerror}; try: again later"
    return FeatmeshError("E_DISK_FULL" if full else "E_IO", text)


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
