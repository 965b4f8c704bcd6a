"""The HTTP service: one endpoint that estimates, pages to look at, limits that are on by default.

The body of ``featmesh serve``. Photos are estimated in processes of their own; whatever a client
sends, it gets a result or a JSON error, and the next client gets an answer too (reliability 41).
"""

import logging
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featmesh import __version__
from featmesh.config import config_to_dict
from featmesh.errors import BackendUnavailable, FeatmeshError, InputError

from .serve_config import ServeConfig
from .serve_pool import Pool, PoolLimits

try:
    import python_multipart  # noqa: F401
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.exceptions import HTTPException

    from .serve_answer import SAFE, Desk, refusal
    from .serve_pages import DOCUMENTED, POLICY, demo_page, docs_page
    from .serve_protocol import Lingering, guarded
except (ImportError, RuntimeError, OSError) as error:
    raise BackendUnavailable(
        "E_BACKEND",
        f"serve: expected fastapi, uvicorn and python-multipart, got {error}; "
        "try: pip install 'featmesh[serve]'",
    ) from error

ENGINE = "featmesh.apps.serve_engine:PhotoEngine"
MOST_WORKERS = 4  # by default: each takes half a gigabyte
PEACE_S = 25  # seconds that what is under way has when the server is told to end
Ready = Callable[[str], None]


def serve(
    config: ServeConfig | None = None, ready: Ready | None = None, engine: str = ENGINE
) -> None:
    """Serve until SIGINT or SIGTERM; what is under way is answered before this returns.

    Args:
        config: settings.
        ready: called with the address, once it answers.
        engine: ``package.module:function`` that makes what estimates in each process
            (:class:`featmesh.apps.batch_worker.Engine`).

    Raises:
        InputError: E_CONFIG for settings that make no sense, E_PORT where it cannot listen.
        FeatmeshError: what the model lacks, E_WORKER where no process starts.
    """
    config = (config or ServeConfig()).checked()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # else a line a broken form
    with _listening(config) as listener, _pool(config, engine) as pool:
        scratch = tempfile.TemporaryDirectory(prefix="featmesh-", ignore_cleanup_errors=True)
        with scratch as folder:
            server = make_server(config, make_app(Desk(config, pool, Path(folder))))
            if ready is not None:
                ready(_address(listener))
            server.run(sockets=[listener])


def make_server(config: ServeConfig, app: FastAPI) -> uvicorn.Server:
    """Return the server of an application, not yet running, with the limits of a connection."""
    return uvicorn.Server(
        uvicorn.Config(
            Lingering(app),
            http=guarded(config.slow_s, config.connections),
            ws="none",
            loop="asyncio",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=PEACE_S,
        )
    )


def make_app(desk: Desk) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="featmesh",
        version=__version__,
        description="3D pose, shape and segmentation of an object from one photo.",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    _add_estimate(app, desk)
    _add_pages(app, desk)
    _add_state(app, desk)
    _add_errors(app, desk)
    return app


def _add_estimate(app: FastAPI, desk: Desk) -> None:
    @app.post("/estimate", summary="Estimate the object of a photo", **DOCUMENTED)
    async def estimate(request: Request) -> Response:
        answer = await desk.answer(request)
        desk.metrics.answered("/estimate", answer.status_code)
        return answer


def _add_pages(app: FastAPI, desk: Desk) -> None:
    headers = SAFE | {"content-security-policy": POLICY}

    @app.get("/", include_in_schema=False)
    async def demo() -> Response:
        return HTMLResponse(demo_page(desk.models, desk.config), headers=headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()), headers=headers)


def _add_state(app: FastAPI, desk: Desk) -> None:
    @app.get("/healthz", summary="Whether a process has its model; 200 or 503")
    async def healthz() -> Response:
        ready = desk.pool.ready
        told = {"status": "ok" if ready else "starting", "workers": ready, "featmesh": __version__}
        return JSONResponse(told | {"models": desk.pool.card["models"]}, 200 if ready else 503)

    @app.get("/metrics", summary="Counts and gauges as Prometheus reads them")
    async def metrics() -> Response:
        text = desk.metrics.text(desk.pool, desk.under_way)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def _add_errors(app: FastAPI, desk: Desk) -> None:
    """Answer every error as JSON with a code."""

    async def known(request: Request, error: Any) -> Response:
        return refusal(error, desk.metrics)

    async def http(request: Request, error: Any) -> Response:
        codes = {404: "E_NOT_FOUND", 405: "E_METHOD"}
        there = ", ".join(sorted(route.path for route in app.routes if hasattr(route, "path")))
        got = f"{request.method} {request.url.path!r:.80}"
        text = f"serve: expected {there}, got {got}; try: GET /docs"
        answer = refusal(InputError(codes.get(error.status_code, "E_REQUEST"), text), desk.metrics)
        answer.headers.update(error.headers or {})
        return answer

    async def unforeseen(request: Request, error: Any) -> Response:
        text = f"serve: expected an answer, got {type(error).__name__}; try: report it"
        return refusal(FeatmeshError("E_INTERNAL", text), desk.metrics)

    app.add_exception_handler(FeatmeshError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unforeseen)


def _pool(config: ServeConfig, engine: str) -> Pool:
    count = config.workers or min(os.cpu_count() or 1, MOST_WORKERS)
    memory = config.memory_mb * 1e6
    limits = PoolLimits(count, config.limit_s, config.recycle_after, memory)
    return Pool(engine, config_to_dict(config), limits)


def _listening(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=1024)
    except OSError as error:
        raise InputError(
            "E_PORT",
            f"serve: expected to listen on {config.host}, port {config.port}, got "
            f"{error.strerror or error}; try: another --port, or --port 0",
        ) from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
