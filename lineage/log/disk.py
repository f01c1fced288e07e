"""Port for the log's disk operations, so that a test can simulate a loss of power between any two of them."""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """The operating system's files. Every method raises OSError as the system call does."""

    def open(self, path: Path) -> int:
        """Open for appending, made when missing; returns the descriptor."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def open_fixed(self, path: Path) -> int:
        """Open for writing at positions, made when missing; returns the descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def size(self, descriptor: int) -> int:
        """Bytes in the file."""
        return os.fstat(descriptor).st_size

    def append(self, descriptor: int, data: bytes) -> None:
        """Write all of it at the end."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of it at a position."""
        written = os.pwrite(descriptor, data, offset)
        if written != len(data):
            raise OSError(5, "short write")

    def flush(self, descriptor: int) -> None:
        """Return once the file's bytes are on the disk itself."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to its first `size` bytes."""
        os.ftruncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, replacing the file of the new name."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Remove a file if it exists."""
        path.unlink(missing_ok=True)

    def flush_folder(self, folder: Path) -> None:
        """Return once the names in the folder are on the disk itself."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close the descriptor."""
        os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Replace a file atomically and durably: after a crash it is the old one or the new one."""
        draft = path.with_name(path.name + ".new")
        descriptor = self.open_fixed(draft)
        try:
            self.truncate(descriptor, 0)  # an earlier draft that a crash left
            self.write_at(descriptor, data, 0)
            self.flush(descriptor)
        finally:
            self.close(descriptor)
        self.rename(draft, path)
        self.flush_folder(path.parent)
