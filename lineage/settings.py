"""Settings: folders, hosts and ports. Limits on models are policy (`lineage.policy`), not settings."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from lineage.errors import RefusedError, UnavailableError

#: Longest name of Ray's session folder, in bytes. Linux limits the path of a Unix socket to 107, and HAProxy's admin
#: socket takes 80 of them: `/hap/<node id, 56>/a.sock.<pid, up to 7>.tmp`.
RAY_TMP_MAX_BYTES = 27


def _session_folder(home: Path) -> Path:
    """A folder for this user and home, in the first temporary folder whose name is short enough for sockets."""
    mark = hashlib.sha256(f"{os.getuid()} {home.expanduser().resolve()}".encode()).hexdigest()[:8]
    folders = [Path(tempfile.gettempdir()) / f"plimsoll-{mark}"]
    folders += [Path(short) / f"plimsoll-{mark}" for short in ("/tmp", "/var/tmp")]  # noqa: S108  where TMPDIR is long
    usable = (one for one in folders if len(os.fsencode(one)) <= RAY_TMP_MAX_BYTES and os.access(one.parent, os.W_OK))
    return next(usable, folders[0])


def _witness_folder(home: Path) -> Path:
    whole = home.expanduser().resolve()
    return whole.with_name(f"{whole.name}-witness")


def _port(default: int, description: str) -> Any:
    return Field(
        default_factory=lambda data: default + data["port_offset"],
        ge=1024,
        le=65535,
        description=f"{description} Default {default} plus port_offset.",
    )


def _first_ray_port(data: dict[str, Any]) -> int:
    # From 20000 up to where Linux begins its ephemeral ports, 32768.
    return int(20_000 + 256 * (data["ray_port"] % 47))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # another name may lead anywhere
        return host.lower() == "localhost"


class Settings(BaseSettings):
    """Read from `PLIMSOLL_*` environment variables; every default is the embedded one-machine set-up."""

    model_config = SettingsConfigDict(env_prefix="PLIMSOLL_", extra="ignore", frozen=True)

    home: Path = Field(Path("var"), description="The one folder that holds all state.")
    host: str = Field("127.0.0.1", description="Address that every listener binds to.")
    allowed_hosts: str = Field(
        "", description="Further names, with commas, under which ledger, console and gateway may be asked (Host)."
    )
    unsafe_plain_http: bool = Field(
        False,
        description="Unsafe: listen beyond this machine without TLS. On record, and shown while it is set.",
    )
    port_offset: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Added to every port that is not set itself: one setting for a second platform on this host.",
    )
    ledger_port: int = _port(7411, "The ledger service.")
    gateway_port: int = _port(8000, "Predictions: HAProxy in front of the gateway.")
    console_port: int = _port(8050, "The operations console.")
    witness_port: int = _port(7412, "The witness of the ledger.")
    witness_url: str = Field("", description="A witness elsewhere; when empty, `plimsoll up` starts one on this host.")
    witness_home: Path = Field(
        default_factory=lambda data: _witness_folder(data["home"]),
        description="State of the witness, outside `home` so that restoring `home` does not restore it too.",
    )
    witness_seconds: float = Field(
        2.0, gt=0, le=60, description="Longest wait of a control fact for the witness's cosignature."
    )
    witness_required: bool = Field(
        False, description="Refuse to open the log while the witness does not answer; else that is recorded as a fact."
    )
    ray_port: int = _port(6399, "Ray's GCS.")
    ray_dashboard_port: int = _port(8265, "Ray's dashboard and job API.")
    ray_ports: int = Field(
        default_factory=_first_ray_port,
        ge=1024,
        le=65536 - 256,
        description="First of 256 ports for Ray's other listeners and HAProxy's. Default: a block chosen by ray_port.",
    )
    ray_cpus: int = Field(2, ge=1, description="CPUs that Ray may use for training.")
    ledger_spare: bool = Field(
        True,
        description="Keep a second ledger process waiting (70 MiB), so that one that dies is replaced within a second.",
    )
    gateway_replicas: int = Field(2, ge=1, le=64, description="Gateway replicas.")
    gateway_inflight: int = Field(32, ge=1, le=4096, description="Requests that one replica works on at a time.")
    model_memory_mib: int = Field(2048, ge=16, description="Memory of one replica for models; the rest load on demand.")
    ray_tmp: Path = Field(
        default_factory=lambda data: _session_folder(data["home"]),
        description="Private folder of Ray and HAProxy. It holds Unix sockets: its name may have 27 bytes at most.",
    )

    @property
    def unsafe(self) -> dict[str, str]:
        """Protections that these settings bypass, with what that means."""
        if not self.unsafe_plain_http or _is_loopback(self.host):
            return {}
        return {"plain_http": f"tokens and decisions pass in clear text between {self.host} and its callers"}

    def require_safe_host(self) -> None:
        """Check that nothing listens beyond this machine in clear text, unless that is said to be wanted.

        Raises:
            RefusedError: it would.
        """
        if not _is_loopback(self.host) and not self.unsafe_plain_http:
            raise RefusedError(
                f"PLIMSOLL_HOST is {self.host}: ledger, gateway and console would listen beyond this machine without "
                "TLS, and tokens could be read on the way. Keep 127.0.0.1 and put a proxy with TLS on this machine in "
                "front of them (PLIMSOLL_ALLOWED_HOSTS takes its names), or set PLIMSOLL_UNSAFE_PLAIN_HTTP=1, which is "
                "on record",
                code="plain_http",
                field="host",
            )

    def environment(self) -> dict[str, str]:
        """The `PLIMSOLL_*` variables that give another process these settings, whatever folder it runs in."""
        values = self.model_dump()
        paths = {name: value.expanduser().resolve() for name, value in values.items() if isinstance(value, Path)}
        return {f"PLIMSOLL_{name.upper()}": str(value) for name, value in (values | paths).items()}

    @cached_property
    def root(self) -> Path:
        """`home` as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def host_names(self) -> tuple[str, ...]:
        """Names and addresses, in lower case, that a request's Host may have."""
        more = (name.strip() for name in self.allowed_hosts.split(","))
        names = ("127.0.0.1", "localhost", "[::1]", self.host, *more)
        return tuple(dict.fromkeys(name.lower() for name in names if name))

    @property
    def ledger_url(self) -> str:
        return f"http://{self.host}:{self.ledger_port}"

    @property
    def own_witness_url(self) -> str:
        """URL of the witness that `plimsoll up` starts."""
        return f"http://{self.host}:{self.witness_port}"

    @property
    def gateway_url(self) -> str:
        return f"http://{self.host}:{self.gateway_port}"

    @property
    def console_url(self) -> str:
        return f"http://{self.host}:{self.console_port}"

    @property
    def ray_dashboard_url(self) -> str:
        return f"http://{self.host}:{self.ray_dashboard_port}"

    @property
    def ray_sessions(self) -> Path:
        """Ray's own folder. Ray gives it mode 0777, so it lies in one that only this account may enter."""
        return self.ray_tmp.expanduser().resolve() / "ray"

    @property
    def log_folder(self) -> Path:
        return self.root / "ledger" / "log"

    @property
    def log_key(self) -> Path:
        """The key that signs the log's checkpoints, outside the log's folder."""
        return self.root / "keys" / "ledger.key"

    @property
    def cosigned(self) -> Path:
        """The newest checkpoint that the witness cosigned."""
        return self.log_folder / "cosigned"

    @property
    def witness_pin(self) -> Path:
        """The witness's public key, pinned on first contact."""
        return self.root / "ledger" / "witness.vkey"

    @property
    def vault(self) -> Path:
        """Keys of data subjects."""
        return self.root / "ledger" / "subjects.db"

    @property
    def lineage_store(self) -> Path:
        return self.root / "ledger" / "lineage.duckdb"

    @property
    def accounts_file(self) -> Path:
        return self.root / "ledger" / "accounts.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def artefacts(self) -> Path:
        return self.root / "artefacts"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def decisions(self) -> Path:
        return self.root / "decisions"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Process ids and start times of what `plimsoll up` started."""
        return self.root / "run"

    def token(self, account: str) -> str:
        """The bearer token of a machine account; the first start of the ledger makes it.

        Raises:
            UnavailableError: the token file is missing.
        """
        path = self.secrets / f"{account}.token"
        try:
            return path.read_text().strip()
        except OSError as error:
            raise UnavailableError(
                f"cannot read the token of machine account {account!r} at {path}: {error.strerror or error}. "
                "Run `plimsoll up` once, or set PLIMSOLL_HOME to the folder that it made.",
                field="home",
            ) from error
