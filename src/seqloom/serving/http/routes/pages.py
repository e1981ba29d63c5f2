"""The explorer and the API documentation: pages that load nothing from other hosts."""

from __future__ import annotations

from functools import cache
from importlib import resources

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def _files() -> dict[str, bytes]:
    """Returns the files of the pages by name, the only ones that a request can get."""
    folder = resources.files("seqloom.serving.http") / "static"
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.is_file() and entry.name.rpartition(".")[2] in _TYPES
    }


@router.get("/")
async def explorer() -> Response:
    """Returns the explorer."""
    return _file("index.html")


@router.get("/docs")
async def docs() -> Response:
    """Returns the documentation of the API, rendered from /openapi.json."""
    return _file("docs.html")


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Returns a file of a page."""
    return _file(name)


def _file(name: str) -> Response:
    data = _files().get(name)
    if data is None:
        raise HTTPException(404, "No such page.")
    headers = {
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(data, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])
