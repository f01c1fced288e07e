"""The table of bad input at the inference entrance: what is sent, and what uvicorn and HAProxy before it answer."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from itertools import product
from typing import Any

from serve.gateway.body import BODY_MOST
from tests.support.gateway_servers import FEATURES, GOOD, raw_request

ROUTER, UVICORN, HAPROXY = "router", "uvicorn", "haproxy"
TEXT = json.dumps(GOOD).encode()
INFER = "/v2/models/loan/infer"


@dataclass(frozen=True)
class Case:
    """What is sent and what comes back: by uvicorn alone, and through HAProxy.

    Status 0 is a connection closed without a reply. `field` and `words` are looked for where the router answers.
    """

    number: int
    name: str
    content: bytes
    field: str | None
    words: tuple[str, ...]
    expected: dict[str, tuple[int, str]]

    @property
    def method(self) -> str:
        return self.content.split(b" ")[0].decode()


def case(
    number: int,
    name: str,
    status: int,
    field: str | None = None,
    *words: str,
    by: str = ROUTER,
    haproxy: tuple[int, str] | None = None,
    content: bytes | None = None,
    **request: Any,
) -> Case:
    """A case; `request` as for `raw_request`, a good one by default."""
    sent = raw_request(**{"body": TEXT} | request) if content is None else content
    answers = {UVICORN: (status, by), HAPROXY: haproxy or (status, by)}
    return Case(number, name, sent, field, words, answers)


def body(number: int, name: str, text: str | bytes, status: int, field: str, *words: str) -> Case:
    """A body that is sent as JSON to /decide."""
    return case(number, name, status, field, *words, body=text.encode() if isinstance(text, str) else text)


def value(number: int, name: str, feature: str, literal: str, *words: str) -> Case:
    """A feature with another value, as it is written."""
    parts = [f'"{key}":{literal if key == feature else json.dumps(value)}' for key, value in FEATURES.items()]
    return body(number, name, '{"features":{' + ",".join(parts) + '},"key":"c"}', 422, feature, *words)


def infer(
    number: int, name: str, content: dict[str, Any], status: int, field: str, *words: str, version: str = ""
) -> Case:
    """A request of tensors."""
    path = INFER.replace("/infer", f"/versions/{version}/infer") if version else INFER
    return case(number, name, status, field, *words, body=json.dumps(content).encode(), path=path)


def chunks(*parts: bytes) -> dict[str, Any]:
    """A body sent in chunks."""
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return {"body": pieces + b"0\r\n\r\n", "Transfer_Encoding": "chunked", "Content_Length": None}


def tensors(rows: int, **changes: list[Any]) -> dict[str, Any]:
    """So many good rows, some columns changed."""
    kinds = {"income": "FP64", "late": "INT64", "grade": "BYTES"}
    columns = {name: [cell] * rows for name, cell in FEATURES.items()} | changes
    return {
        "inputs": [
            {"name": name, "datatype": kind, "shape": [rows], "data": columns[name]} for name, kind in kinds.items()
        ]
    }


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU"
_MANY = ",".join(f'"{"".join(letters)}":1' for letters in product(_LETTERS, repeat=3))  # 103,823 names
_DEEP = "[" * 10_000 + "]" * 10_000
_TWICE = '{"features":{"income":1,"late":1,"grade":"A"%s},"key":"a:b"%s}'
_BOMB = b" " * 50_000_000
_HEADERS = {f"X-{number}": "1" for number in range(120)}
_ELSEWHERE = "elsewhere.example"
_CODINGS = chunks(TEXT) | {"Transfer_Encoding": "gzip, chunked"}
_PREFLIGHT = {"Origin": f"https://{_ELSEWHERE}", "Access_Control_Request_Method": "POST"}

CASES = [
    body(1, "empty body", b"", 400, "body", "JSON object"),
    body(2, "not JSON", b"income=1", 400, "body", "JSON object"),
    body(3, "truncated JSON", TEXT[:-2], 400, "body", "JSON object"),
    body(4, "trailing garbage", TEXT + b"{}", 400, "body", "after"),
    case(5, "XML", 415, "Content-Type", "text/xml", "application/json", body=b"<a/>", Content_Type="text/xml"),
    case(5, "multipart", 415, "Content-Type", Content_Type="multipart/form-data; boundary=x"),
    case(5, "a form", 415, "Content-Type", Content_Type="application/x-www-form-urlencoded"),
    case(5, "a form of tensors", 415, "Content-Type", path=INFER, Content_Type="application/x-www-form-urlencoded"),
    case(6, "no content type", 415, "Content-Type", "missing", "application/json", Content_Type=None),
    case(7, "one byte too many announced", 413, "body", str(BODY_MOST), Content_Length=str(BODY_MOST + 1)),
    case(7, "a terabyte announced", 413, "body", str(BODY_MOST), Content_Length=str(10**12)),
    case(7, "one byte too many", 413, "body", str(BODY_MOST), body=b" " * (BODY_MOST + 1)),
    case(7, "one byte too many in chunks", 413, "body", str(BODY_MOST), **chunks(b" " * BODY_MOST, b" ")),
    case(8, "longer than announced", 400, "body", by=UVICORN, haproxy=(400, ROUTER), Content_Length="5"),
    case(9, "shorter than announced", 408, "body", "did not arrive", Content_Length="900"),
    case(10, "two lengths", 400, by=UVICORN, haproxy=(400, HAPROXY), **{"Content-length": "5"}),
    case(11, "a wrong chunk size", 400, by=UVICORN, haproxy=(400, HAPROXY), **chunks() | {"body": b"zz\r\n"}),
    case(11, "another coding", 400, "Transfer-Encoding", "chunked", haproxy=(422, HAPROXY), **_CODINGS),
    case(14, "120 headers", 431, "headers", "100", haproxy=(400, HAPROXY), **_HEADERS),
    case(14, "a header of 64 KiB", 431, "headers", "32768", haproxy=(400, HAPROXY), X_Long="x" * 65_536),
    case(15, "an unknown encoding", 415, "Content-Encoding", "br", "gzip or deflate", Content_Encoding="br"),
    case(15, "said to be gzip", 400, "body", "gzip", Content_Encoding="gzip"),
    case(15, "half a gzip", 400, "body", "ends before", body=gzip.compress(TEXT)[:-9], Content_Encoding="gzip"),
    case(15, "more than a gzip", 400, "body", "goes on", body=gzip.compress(TEXT) + b"x", Content_Encoding="gzip"),
    case(16, "gzip bomb", 413, "body", str(BODY_MOST), body=gzip.compress(_BOMB), Content_Encoding="gzip"),
    case(16, "deflate bomb", 413, "body", str(BODY_MOST), body=zlib.compress(_BOMB), Content_Encoding="deflate"),
    body(17, "invalid UTF-8", b'{"features":{},"key":"\xff"}', 400, "body", "UTF-8"),
    body(17, "overlong UTF-8", b'{"features":{},"key":"\xc0\xaf"}', 400, "body", "UTF-8"),
    body(17, "a surrogate as bytes", b'{"features":{},"key":"\xed\xa0\x80"}', 400, "body", "UTF-8"),
    body(17, "half a pair, escaped", '{"features":{},"key":"\\ud800"}', 400, "body", "surrogate"),
    body(18, "byte order mark", b"\xef\xbb\xbf" + TEXT, 400, "body", "BOM"),
    body(19, "10,000 levels", '{"features":' + _DEEP + "}", 400, "body", "depth"),
    body(20, "100,000 names", '{"features":{' + _MANY + "}}", 422, "aaa", "not known"),
    body(21, "a name twice", _TWICE % ("", ',"key":"c"'), 400, "key", "twice"),
    body(21, "a feature twice", _TWICE % (',"income":9', ""), 400, "income", "twice"),
    body(21, "twice, one escaped", _TWICE % (',"inc\\u006fme":9', ""), 400, "income", "twice"),
    body(21, "twice and alike", _TWICE % ("", ',"key":"a:b"'), 400, "key", "twice"),
    infer(21, "a tensor twice", {"inputs": tensors(1)["inputs"] * 2}, 422, "income", "twice"),
    body(22, "NaN", '{"features":{"income":NaN}}', 400, "body", "JSON object"),
    body(22, "Infinity", '{"features":{"income":Infinity}}', 400, "body", "JSON object"),
    body(22, "-Infinity", '{"features":{"income":-Infinity}}', 400, "body", "JSON object"),
    value(23, "beyond floating point", "income", "1e400", "1e400", "1.8e308"),
    value(24, "10,000 digits", "income", "1" * 10_000, "2**53"),
    value(25, "2**53 + 1", "income", str(2**53 + 1), str(2**53 + 1), "2**53"),
    value(25, "2**64 + 1", "income", str(2**64 + 1), str(2**64 + 1), "2**53"),
    value(25, "-(2**53) - 1", "income", str(-(2**53) - 1), str(-(2**53) - 1), "2**53"),
    infer(25, "2**53 + 1 in FP64", tensors(1, income=[2**53 + 1]), 422, "income", str(2**53 + 1)),
    infer(25, "2**64 + 1 in FP64", tensors(1, income=[2**64 + 1]), 422, "inputs[0].data[0]", str(2**64 + 1)),
    value(26, "a number as text", "income", '"12.5"', "12.5", "number"),
    value(27, "true for a number", "income", "true", "True", "number"),
    value(28, "null", "income", "null", "nothing", "number"),
    body(29, "a feature is missing", '{"features":{"income":1,"grade":"A"}}', 422, "late", "missing", "from 0 to 100"),
    body(30, "an unknown feature", '{"features":{"incme":1}}', 422, "incme", "not known", "'income'"),
    value(31, "a list for a number", "income", "[1]", "list", "number"),
    value(31, "an object for a number", "income", '{"a":1}', "dict", "number"),
    body(31, "features are a list", '{"features":[1,2,3]}', 422, "features", "object"),
    body(32, "a list at the top", "[1]", 400, "body", "list", "object"),
    body(32, "a number at the top", "7", 400, "body", "int", "object"),
    value(33, "below the range", "late", "-1", "-1", "from 0 to 100"),
    value(33, "above the range", "late", "101", "101", "from 0 to 100"),
    value(33, "a fraction of a whole number", "late", "1.5", "1.5", "whole number"),
    value(35, "an unseen category", "grade", '"D"', "'D'", "A, B, C"),
    value(36, "a Cyrillic A", "grade", '"\u0410"', "\u0410", "A, B, C"),
    value(36, "a wide A", "grade", '"\uff21"', "\uff21", "A, B, C"),
    value(36, "a blank behind", "grade", '"A "', "'A '", "A, B, C"),
    value(37, "a text of a megabyte", "grade", json.dumps("x" * 1_000_000), "a str", "A, B, C"),
    value(38, "NUL in a text", "grade", '"A\\u0000"', "\\x00", "A, B, C"),
    value(38, "ANSI in a text", "grade", '"\\u001b[31mA"', "\\x1b", "A, B, C"),
    body(38, "NUL in the key", '{"features":{},"key":"a\\u0000b"}', 422, "key", "printable"),
    body(38, "ANSI in the key", '{"features":{},"key":"\\u001b[31m"}', 422, "key", "printable"),
    body(38, "a key that turns round", '{"features":{},"key":"a\\u202eb"}', 422, "key", "printable"),
    value(39, "a template", "grade", '"{{7*7}}"', "{{7*7}}", "A, B, C"),
    value(39, "a look-up", "grade", '"${jndi:ldap://x/a}"', "jndi", "A, B, C"),
    value(39, "SQL", "grade", '"\'; DROP TABLE loan; --"', "DROP", "A, B, C"),
    body(39, "a prototype", '{"features":{"__proto__":{"admin":1}}}', 422, "__proto__", "not known"),
    infer(40, "no rows", tensors(0), 422, "income", "0 rows", "1 to 256"),
    infer(41, "a row too many", tensors(257), 413, "income", "257", "1 to 256"),
    infer(42, "one bad row of three", tensors(3, late=[1, 101, 1]), 422, "late", "row 1", "101"),
    case(43, "an unknown model", 404, "model", "'lone'", "loan", path="/decide/lone"),
    case(43, "no model", 404, "model", "loan", path="/decide/"),
    case(44, "an encoded way up", 404, "path", "nothing at", path="/decide/..%2floan"),
    case(44, "a way up", 404, "path", "nothing at", path="/v2/../decide/loan"),
    case(44, "NUL in the model", 404, "model", "\\x00", path="/decide/loan%00"),
    case(44, "another slash", 404, "model", path="/decide/loan%E2%88%95x"),
    case(44, "bytes that are no text", 404, "model", path="/decide/%ff%fe"),
    case(44, "half an escape", 404, "model", path="/decide/loan%"),
    infer(45, "a release that was", tensors(1), 403, "version", "loan@1", "loan@2", version="loan@1"),
    infer(45, "a release that never was", tensors(1), 404, "version", "'9'", "loan@2", version="9"),
    body(45, "an arm", TEXT[:-1] + b',"arm":"challenger"}', 422, "arm", "not known"),
    case(47, "CR in a header", 400, by=UVICORN, haproxy=(400, HAPROXY), X_Request_Id="a\rX-Model-Role: b"),
    case(47, "NUL in a header", 400, by=UVICORN, haproxy=(400, HAPROXY), X_Request_Id="a\0b"),
    infer(47, "line ends in the id", tensors(1) | {"id": "a\r\nb"}, 422, "id", "printable"),
    case(51, "a token in the query", 401, None, "Authorization", token=None, path="/decide/loan?token=token-of-client"),
    case(59, "GET", 405, "method", "GET", "POST", body=b"", method="GET"),
    case(59, "PUT", 405, "method", "PUT", "POST", method="PUT"),
    case(59, "TRACE", 405, "method", "TRACE", "POST", body=b"", method="TRACE", Content_Length=None),
    case(59, "CONNECT", 400, by=UVICORN, body=b"", path="127.0.0.1:80", method="CONNECT", Content_Length=None),
    case(59, "an unknown method", 400, by=UVICORN, method="BREW"),
    case(60, "a page elsewhere asks first", 405, "method", "POST", body=b"", method="OPTIONS", **_PREFLIGHT),
    case(61, "HTTP/0.9", 400, "Host", haproxy=(400, HAPROXY), content=b"GET /v2\r\n\r\n"),
    case(64, "a name that leads here", 421, "Host", _ELSEWHERE, "127.0.0.1", Host=_ELSEWHERE),
    case(64, "no host", 400, "Host", "missing", Host=None),
    case(65, "an empty part", 400, "path", "//decide/loan", path="//decide/loan"),
    case(65, "an empty part inside", 400, "path", "/decide//loan", path="/decide//loan"),
    case(65, "another host in the path", 421, "Host", path=f"http://{_ELSEWHERE}/decide/loan", Host=_ELSEWHERE),
]
