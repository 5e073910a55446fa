# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody at a desktop: a client with a terminal that takes what is typed."""

import itertools

from .util import eventually

_marks = itertools.count()


class Desk:
    """A client that is in the VM's desktop, with the keyboard in a terminal.

    home: the user's home as the node sees it; one with a limit is only in the
    desktop's own mounts.
    """

    def __init__(self, farm, screen, *args, vm=None, login="alice",
                 home=None):
        self.farm, self.screen = farm, screen
        self.vm = vm or farm.vm
        self.home = home or farm.data / f"homes/{self.vm}/{login}"
        self.client = farm.client("--vm", self.vm, "--geometry", "1280x800",
                                  "--link", "lan", *args, user=login,
                                  display=screen)
        eventually(lambda: "Connected." in self.log(), 60,
                   lambda: "a connection: " + self.log())
        self.works()

    def log(self):
        return self.client.log.read_text()

    def works(self, timeout=60):
        """What is typed on the screen arrives in the VM."""
        mark = self.home / f"mark{next(_marks)}"

        def arrived():
            # A click gives the terminal the keyboard once it is there.
            self.screen.click(640, 380)
            self.screen.key("ctrl+u")
            self.screen.type(f"touch {mark.name}", delay_ms=5)
            self.screen.key("Return")
            return mark.exists()
        eventually(arrived, timeout,
                   lambda: "what was typed: " + self.log(), every=0.3)

    def ends(self, timeout=30):
        """The client's exit code."""
        return self.client.wait(timeout)

    def close(self):
        self.client.terminate()
        self.client.wait(20)
