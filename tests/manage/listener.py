# SPDX-License-Identifier: GPL-2.0-or-later
"""A client that prints events. When it has begun to listen is seen by what it prints alone."""
import subprocess
import threading
import time

from conftest import PLAIN
from limits import SLOW


class Listener:
    """`text` is what it has printed so far. It is ended, never left to a time of its own."""

    def __init__(self, *words):
        self.text = ""
        self.process = subprocess.Popen(["stdbuf", "-oL", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.text += line

    def until(self, text, provoke=lambda: None):
        """It prints this. provoke() brings about such an event, again and again, for the case that it does not listen yet."""
        end = time.monotonic() + 30 * SLOW
        while text not in self.text:
            assert time.monotonic() < end and self.process.poll() is None, f"{text!r} is not told: {self.text}"
            provoke()
            time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.stop()
