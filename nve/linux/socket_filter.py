"""A packet socket that takes only frames with a certain octet: the kernel drops others, and nobody
is woken for them (classic BPF)."""

import ctypes
import socket
import struct

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_LOAD_OCTET, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x15, 0x06  # linux/bpf_common.h
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog
_ALL = 0xFFFFFFFF


def take_only(packet_socket: socket.socket, place: int, octet: int) -> None:
    """Take frames that have this octet at that place, counted from their first.

    What has come before is in the socket all the same.
    """
    instructions = (
        (_LOAD_OCTET, 0, 0, place),
        (_JUMP_IF_EQUAL, 0, 1, octet),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, 0),
    )
    program = ctypes.create_string_buffer(
        b"".join(_INSTRUCTION.pack(*each) for each in instructions)
    )
    asked = _PROGRAM.pack(len(instructions), ctypes.addressof(program))
    packet_socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, asked)
