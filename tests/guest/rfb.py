# SPDX-License-Identifier: GPL-2.0-or-later
"""A viewer: RFB 3.8 (RFC 6143) with raw pixels, and QEMU's extensions for scan codes and relative motion."""
import select
import socket
import struct
import subprocess

import vmm

RESIZE, POINTER, KEYS = -223, -257, -258


def des_response(password, challenge):
    """VNC authentication: the password's bytes with their bits turned round are the key of DES."""
    key = bytes(int(f"{b:08b}"[::-1], 2) for b in password.encode()[:8].ljust(8, b"\0"))
    return subprocess.run(["openssl", "enc", "-des-ecb", "-nopad", "-provider", "legacy", "-provider", "default", "-K", key.hex()],
                          input=challenge, stdout=subprocess.PIPE, check=True).stdout


class Refused(Exception):
    """The server did not let the viewer in."""


class Viewer:
    def __init__(self, address, password=None, encodings=(0, RESIZE), shared=True, sock=None):
        if sock is None and isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(address)
        self.sock = sock or socket.create_connection(address)
        self.sock.settimeout(20 * vmm.SLOW)
        assert self.read(12).startswith(b"RFB 003.00")
        self.sock.sendall(b"RFB 003.008\n")
        types = self.read(self.read(1)[0])
        wanted = 1 if password is None else 2
        if wanted not in types:
            raise Refused(f"security types {list(types)}")
        self.sock.sendall(bytes([wanted]))
        if password is not None:
            self.sock.sendall(des_response(password, self.read(16)))
        if struct.unpack(">I", self.read(4))[0]:
            raise Refused(self.read(struct.unpack(">I", self.read(4))[0]).decode())
        self.sock.sendall(bytes([shared]))
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode()
        # 32 bits a pixel, little-endian, 0x00RRGGBB
        self.sock.sendall(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self.sock.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
        self.pixels = bytearray(self.width * self.height * 4)
        self.absolute = None
        self.scan_codes = False

    def close(self):
        self.sock.close()

    def read(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data

    def request(self, incremental=False):
        self.sock.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def update(self):
        """Takes one update of the picture; the encodings it held."""
        while (kind := self.read(1)[0]) != 0:
            if kind == 3:
                self.read(struct.unpack(">xxxI", self.read(7))[0])
            else:
                assert kind == 2, f"message {kind}"
        found = []
        for _ in range(struct.unpack(">xH", self.read(3))[0]):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            found.append(encoding)
            if encoding == RESIZE:
                self.width, self.height = width, height
                self.pixels = bytearray(width * height * 4)
            elif encoding == POINTER:
                self.absolute = bool(x)
            elif encoding == KEYS:
                self.scan_codes = True
            else:
                assert encoding == 0, f"encoding {encoding}"
                data = self.read(width * height * 4)
                for row in range(height):
                    at = ((y + row) * self.width + x) * 4
                    self.pixels[at:at + width * 4] = data[row * width * 4:(row + 1) * width * 4]
        return found

    def settle(self, pause=0.3):
        """Takes updates until none comes for so long: the server gives up on viewers that do not read."""
        while select.select([self.sock], [], [], pause)[0]:
            self.update()

    def picture(self):
        """The whole picture, as it is now."""
        self.request()
        while 0 not in self.update():
            pass
        return self.width, self.height, bytes(self.pixels)

    def key(self, keysym, down):
        self.sock.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def type(self, *keysyms):
        for k in keysyms:
            self.key(k, True)
        for k in reversed(keysyms):
            self.key(k, False)

    def scan_code(self, number, down):
        self.sock.sendall(struct.pack(">BBHII", 255, 0, down, 0, number))

    def pointer(self, x, y, buttons=0):
        self.sock.sendall(struct.pack(">BBHH", 5, buttons, x, y))
