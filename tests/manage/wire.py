# SPDX-License-Identifier: GPL-2.0-or-later
"""A client that speaks the wire protocol by hand."""
import array
import socket
import struct

from limits import SLOW

REMOTE, QEMU, KEEPALIVE = 0x20008086, 0x20008087, 0x6b656570
CALL, REPLY, MESSAGE, STREAM, CALL_FDS, REPLY_FDS, HOLE = range(7)
OK, ERROR, CONTINUE = range(3)
OPEN, CLOSE, GET_TYPE, HOSTNAME, FEATURE, AUTH_LIST, GET_URI, LIB_VERSION = 1, 2, 3, 59, 60, 66, 110, 157


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def message(procedure, payload=b"", serial=0, program=REMOTE, version=1, kind=CALL, status=OK, length=None):
    return struct.pack(">7I", length if length is not None else 28 + len(payload), program, version, procedure, kind, serial, status) + payload


class Reply:
    def __init__(self, data):
        self.length, self.program, self.version, self.procedure, self.kind, self.serial, self.status = struct.unpack(">7I", data[:28])
        self.payload = data[28:]

    def ints(self):
        return struct.unpack(f">{len(self.payload) // 4}i", self.payload)

    def text(self):
        size, = struct.unpack(">I", self.payload[:4])
        return self.payload[4:4 + size].decode()

    def error(self):
        """(code, domain, message)"""
        assert self.status == ERROR, "this is no error"
        code, domain, there, size = struct.unpack(">iiII", self.payload[:16])
        assert there == 1
        return code, domain, self.payload[16:16 + size].decode()


class Wire:
    def __init__(self, where, opened=True, uri="qemu:///system", flags=0):
        self.socket = socket.create_connection(where) if isinstance(where, tuple) else socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10 * SLOW)
        if not isinstance(where, tuple):
            self.socket.connect(where)
        self.serial = 0
        self.fds = []
        if opened:
            assert self.call(OPEN, struct.pack(">I", 1) + string(uri) + struct.pack(">I", flags)).status == OK

    def send(self, data):
        self.socket.sendall(data)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            part, control, _, _ = self.socket.recvmsg(size - len(data), socket.CMSG_SPACE(32 * 4))
            for level, kind, value in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array("i")
                    fds.frombytes(value)
                    self.fds += list(fds)
            if not part:
                raise EOFError
            data += part
        return data

    def receive(self):
        head = self.exactly(4)
        return Reply(head + self.exactly(struct.unpack(">I", head)[0] - 4))

    def call(self, procedure, payload=b"", **more):
        self.serial += 1
        self.send(message(procedure, payload, serial=self.serial, **more))
        reply = self.receive()
        assert (reply.serial, reply.procedure, reply.kind) == (self.serial, procedure, REPLY)
        return reply

    def is_closed(self, seconds=5 * SLOW):
        """The server hangs up."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False
        return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()
