"""The pages of the server: one to try it, one that tells how to call it; they load nothing."""

import html
import json
from collections.abc import Sequence
from typing import Any

from featmesh.present.fill import fill, page_text

from .serve_config import ServeConfig
from .serve_options import FIELDS, FORMATS, TASKS

POLICY = (
    "default-src 'none'; connect-src 'self'; img-src blob: data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ENUMS = {"task": list(TASKS), "format": list(FORMATS), "all": ["false", "true"]}
ANSWERS = {
    "400": "E_REQUEST: no photo, a malformed form, an unknown field",
    "408": "E_SLOW: header or body came too slowly",
    "413": "E_BODY, E_IMG_TOO_LARGE: too many bytes or pixels",
    "415": "E_IMG_FORMAT: not a photo",
    "422": "E_IMG_..., E_BOX, E_CAMERA, E_MODEL, ...: what is wrong with the photo or a field",
    "429": "E_BUSY: more requests under way than the queue holds; again after Retry-After seconds",
    "503": "E_TIMEOUT, E_WORKER, E_STOPPED, E_DISK_FULL: no result this time",
}
FIELD = {
    name: {"type": "string", "description": told} | ({"enum": ENUMS[name]} if name in ENUMS else {})
    for name, told in FIELDS.items()
}
PHOTO = {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP, TIFF, ..."}
ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
}
# what FastAPI is told of POST /estimate, which reads its body by itself
DOCUMENTED: dict[str, Any] = {
    "description": "The photo is the body itself, or the file 'photo' of a multipart form. Fields "
    "stand in the query or in the form.",
    "responses": {
        "200": {
            "description": "result.json (schema 1), or what format asks for",
            "content": {kind: {} for kind in FORMATS.values()},
        },
        **{
            status: {"description": told, "content": {"application/json": {"schema": ERROR}}}
            for status, told in ANSWERS.items()
        },
    },
    "openapi_extra": {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in FIELD.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["photo"],
                        "properties": {"photo": PHOTO, **FIELD},
                    }
                },
                "image/*": {"schema": PHOTO},
            },
        },
    },
}


def demo_page(models: Sequence[str], config: ServeConfig) -> str:
    """Return the page on which a photo is dropped, and its result shown."""
    several = ["<option value=''>the best of all</option>"] if len(models) > 1 else []
    named = [f"<option>{html.escape(name)}</option>" for name in models]
    limits = {"bytes": config.body_bytes, "seconds": config.limit_s}
    values = {
        "models": "".join(several + named),
        "limits": json.dumps(limits),
        "megabytes": f"{config.body_mb:g}",
    }
    return fill(page_text("serve_demo.html", __package__), values)


def docs_page(schema: dict[str, Any]) -> str:
    """Return the page about the endpoints of an OpenAPI document."""
    told = [
        _endpoint(method, path, about)
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
    ]
    values = {"version": html.escape(schema["info"]["version"]), "endpoints": "".join(told)}
    return fill(page_text("serve_docs.html", __package__), values)


def _endpoint(method: str, path: str, about: dict[str, Any]) -> str:
    body = about.get("requestBody", {}).get("content", {})
    fields = [(p["name"], p["schema"]["description"]) for p in about.get("parameters", [])]
    answers = [(status, answer["description"]) for status, answer in about["responses"].items()]
    return "".join(
        [
            f"<section><h2><b>{method.upper()}</b> {html.escape(path)}</h2>",
            f"<p>{html.escape(about['summary'])}</p>",
            f"<p>{html.escape(about.get('description', ''))}</p>",
            _rows("Body", [(kind, PHOTO["description"]) for kind in body]),
            _rows("Fields, all optional", fields),
            _rows("Answers", answers),
            "</section>",
        ]
    )


def _rows(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """Return a titled table; nothing where it has no rows."""
    if not rows:
        return ""
    cells = "".join(
        f"<tr><th scope='row'><code>{html.escape(name)}</code></th>"
        f"<td>{html.escape(told)}</td></tr>"
        for name, told in rows
    )
    return f"<h3>{html.escape(title)}</h3><table>{cells}</table>"
