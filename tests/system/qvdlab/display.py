# SPDX-License-Identifier: GPL-3.0-or-later
"""A screen that nobody sees: Xvfb, a keyboard and a mouse for it."""

import os
import random
import select
import subprocess

from .util import eventually, run


class Display:
    """with Display(farm) as screen: ...

    Runs in the farm's network namespace, where its abstract sockets are
    nobody else's; without a farm, where the test runs.
    """

    def __init__(self, farm=None, size="1280x800"):
        self.farm = farm
        self._log = open((farm.dir / "xvfb.log") if farm else os.devnull, "w")
        for _ in range(10):
            if self._start(size):
                return
        raise AssertionError("Xvfb doesn't start (package xvfb)")

    def _start(self, size):
        # A number of our own: left to choose, servers in two network
        # namespaces take the same one, and each other's socket in /tmp.
        self.name = f":{random.randrange(200, 30000)}"
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [*self._prefix(), "Xvfb", self.name, "-displayfd", str(writer),
             "-screen", "0", size + "x24", "-nolisten", "tcp", "-noreset"],
            pass_fds=[writer], stdout=self._log, stderr=self._log,
            start_new_session=True)
        os.close(writer)
        # To the line's end: a server that can't write all of it ends.
        number = b""
        while not number.endswith(b"\n"):
            ready, _, _ = select.select([reader], [], [], 30)
            more = os.read(reader, 16) if ready else b""
            if not more:
                break
            number += more
        os.close(reader)
        if not number:
            self.process.kill()
            self.process.wait()
        return bool(number)

    def _prefix(self):
        return self.farm.prefix if self.farm else []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)
        self._log.close()

    @property
    def env(self):
        return dict(os.environ, DISPLAY=self.name)

    def do(self, *args, check=True, timeout=30):
        return run(*self._prefix(), *args, env=self.env, check=check,
                   timeout=timeout)

    def windows(self, name=".+"):
        """Ids of the windows whose title matches and that can be seen."""
        out = self.do("xdotool", "search", "--onlyvisible", "--name", name,
                      check=False)
        return out.split()

    def wait_window(self, name=".+", timeout=60):
        """The first window with such a title."""
        return eventually(lambda: self.windows(name), timeout,
                          f"a window titled '{name}' on {self.name}")[0]

    def screenshot(self, path):
        self.do("import", "-window", "root", path)
        return path

    def colors(self):
        """How many different colors the screen shows: 1 while it is empty."""
        return int(self.do(*"import -window root -format %k info:-".split()))

    def wait_drawn(self, colors=20, timeout=60):
        """Until something with that many colors is on the screen."""
        eventually(lambda: self.colors() >= colors, timeout,
                   f"{colors} colors on {self.name}", every=0.1)

    def pixel(self, x, y):
        """"srgb(29,59,83)" or the like."""
        return self.do("import", "-window", "root", "-crop", f"1x1+{x}+{y}",
                       "-format", "%[pixel:p{0,0}]", "info:-").strip()

    def type(self, text, delay_ms=20):
        self.do("xdotool", "type", "--delay", str(delay_ms), "--", text)

    def key(self, *keys):
        self.do("xdotool", "key", *keys)

    def click(self, x, y, button=1):
        self.do("xdotool", "mousemove", x, y, "click", button)
