# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes of desktops beside the demonstration's: each is built, imported
into a farm, and logged in to. QVD_LAB_SHOTS=DIR keeps how each looked."""

import contextlib
import os
import pathlib
import re

import pytest
from qvdlab import Desk, Display, Farm, eventually, image, leaks, need, run

pytestmark = pytest.mark.long

# Recipe, how its window manager calls itself, the program of its panel, and
# words in the WM_CLASS of the windows that it opens: the panel's, the
# terminal's, the desktop's. Any other is a dialog that nobody asked for.
RECIPES = [
    ("icewm", "IceWM", "icewm", "TaskBar", "XTerm", "icewmbg"),
    ("xfce", "Xfwm4", "xfce4-panel", "xfce4-panel", "xfce4-terminal",
     "xfdesktop"),
    ("lxqt", "Openbox", "lxqt-panel", "lxqt-panel", "qterminal",
     "pcmanfm-qt"),
    ("mate", "Metacity (Marco)", "mate-panel", "mate-panel", "mate-terminal",
     "caja"),
    ("gnome", "Metacity", "gnome-panel", "gnome-panel", "gnome-terminal",
     "pcmanfm"),
    # Its menu and wallpaper are the panel's program's.
    ("plasma", "KWin", "plasmashell", "plasmashell", "konsole",
     "plasmashell"),
]


def pids(farm, program):
    """Of what runs in the farm's VMs."""
    found = []
    for pid in leaks.cgroup_pids(farm):
        with contextlib.suppress(OSError):
            comm = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            if comm == program:
                found.append(pid)
    return found


def environment(pid):
    """Of a process; empty while it becomes another program."""
    with contextlib.suppress(OSError):
        text = pathlib.Path(f"/proc/{pid}/environ").read_text()
        return dict(v.split("=", 1) for v in text.split("\0") if "=" in v)
    return {}


class Inside:
    """The desktop's own X server, asked from the node with the desktop's own
    cookie: images have no tools for that."""

    def __init__(self, farm, program):
        pid, env = eventually(
            lambda: next(((p, e) for p in pids(farm, program)
                          if "DISPLAY" in (e := environment(p))), None),
            60, f"{program} in the VM")
        self.enter = ["nsenter", "-t", str(pid), "-n"]
        self.env = dict(os.environ, DISPLAY=env["DISPLAY"],
                        XAUTHORITY=f"/proc/{pid}/root{env['XAUTHORITY']}")

    def ask(self, *args):
        return run(*self.enter, *args, env=self.env, check=False)

    def manager(self):
        """The window manager's name, once one is there."""
        window = re.search("window id # (0x[0-9a-f]+)", self.ask(
            "xprop", "-root", "_NET_SUPPORTING_WM_CHECK"))
        name = window and re.search(' = "(.*)"', self.ask(
            "xprop", "-id", window[1], "_NET_WM_NAME"))
        return name and name[1]

    def size(self):
        """[width, height] of the screen."""
        return [int(n) for n in self.ask("xdotool",
                                         "getdisplaygeometry").split()]

    def described(self, ids):
        """[(WM_CLASS, width, height)] of windows; without a size when one
        goes in between."""
        return [(self.ask("xprop", "-id", w, "WM_CLASS"),
                 *map(int, re.findall("(?:WIDTH|HEIGHT)=([0-9]+)", self.ask(
                     "xdotool", "getwindowgeometry", "--shell", w))))
                for w in ids]

    def windows(self):
        """Those that can be seen."""
        return self.described(self.ask("xdotool", "search", "--onlyvisible",
                                       "--name", ".*").split())

    def clients(self):
        """Those that it manages."""
        return self.described(re.findall("0x[0-9a-f]+", self.ask(
            "xprop", "-root", "_NET_CLIENT_LIST")))

    def wait_window(self, word, width=None):
        """Until there is one, and one of that width."""
        eventually(lambda: any(word in w[0] and width in (None, *w[1:2])
                               for w in self.windows()), 60,
                   lambda: f"a window '{word}' ({width}): {self.windows()}",
                   every=0.3)


def shot(screen, name):
    if shots := os.environ.get("QVD_LAB_SHOTS"):
        screen.screenshot(pathlib.Path(shots) / f"{name}.png")


def stop(farm):
    farm.qvd("vm", "stop", farm.vm)
    farm.wait_vm(farm.vm, state="stopped")


@pytest.mark.parametrize("recipe, manager, program, panel, terminal, desktop",
                         RECIPES, ids=[r[0] for r in RECIPES])
def test_logging_in_shows_the_desktop(recipe, manager, program, panel,
                                      terminal, desktop):
    need("root", "containers", "xprop", "xdotool", "import")
    # Not as a farm's template: nobody else needs it, and it would be kept.
    tar = image(recipe)
    with Farm() as farm:
        farm.add_user("alice", "secret")
        farm.add_osf(recipe, tar, "--memory", "2G")
        farm.vm = farm.add_vm("alice", recipe)
        with Display(farm) as screen:
            # What is typed arrives in a terminal in the middle of the screen.
            desk = Desk(farm, screen)
            inside = Inside(farm, program)
            eventually(lambda: inside.manager(), 60, "a window manager")
            assert inside.manager().startswith(manager)
            inside.wait_window(panel)
            inside.wait_window(terminal)
            # Wallpaper, panel and text, not an empty screen.
            screen.wait_drawn(100)
            eventually(lambda: screen.pixel(1240, 60) not in
                       ("black", "srgb(0,0,0)"), 60, "a wallpaper")
            shot(screen, recipe)
            known = panel, terminal, desktop
            assert not [c for c in inside.clients()
                        if not any(word in c[0].lower()
                                   for word in map(str.lower, known))]
            desk.close()
        # On another device the same desktop fits that one's screen.
        with Display(farm, "1600x1000") as screen:
            desk = Desk(farm, screen, "--geometry", "1600x1000")
            eventually(lambda: inside.size() == [1600, 1000], 60,
                       lambda: f"a larger screen: {inside.size()}")
            inside.wait_window(panel, 1600)
            shot(screen, f"{recipe}-larger")
            desk.close()
        stop(farm)


def test_an_application_is_all_there_is():
    """What an OSF of applications publishes: one program that fills the
    screen; its end is the session's."""
    need("root", "containers", "xprop", "xdotool", "import")
    with Farm() as farm:
        farm.add_user("alice", "secret")
        farm.add_osf("office", image("application"), "--kind", "application")
        farm.vm = farm.add_vm("alice", "office", "sheets")
        status, said = farm.client_ends("--list")
        assert status == 0 and re.search("sheets.* application", said), said
        with Display(farm) as screen:
            client = farm.client("--vm", farm.vm, "--geometry", "1280x800",
                                 "--link", "lan", display=screen)
            inside = Inside(farm, "gnumeric")
            # As large as the screen, without a frame, and nothing beside it.
            eventually(lambda: [c[1:] for c in inside.clients()
                                if "gnumeric" in c[0]] == [(1280, 800)], 60,
                       lambda: f"a window that fills: {inside.clients()}")
            assert len(inside.clients()) == 1
            screen.wait_drawn(100)
            shot(screen, "application")
            screen.click(640, 380)
            screen.key("ctrl+q")
            assert client.wait(60) == 0, client.log.read_text()
            farm.wait_vm(farm.vm, session="stopped")
        stop(farm)
