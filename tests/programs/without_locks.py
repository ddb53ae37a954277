"""Run a command for which no file can be locked, as on an NFS mount without a lock service, or on some Lustre mounts.

    python without_locks.py ENOLCK COMMAND...

`flock` and the locks of `fcntl` fail with that error in the command and in all that it starts. A filter of the system
calls does it (seccomp), because `strace` cannot tell a lock by `fcntl` from the many other things that it does.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
import sys

# linux/audit.h, asm/unistd.h: the architecture, and the numbers of flock and fcntl on it.
ARCHITECTURES = {"x86_64": (0xC000003E, 73, 72), "aarch64": (0xC00000B7, 32, 25)}
LOCKS = (fcntl.F_SETLK, fcntl.F_SETLKW, fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW)

# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
# Of the data that a filter sees: the call's number, its architecture, the lower half of its second argument.
NUMBER, ARCHITECTURE, SECOND_ARGUMENT = 0, 4, 24


def _filter(number: int) -> list[tuple[int, int, int, int]]:
    """The instructions: code, how many to jump over where it is true and where it is false, and a number."""
    architecture, flock, control = ARCHITECTURES[platform.machine()]
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 0, 4 + len(LOCKS), architecture),
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 3 + len(LOCKS), 0, flock),
        (EQUAL, 0, 1 + len(LOCKS), control),
        (LOAD, 0, 0, SECOND_ARGUMENT),
        *((EQUAL, len(LOCKS) - place, 0, lock) for place, lock in enumerate(LOCKS)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, FAIL | number),
    ]


def forbid_locks(number: int) -> None:
    """Let every lock of this process and of its children fail with this error."""
    filters = b"".join(struct.pack("HBBI", *instruction) for instruction in _filter(number))
    kept = ctypes.create_string_buffer(filters, len(filters))
    program = struct.pack("HxxxxxxP", len(filters) // 8, ctypes.addressof(kept))
    system = ctypes.CDLL(None, use_errno=True)
    system.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]
    for call in ((NO_NEW_PRIVILEGES, 1, None, 0, 0), (SECCOMP, FILTER, program, 0, 0)):
        if system.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "seccomp filters are not permitted here")


if __name__ == "__main__":
    forbid_locks(getattr(errno, sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
