# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-client in a real farm: what the client makes of how sessions end."""

import json
import signal

from qvdlab import Display, eventually


def connect(desktop, screen, *args):
    """A client, and its desktop's terminal has the keyboard."""
    child = desktop.client("--vm", desktop.vm, "--geometry", "1280x800",
                           "--link", "lan", *args, display=screen)
    eventually(lambda: "Connected." in child.log.read_text(), 60,
               "a connection: " + child.log.read_text())
    mark = desktop.data / f"homes/{desktop.vm}/alice/there{child.pid}"

    def reached():
        """A click gives the terminal the keyboard once it is there."""
        screen.click(640, 380)
        screen.key("ctrl+u")
        screen.type(f"touch {mark.name}", delay_ms=5)
        screen.key("Return")
        return mark.exists()
    eventually(reached, 60, "a terminal to type in", every=0.3)
    return child


def test_list_and_token(desktop):
    status, text = desktop.client_ends("list", "-o", "json")
    assert status == 0
    assert [row["id"] for row in json.loads(text)] == [desktop.vm]
    status, token = desktop.client_ends("token")
    assert status == 0
    status, text = desktop.client_ends(
        "list", password=None, env={"QVD_TOKEN": token.strip()})
    assert status == 0 and "desk" in text
    status, text = desktop.client_ends("list", password="wrong")
    assert status == 12 and "user or password is wrong" in text


def test_logging_out_ends_the_client(desktop):
    """The client doesn't take the end for a lost link: no new session."""
    with Display(desktop) as screen:
        child = connect(desktop, screen)
        run = desktop.one("SELECT epoch FROM vms WHERE id = %s", desktop.vm)
        # The session's leader is openbox.
        screen.type("openbox --exit")
        screen.key("Return")
        assert child.wait(30) == 0, child.log.read_text()
        assert "session has ended" in child.log.read_text()
        assert "lost" not in child.log.read_text()
        assert desktop.one("SELECT epoch FROM vms WHERE id = %s",
                           desktop.vm) == run


def test_another_client_takes_over(desktop):
    with Display(desktop) as one, Display(desktop) as other:
        first = connect(desktop, one)
        second = connect(desktop, other)
        assert first.wait(30) == 33, first.log.read_text()
        assert "taken over by another client" in first.log.read_text()
        assert second.poll() is None
        second.send_signal(signal.SIGINT)
        assert second.wait(10) == 0


def test_the_administrator_disconnects(desktop):
    """The client is told, and doesn't come back by itself."""
    with Display(desktop) as screen:
        child = connect(desktop, screen)
        desktop.qvd("session", "disconnect", desktop.vm)
        assert child.wait(30) == 33, child.log.read_text()


def test_stop_from_the_client(desktop):
    """And a client that is connected doesn't start it again."""
    with Display(desktop) as screen:
        child = connect(desktop, screen)
        status, text = desktop.client_ends("stop", "--vm", desktop.vm)
        assert status == 0 and "is stopped" in text
        assert child.wait(30) in (0, 16), child.log.read_text()
        assert desktop.one("SELECT desired FROM vms WHERE id = %s",
                           desktop.vm) == "stopped"
