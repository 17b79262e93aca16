"""Makes a stopped process carry out system calls, as a debugger does (ptrace; x86-64 only).

This is for what only a process itself can do: take a descriptor over, enter a namespace.  The
process was stopped by SIGSTOP and has one thread.  Its registers and the two words of its memory
that are overwritten are restored; a system call that the stop has interrupted continues afterwards,
as the kernel finds it unchanged.
"""

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# linux/ptrace.h
_PEEK_TEXT, _POKE_TEXT, _CONTINUE, _GET_REGISTERS, _SET_REGISTERS = 1, 4, 7, 12, 13
_DETACH, _SEIZE = 17, 0x4206
_WALL: Final = 0x40000000
_REGISTERS: Final = struct.Struct("=27Q")
"""struct user_regs_struct."""
_R10, _R9, _R8, _RAX, _RDX, _RSI, _RDI, _ORIG_RAX, _RIP, _RSP = 7, 8, 9, 10, 12, 13, 14, 15, 16, 19
_ARGUMENTS: Final = (_RDI, _RSI, _RDX, _R10, _R8, _R9)
_CODE: Final = b"\x0f\x05\xcc" + bytes(5)
"""syscall; int3."""
_BELOW_STACK: Final = 4096
"""How far below the stack pointer memory is free: beyond the red zone of the x86-64 ABI."""
_NO_SYSTEM_CALL: Final = 2**64 - 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class InjectionError(RuntimeError):
    """The process cannot be made to carry out a system call; the message says why."""


def stop(pid: int) -> None:
    """Stop a process with SIGSTOP and wait until it has stopped.

    Raises InjectionError if it cannot be made to carry out system calls.
    """
    if platform.machine() != "x86_64":
        raise InjectionError(
            f"processes are moved from outside on x86_64, not {platform.machine()}"
        )
    threads = os.listdir(f"/proc/{pid}/task")
    if len(threads) > 1:
        raise InjectionError(f"process {pid} has {len(threads)} threads; only one can be moved")
    os.kill(pid, signal.SIGSTOP)


def stands_still(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return state in "Tt"


class Injection:
    """Carries out system calls in one process, while `injected` holds it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._registers = self._get_registers()
        self._code_at = self._registers[_RIP]
        self._free_at = (self._registers[_RSP] - _BELOW_STACK) & ~15
        self._words = {
            place: self._peek(place) for place in (self._code_at, self._free_at, self._free_at + 8)
        }

    def call(self, number: int, *arguments: int) -> int:
        """Carry out a system call in the process and return its result.

        Raises InjectionError with the kernel's refusal.
        """
        self._poke(self._code_at, _CODE)
        registers = list(self._registers)
        registers[_RAX], registers[_RIP] = number, self._code_at
        registers[_ORIG_RAX] = _NO_SYSTEM_CALL
        for place, value in zip(_ARGUMENTS, arguments, strict=False):
            registers[place] = value & (2**64 - 1)
        self._set_registers(registers)
        _ptrace(_CONTINUE, self._pid)
        _, status = os.waitpid(self._pid, _WALL)
        if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) != signal.SIGTRAP:
            raise InjectionError(f"process {self._pid} did not come back from a system call")
        (result,) = struct.unpack("=q", struct.pack("=Q", self._get_registers()[_RAX]))
        if -4096 < result < 0:
            raise InjectionError(f"system call {number} in {self._pid}: {os.strerror(-result)}")
        return int(result)

    def put(self, octets: bytes) -> int:
        """Write up to sixteen octets into the process's memory; return their address.

        They stay there until the next call.
        """
        filled = octets.ljust(16, b"\0")
        self._poke(self._free_at, filled[:8])
        self._poke(self._free_at + 8, filled[8:])
        return self._free_at

    def put_back(self) -> None:
        """Restore the memory and the registers."""
        for place, word in self._words.items():
            self._poke(place, word)
        self._set_registers(self._registers)

    def _get_registers(self) -> list[int]:
        found = ctypes.create_string_buffer(_REGISTERS.size)
        _ptrace(_GET_REGISTERS, self._pid, 0, ctypes.addressof(found))
        return list(_REGISTERS.unpack(found.raw))

    def _set_registers(self, registers: list[int]) -> None:
        given = ctypes.create_string_buffer(_REGISTERS.pack(*registers), _REGISTERS.size)
        _ptrace(_SET_REGISTERS, self._pid, 0, ctypes.addressof(given))

    def _peek(self, place: int) -> bytes:
        ctypes.set_errno(0)
        word = _libc.ptrace(_PEEK_TEXT, self._pid, place, 0)
        if word == -1 and (error := ctypes.get_errno()):
            raise InjectionError(f"memory of {self._pid} at {place:#x}: {os.strerror(error)}")
        return struct.pack("=q", word)

    def _poke(self, place: int, word: bytes) -> None:
        _ptrace(_POKE_TEXT, self._pid, place, struct.unpack("=Q", word)[0])


@contextmanager
def injected(pid: int) -> Iterator[Injection]:
    """Give access to a process that `stop` has stopped; it is still stopped afterwards."""
    _ptrace(_SEIZE, pid)
    os.waitpid(pid, _WALL)
    injection = Injection(pid)
    try:
        yield injection
    finally:
        injection.put_back()
        _ptrace(_DETACH, pid)


def go_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def _ptrace(request: int, pid: int, place: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, place, data) == -1:
        error = ctypes.get_errno()
        raise InjectionError(f"process {pid} cannot be traced: {os.strerror(error)}")
