# SPDX-License-Identifier: GPL-3.0-or-later
"""Connects the client to the demonstration's desktop, types into its
terminal, takes a screenshot; called by tools/demo with its folder."""

import pathlib
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests/system"))

from qvdlab.display import Display  # noqa: E402
from qvdlab.util import eventually  # noqa: E402

SIZE = "1280x800"
TEXT = "echo Hello from a QVD desktop, typed through NX; uname -n; whoami"


def main(here):
    here = pathlib.Path(here)
    env = dict(line.split("=", 1)
               for line in (here / "env").read_text().splitlines())
    with Display(size=SIZE) as screen:
        started = time.monotonic()
        with (here / "client.log").open("wb") as log:
            client = subprocess.Popen(
                [TOP / "build/release/bin/qvd-client", "--trust-first-use",
                 "--fullscreen"], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env={**screen.env, **env, "HOME": str(here)})
        try:
            prove(screen, client, here, started)
        finally:
            client.terminate()
            client.wait(timeout=30)


def prove(screen, client, here, started):
    def drawn():
        if client.poll() is not None:
            sys.exit((here / "client.log").read_text())
        return screen.colors() >= 20
    screen.wait_window(timeout=120)
    eventually(drawn, 60, "a desktop on the screen", every=0.1)
    print(f"first window after {time.monotonic() - started:.1f} s")
    # The terminal is in the middle: it gets the keyboard by a click.
    screen.click(640, 380)
    screen.type(TEXT)
    screen.key("Return")
    picture = here / "desktop.png"
    seen = []

    def at_rest():
        """Two pictures in a row are the same."""
        screen.screenshot(picture)
        seen.append(pixels(picture))
        return len(seen) > 1 and seen[-1] == seen[-2]
    eventually(at_rest, 20, "a screen at rest", every=0.4)


def pixels(picture):
    """A hash of them; files of the same picture differ by their dates."""
    out = subprocess.run(["identify", "-format", "%#", picture], check=True,
                         stdout=subprocess.PIPE)
    return out.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
