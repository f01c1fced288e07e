"""Parser of request paths, and the check of methods."""

from __future__ import annotations

from typing import NamedTuple

from serve.gateway.messages import RequestError

_MODEL, _VERSION = "{model}", "{version}"


class ParsedPath(NamedTuple):
    """A path as its pattern (`decide/{model}`), and the names in it; "" where the path has none."""

    pattern: str
    model: str
    version: str


def parse_path(path: str) -> ParsedPath:
    """Split a path. The server has decoded it already, so an encoded slash is a slash here.

    Raises:
        RequestError: the path is ambiguous: an empty part or no leading slash (400).
    """
    if "//" in path or not path.startswith("/"):
        message = f"path {path[:100]!r} is not plain; expected it to begin with / and to have no empty part"
        raise RequestError(message, 400, "malformed", "path")
    words = path.split("/")[1:]
    model = version = ""
    at = 1 if path.startswith(("/decide/", "/outcome/")) else 2 if path.startswith("/v2/models/") else 0
    if at:
        model, words[at] = words[at], _MODEL
        if len(words) > 4 and words[3] == "versions":
            version, words[4] = words[4], _VERSION
    return ParsedPath("/".join(words), model, version)


def check_method(method: str, right: str) -> None:
    """Refuse every method but `right`, and HEAD where `right` is GET.

    Raises:
        RequestError: another method (405); `allowed` goes into the header Allow.
    """
    if method == right or (method == "HEAD" and right == "GET"):
        return
    allowed = "GET, HEAD" if right == "GET" else right
    raise RequestError(
        f"{method[:20]!r} is not possible here; expected {allowed}", 405, "method", "method", allowed=allowed
    )


def nothing_at(path: str) -> RequestError:
    """The error for a path without an endpoint (404)."""
    message = f"there is nothing at {path[:100]!r}; POST /decide/{_MODEL} gives a decision"
    return RequestError(message, 404, "unknown", "path")
