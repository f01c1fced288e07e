"""Where homes and backups of released versions lie, and of which versions there are some."""

from __future__ import annotations

from pathlib import Path

PLACE = Path(__file__).parent.parent / "earlier"
VERSIONS = sorted(path.name.removesuffix(".tar.xz") for path in PLACE.glob("*.tar.xz"))
