"""What a child process gives up before it touches an artifact: memory, time, files, network, privileges.

All of it is asked of the Linux kernel by the process itself and cannot be taken back: resource limits, no new
privileges, an empty network namespace, a Landlock domain in which only named paths can be read and only the
scratch folder written. What the kernel does not offer is left out and reported, so that evidence can say so.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

_MIB: Final = 1024 * 1024
_OPEN_FILES_MAX: Final = 256
#: A build must not slow the live path beside it.
_NICENESS: Final = 10
_CLONE_NEWNET: Final = 0x4000_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
# Landlock's system calls have these numbers on every architecture (uapi/linux/landlock.h).
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_RULE_PATH_BENEATH: Final = 1
_ASK_VERSION: Final = 1
_READ: Final = 0b1101  # execute, read file, read directory
_ALL_OF_VERSION_1: Final = (1 << 13) - 1
_FILE_RIGHTS: Final = 0b111  # execute, write, read: all that a rule on a plain file may name
_O_PATH: Final = 0o10000000

_SYSTEM_READS: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
)


class Limits(msgspec.Struct, frozen=True):
    """The bounds of one child: wall-clock and CPU seconds, MiB of memory, of one written file, of its result."""

    seconds_max: float = 300.0
    cpu_seconds_max: int = 300
    memory_mib_max: int = 4096
    file_mib_max: int = 256
    result_mib_max: int = 64


def confine(limits: Limits, scratch: Path, reads: Iterable[Path]) -> dict[str, str]:
    """Give up all that is not needed; return what holds, such as {"network": "none", "files": "scratch only"}.

    `scratch` alone may be written; `reads`, the interpreter and the system's libraries may be read. Linux only.
    """
    os.nice(_NICENESS)
    _limit(limits)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    held = {"network": "none" if _without_network(libc) else "open: the kernel refuses a network namespace"}
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    held["privileges"] = "no new ones"
    held["files"] = "scratch only" if _landlock(libc, scratch, reads) else "open: the kernel has no Landlock"
    return held


def _limit(limits: Limits) -> None:
    memory = limits.memory_mib_max * _MIB
    bounds = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_AS: memory * 4,
        resource.RLIMIT_CPU: limits.cpu_seconds_max,
        resource.RLIMIT_FSIZE: limits.file_mib_max * _MIB,
        resource.RLIMIT_NOFILE: _OPEN_FILES_MAX,
        resource.RLIMIT_CORE: 0,
    }
    for kind, bound in bounds.items():
        _, hard = resource.getrlimit(kind)
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        # The CPU limit warns by SIGXCPU, which names the cause, a second before it kills.
        ceiling = value + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else value
        resource.setrlimit(kind, (value, ceiling))


def _without_network(libc: ctypes.CDLL) -> bool:
    """Move into a network namespace that holds nothing; a plain user needs a user namespace of his own for it."""
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def _landlock(libc: ctypes.CDLL, scratch: Path, reads: Iterable[Path]) -> bool:
    if libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION) < 1:
        return False
    handled = struct.pack("Q", _ALL_OF_VERSION_1)
    ruleset = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return False
    interpreter = {sys.prefix, sys.base_prefix, sys.exec_prefix, *(entry for entry in sys.path if entry)}
    for readable in {*_SYSTEM_READS, *interpreter, *(str(path) for path in reads)}:
        _allow(libc, ruleset, readable, _READ)
    _allow(libc, ruleset, str(scratch), _ALL_OF_VERSION_1)
    _allow(libc, ruleset, "/dev/null", _FILE_RIGHTS)
    restricted: bool = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return restricted


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Add one path; one that does not exist needs no rule."""
    try:
        descriptor = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    allowed = rights if Path(path).is_dir() else rights & _FILE_RIGHTS
    libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", allowed, descriptor), 0)
    os.close(descriptor)
