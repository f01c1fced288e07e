"""Receivers of OpenLineage events (HTTP, file, log) and their configuration, as OpenLineage's own clients read it."""

from __future__ import annotations

import os
import ssl
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import httpx
import structlog
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from lineage.errors import InvalidError, RefusedError, UnavailableError
from lineage.log.disk import Disk
from lineage.openlineage.events import NAMESPACE

#: Status codes caused by the receiver, not by the event: it is retried. Any other 4xx moves the event to dead letters.
LATER = frozenset({401, 403, 404, 405, 407, 408, 425, 429})
_REPLY_CHUNKS = 16
_KEYS = AliasChoices(*(AliasPath("auth", name) for name in ("apiKey", "apikey", "api_key")))
_CA = AliasChoices(*(AliasPath(name, "caCertPath") for name in ("sslContext", "ssl_context")))
log = structlog.get_logger("plimsoll.openlineage")


class _Transport(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["http", "file", "console"]
    url: str = ""
    endpoint: str = "api/v1/lineage"
    timeout: float = Field(5.0, gt=0, le=60)
    verify: Literal[True] = True
    auth: Literal["api_key"] | None = Field(None, validation_alias=AliasPath("auth", "type"))
    key: SecretStr | None = Field(None, validation_alias=_KEYS)
    ca: Path | None = Field(None, validation_alias=_CA)
    log_file_path: Path = Path("openlineage.jsonl")
    append: Literal[True] = True


class _Receiver(BaseSettings):
    """Configuration of the receiver, under the names that OpenLineage's own clients read."""

    model_config = SettingsConfigDict(
        env_prefix="OPENLINEAGE__", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid"
    )
    transport: _Transport | None = None
    url: str | None = Field(None, validation_alias="OPENLINEAGE_URL")
    endpoint: str = Field("api/v1/lineage", validation_alias="OPENLINEAGE_ENDPOINT")
    key: SecretStr | None = Field(None, validation_alias="OPENLINEAGE_API_KEY")
    namespace: str = Field(NAMESPACE, validation_alias="OPENLINEAGE_NAMESPACE")
    disabled: bool = Field(False, validation_alias="OPENLINEAGE_DISABLED")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: Any, **sources: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file goes before the variables, as in OpenLineage's own clients; the home folder is not searched."""
        file = YamlConfigSettingsSource(settings_cls, os.environ.get("OPENLINEAGE_CONFIG") or "openlineage.yml")
        return file, sources["env_settings"]


class HttpTarget:
    """An HTTP receiver. Redirects and proxies are not followed."""

    def __init__(self, url: str, key: str | None = None, timeout: float = 5.0, ca: Path | None = None) -> None:
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL("")
        possible = parts.scheme in ("http", "https") and parts.host and (parts.port or 0) < 65_536
        if not possible or parts.userinfo or parts.query:
            raise InvalidError("the OpenLineage address must be http(s)://host[:port][/path], no more", field="url")
        if key and not (key.isascii() and key.isprintable()):
            raise InvalidError("the OpenLineage key holds what no header can carry", field="api_key")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        verify = ssl.create_default_context(cafile=ca) if ca else True
        self.url = url
        self._client = httpx.Client(headers=headers, timeout=timeout, verify=verify, trust_env=False)

    def send(self, body: bytes) -> None:
        """Deliver one event.

        Raises:
            RefusedError: the receiver rejects the event for good.
            UnavailableError: delivery failed; a retry may succeed.
        """
        try:
            with self._client.stream("POST", self.url, content=body) as reply:
                text = b"".join(islice(reply.iter_bytes(), _REPLY_CHUNKS)).decode(errors="replace")
        except httpx.HTTPError as error:
            raise UnavailableError(f"{self.url}: {type(error).__name__}: {error}") from error
        why = f"{self.url} answered {reply.status_code}: {text[:300]!r}"
        if reply.is_client_error and reply.status_code not in LATER:
            raise RefusedError(why, code="rejected")
        if not reply.is_success:
            raise UnavailableError(why)


class FileTarget:
    """A file that receives one event a line."""

    def __init__(self, path: Path) -> None:
        self.url, self._path = f"file:{path}", path

    def send(self, body: bytes) -> None:
        """Append one event.

        Raises:
            OSError: the disk failed.
        """
        append_line(self._path, body)


class LogTarget:
    """The service's diagnostic log as receiver."""

    url = "console"

    def send(self, body: bytes) -> None:
        """Deliver one event."""
        log.info("openlineage", body=body.decode())


Target = HttpTarget | FileTarget | LogTarget


def read_receiver() -> tuple[Target | None, str]:
    """The configured receiver (None if there is none) and the namespace of the events.

    Raises:
        InvalidError: the configuration is invalid. Values are not shown: there may be a secret among them.
    """
    named = os.environ.get("OPENLINEAGE_CONFIG")
    if named and not Path(named).is_file():
        raise InvalidError(f"OPENLINEAGE_CONFIG is {named!r}, which is no file", field="OPENLINEAGE_CONFIG")
    try:
        read = _Receiver()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidError(f"OpenLineage's configuration: {field}: {first['msg']}", field=field) from None
    except Exception as error:  # the YAML parser raises many types on a broken file
        raise InvalidError(f"OpenLineage's configuration cannot be read: {type(error).__name__}") from error
    transport = read.transport
    if read.disabled or (transport is None and read.url is None):
        return None, read.namespace
    if transport is None:
        transport = _Transport(type="http", url=read.url or "", endpoint=read.endpoint).model_copy(
            update={"key": read.key}
        )
    if transport.type == "http":
        key = transport.key.get_secret_value() if transport.key else None
        url = f"{transport.url.strip().rstrip('/')}/{transport.endpoint.strip('/')}"
        return HttpTarget(url, key, transport.timeout, transport.ca), read.namespace
    return (FileTarget(transport.log_file_path.absolute()) if transport.type == "file" else LogTarget()), read.namespace


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file and flush it; a partial line that a crash left stays a line of its own."""
    disk = Disk()
    descriptor = disk.open(path)
    try:
        size = disk.size(descriptor)
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        disk.append(descriptor, (b"\n" if torn else b"") + line + b"\n")
        disk.flush(descriptor)
    finally:
        disk.close(descriptor)
