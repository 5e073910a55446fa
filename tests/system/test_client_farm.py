# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-client in a real farm: what the client makes of how sessions end."""

import json
import signal

from qvdlab import Display
from qvdlab.desk import Desk


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
        child = Desk(desktop, screen).client
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
        first = Desk(desktop, one).client
        second = Desk(desktop, other).client
        assert first.wait(30) == 33, first.log.read_text()
        assert "taken over by another client" in first.log.read_text()
        assert second.poll() is None
        second.send_signal(signal.SIGINT)
        assert second.wait(10) == 0


def test_the_administrator_disconnects(desktop):
    """The client is told, and doesn't come back by itself."""
    with Display(desktop) as screen:
        child = Desk(desktop, screen).client
        desktop.qvd("session", "disconnect", desktop.vm)
        assert child.wait(30) == 33, child.log.read_text()


def test_stop_from_the_client(desktop):
    """And a client that is connected doesn't start it again."""
    with Display(desktop) as screen:
        child = Desk(desktop, screen).client
        status, text = desktop.client_ends("stop", "--vm", desktop.vm)
        assert status == 0 and "is stopped" in text
        assert child.wait(30) in (0, 16), child.log.read_text()
        assert desktop.one("SELECT desired FROM vms WHERE id = %s",
                           desktop.vm) == "stopped"
