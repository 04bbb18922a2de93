"""Which sockets listen on a port, as the kernel says.

``/proc/net/tcp`` lists every connection of the machine and takes milliseconds of CPU time to write; netlink's
sock_diag(7) can be asked for the listening ones alone and answers in 0.1 ms, which matters because every check asks.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from acode_vllm.workers.machine.sockets import sockets_on

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_LISTEN_ONLY = 1 << 10
_HEADER = struct.Struct("=IHHII")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared only


def listening_inodes(port: int, address: str | None) -> tuple[int, ...]:
    """Inodes of the sockets to which a connection to this port and address (None: any) may go. Any thread."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as link:
            link.settimeout(1.0)
            found = [*_ask(link, socket.AF_INET, port), *_ask(link, socket.AF_INET6, port)]
    except OSError:
        # Not every sandbox has netlink; the table says the same.
        return tuple(s.inode for s in sockets_on(port) if s.listens and (address is None or s.takes(address)))
    reachable = (address, f"::ffff:{address}", *_ANYWHERE)
    return tuple(inode for bound, inode in found if address is None or bound in reachable)


def _ask(link: socket.socket, family: socket.AddressFamily, port: int) -> Iterator[tuple[str, int]]:
    """Address and inode of each TCP socket of a family that listens on the port (``struct inet_diag_req_v2``)."""
    wanted = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _LISTEN_ONLY)
    wanted += struct.pack("!HH", port, 0) + bytes(32) + struct.pack("=I8s", 0, b"\xff" * 8)
    link.send(_HEADER.pack(_HEADER.size + len(wanted), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + wanted)
    while True:
        data = link.recv(65536)
        while data:
            size, kind, *_ = _HEADER.unpack_from(data)
            body = data[_HEADER.size : size]
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "sock_diag refused")
            # struct inet_diag_msg: ports at 4, source address at 8, inode at 68.
            if struct.unpack_from("!H", body, 4)[0] == port:
                packed = body[8:12] if family == socket.AF_INET else body[8:24]
                yield socket.inet_ntop(family, packed), struct.unpack_from("=I", body, 68)[0]
            data = data[(size + 3) & ~3 :]
