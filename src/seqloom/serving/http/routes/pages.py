"""The explorer, the page of the models and that of the API; they load nothing but what is named here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_PAGES = {"/": "index.html", "/models": "models.html", "/docs": "docs.html"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:{pictures}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def _files() -> dict[str, bytes]:
    """Returns the files of the pages by name, the only ones that a request can get."""
    folder = resources.files("seqloom.serving.http") / "static"
    return {entry.name: entry.read_bytes() for entry in _walk(folder)}


def _walk(folder: Traversable) -> Iterator[Traversable]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.name.rpartition(".")[2] in _TYPES:
            yield entry


def router(pictures: Sequence[str] = ()) -> APIRouter:
    """Returns the routes of the pages. `pictures` are origins from which images may come."""
    routes = APIRouter(include_in_schema=False)
    policy = _POLICY.format(pictures="".join(f" {origin}" for origin in pictures))

    def add(path: str, name: str) -> None:
        async def page() -> Response:
            return _file(name, policy)

        routes.get(path)(page)

    for path, name in _PAGES.items():
        add(path, name)

    @routes.get("/static/{name}")
    async def static(name: str) -> Response:
        return _file(name, policy)

    return routes


def _file(name: str, policy: str) -> Response:
    data = _files().get(name)
    if data is None:
        raise HTTPException(404, "No such page.")
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(data, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])
