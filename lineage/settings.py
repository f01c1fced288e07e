"""Where things run: folders, hosts and ports. What is acceptable is policy and never stands here."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from lineage.errors import UnavailableError


def _short_folder(home: Path) -> Path:
    # One for each home, so that two platforms on one host never share Ray's sockets.
    mark = hashlib.sha256(str(home.expanduser().resolve()).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"plimsoll-{os.getuid()}-{mark}"


def _beside(home: Path) -> Path:
    whole = home.expanduser().resolve()
    return whole.with_name(f"{whole.name}-witness")


class Settings(BaseSettings):
    """Read from `PLIMSOLL_*` environment variables; every default is the embedded one-machine set-up."""

    model_config = SettingsConfigDict(env_prefix="PLIMSOLL_", extra="ignore", frozen=True)

    home: Path = Field(Path("var"), description="The one folder that holds all state.")
    host: str = Field("127.0.0.1", description="Address every listener binds to.")
    ledger_port: int = Field(7411, ge=1024, le=65535, description="The ledger service.")
    gateway_port: int = Field(8000, ge=1024, le=65535, description="Predictions: HAProxy in front of the gateway.")
    console_port: int = Field(8050, ge=1024, le=65535, description="The operations console.")
    witness_port: int = Field(7412, ge=1024, le=65535, description="The witness of the ledger.")
    witness_url: str = Field("", description="A witness elsewhere; when empty, `plimsoll up` starts one on this host.")
    witness_home: Path = Field(
        default_factory=lambda data: _beside(data["home"]),
        description="What the witness saw: a second place, so that who restores `home` does not restore it too.",
    )
    ray_port: int = Field(6399, ge=1024, le=65535, description="Ray's GCS.")
    ray_dashboard_port: int = Field(8265, ge=1024, le=65535, description="Ray's dashboard and job API.")
    ray_cpus: int = Field(2, ge=1, description="CPUs Ray may use for training.")
    gateway_replicas: int = Field(2, ge=1, le=64, description="Gateway replicas.")
    gateway_inflight: int = Field(32, ge=1, le=4096, description="Requests that one replica works on at a time.")
    model_memory_mib: int = Field(2048, ge=16, description="Memory of one replica for models; the rest load on demand.")
    ray_tmp: Path = Field(
        default_factory=lambda data: _short_folder(data["home"]),
        description="Ray's session folder; Unix sockets lie in it, so its name must be short.",
    )

    @cached_property
    def root(self) -> Path:
        """`home` as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def ledger_url(self) -> str:
        return f"http://{self.host}:{self.ledger_port}"

    @property
    def own_witness_url(self) -> str:
        """Where the witness answers that `plimsoll up` starts."""
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
    def log_folder(self) -> Path:
        return self.root / "ledger" / "log"

    @property
    def log_key(self) -> Path:
        """The key that signs the log's checkpoints; it does not lie where the log lies."""
        return self.root / "keys" / "ledger.key"

    @property
    def cosigned(self) -> Path:
        """The newest checkpoint that the witness saw."""
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
        """The bearer token of a machine account, made when the ledger first starts.

        Raises:
            UnavailableError: the token file is missing.
        """
        path = self.secrets / f"{account}.token"
        try:
            return path.read_text().strip()
        except OSError as error:
            raise UnavailableError(
                f"cannot read the token of machine account {account!r} at {path}: {error.strerror}. "
                "Run `plimsoll up` once, or set PLIMSOLL_HOME to the folder it made.",
                field="home",
            ) from error
