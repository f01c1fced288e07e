"""Drops privileges before parsing untrusted bytes: memory, CPU, files, network, child processes.

A parser taken over by hostile bytes can then only compute until its limit and return a wrong answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from contextlib import suppress
from pathlib import Path

_MIB = 1024 * 1024
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 1, 38, 22, 2
_LOAD, _EQUAL, _ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of a seccomp filter
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_X32 = 0x40000000  # a second set of numbers on x86_64

# System calls that reach other processes, open files by name, create processes or enlarge the kernel's attack surface.
# New descriptors are impossible with RLIMIT_NOFILE; these calls take a path, an id or nothing.
_CALLS_X86_64 = (
    *(2, 29, 30, 41, 53, 56, 57, 58, 59, 62, 64, 68, 76, 82, 83, 84, 85, 86, 87, 88, 90, 92, 94, 101, 129, 133, 141),
    *(155, 161, 165, 166, 188, 189, 197, 198, 200, 234, 248, 249, 250, 257, 258, 259, 260, 263, 264, 265, 266, 268),
    *(272, 280, 297, 298, 302, 308, 310, 311, 316, 319, 321, 322, 323, 424, 425, 426, 434, 435, 437, 438, 452),
)
_CALLS_AARCH64 = (
    *(5, 6, 14, 15, 33, 34, 35, 36, 37, 38, 39, 40, 41, 45, 51, 53, 54, 56, 88, 97, 117, 129, 130, 131, 138, 140, 186),
    *(190, 194, 196, 198, 199, 217, 218, 219, 220, 221, 240, 241, 261, 268, 270, 271, 276, 279, 280, 281, 282),
    *(424, 425, 426, 434, 435, 437, 438, 452),
)
_MACHINES = {"x86_64": (0xC000003E, _CALLS_X86_64), "aarch64": (0xC00000B7, _CALLS_AARCH64)}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def leave_network() -> bool:
    """Move this process, which must have one thread, into an empty network namespace; False where not allowed."""
    library = ctypes.CDLL(None)
    return any(library.unshare(flags) == 0 for flags in (_NEWNET, _NEWUSER | _NEWNET))


def confine(memory: int, seconds: float, wall_seconds: float) -> bool:
    """Give up, irrevocably, new files, new and other processes, and memory and time beyond the limits.

    Args:
        memory: bytes that may be allocated beyond those in use now.
        seconds: CPU time.
        wall_seconds: wall-clock time in seconds.

    Returns:
        Whether the kernel filters system calls too. The limits hold either way.
    """
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
    _limit(resource.RLIMIT_AS, in_use + memory)
    _limit(resource.RLIMIT_CPU, max(1, round(seconds)))
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    filtered = _filter_calls()
    _limit(resource.RLIMIT_NOFILE, _open_files())
    return filtered


def memory_for(size: int) -> int:
    """Memory limit in bytes for parsing `size` bytes: an XGBoost model needs about six times its JSON form."""
    return 256 * _MIB + 16 * size


def _limit(what: int, value: int) -> None:
    with suppress(ValueError):  # it is lower already
        resource.setrlimit(what, (value, value))


def _open_files() -> int:
    """The lowest unused descriptor: as RLIMIT_NOFILE it allows no further file."""
    number = 3
    while True:
        try:
            os.fstat(number)
        except OSError:
            return number
        number += 1


def _filter_calls() -> bool:
    if platform.machine() not in _MACHINES:
        return False
    machine, calls = _MACHINES[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 0)]
    steps += [(_ABOVE, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for call in calls:
        steps += [(_EQUAL, 0, 1, call), (_RETURN, 0, 0, _REFUSE)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    program = _Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    library = ctypes.CDLL(None)
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(library.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)
