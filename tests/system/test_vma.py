# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent inside a VM, alone: process 1 of an image in namespaces, without
a node (vmabox.py)."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import time

import pytest
from qvdlab import Display, eventually, need
from vmabox import Box, HttpError, NxClient

HOOK = """#!/bin/sh
echo "$@" >>/tmp/hooks
cat >>/tmp/hooks
echo >>/tmp/hooks
"""


@pytest.fixture(scope="module")
def display():
    need("root", "Xvfb", "nxproxy", "xdotool")
    with Display() as screen:
        yield screen


@pytest.fixture
def box():
    with Box() as box:
        yield box


@pytest.fixture
def desktop(box, display):
    """A box whose desktop is connected."""
    box.answer, box.client = box.connect(display, fullscreen=True)
    box.wait("connected")
    yield box


def events(box, until, start=None):
    """Session states heard on GET /events, up to one."""
    heard = []
    start.sock.settimeout(30)
    while not heard or heard[-1].get("session") != until:
        while b"\n" not in start.rest:
            start.rest += start.sock.recv(65536)
        line, start.rest = start.rest.split(b"\n", 1)
        if line.startswith(b"{"):
            heard.append(json.loads(line))
    return heard


def follow(box):
    request = box.request("GET", "/events")
    status, _ = request.answer()
    assert status == 200
    return request


def refused(box, **order):
    with pytest.raises(HttpError) as e:
        box.post(**order).json()
    return e.value


# ---- a session's life ----

def test_a_desktop_starts_suspends_and_resumes(desktop, display):
    box = desktop
    assert box.answer["resumed"] is False
    eventually(lambda: box.pid_of("openbox"), 20, "the desktop")
    shell = eventually(lambda: box.pid_of("bash"), 20, "the terminal's shell")
    box.client.kill()
    box.wait("suspended")
    answer, _ = box.connect(display)
    assert answer["resumed"] is True
    box.wait("connected")
    assert box.pid_of("bash") == shell
    assert box.call("POST", "/session/suspend") == {"state": "suspended"}
    assert box.call("DELETE", "/session") == {"state": "stopped"}
    assert eventually(lambda: len(box.processes()) == 1, 5)


def test_twenty_clients_die_and_the_desktop_resumes(desktop, display):
    box, client, times = desktop, desktop.client, []
    agent = box.pid_of("/usr/bin/nxagent")
    for i in range(20):
        client.kill()
        box.wait("suspended")
        began = time.monotonic()
        answer = box.post(geometry=f"{800 + 20 * i}x600",
                          fullscreen=bool(i % 2)).json()
        times.append(time.monotonic() - began)
        assert answer["resumed"]
        client = NxClient(box, box.stream(), display)
        box.displays.append(client)
        box.wait("connected")
    assert box.pid_of("/usr/bin/nxagent") == agent
    print("POST /session to listening, ms:",
          [round(t * 1000, 1) for t in times])


def test_events_tell_each_state_once(box, display):
    stream = follow(box)
    _, client = box.connect(display)
    heard = events(box, "connected", stream)
    client.kill()
    heard += events(box, "suspended", stream)
    box.call("DELETE", "/session")
    heard += events(box, "stopped", stream)
    assert [e["session"] for e in heard] == [
        "stopped", "starting", "listening", "connected", "suspending",
        "suspended", "stopping", "stopped"]
    assert heard[-1]["generation"] == box.generation


def test_the_user_logs_out(desktop, display):
    box = desktop
    stream = follow(box)
    eventually(lambda: box.pid_of("openbox"), 20, "the desktop")
    time.sleep(3.2)  # sooner it would be a failure, not a logout
    box.kill("openbox", signal.SIGTERM)
    assert events(box, "stopped", stream)[-1]["reason"] == \
        "the user logged out"
    # Whoever looks for a lost link hears that there is none to look for.
    with pytest.raises(HttpError) as e:
        box.post(resume=True).json()
    assert (e.value.status, e.value.id) == (410, "session-ended")
    answer, _ = box.connect(display)
    assert answer["resumed"] is False


# ---- several clients ----

def test_a_newer_client_takes_a_connected_desktop(desktop, display):
    box = desktop
    request = box.post()
    answer = request.json()
    assert answer["resumed"]
    assert "Taking the desktop from another client" in request.interim
    _, status = os.waitpid(box.client.process.pid, 0)
    old = box.generation - 1
    with pytest.raises(HttpError) as e:
        box.stream(old)
    assert e.value.id == "session-taken-over"
    box.displays.append(NxClient(box, box.stream(), display))
    box.wait("connected")


def test_a_newer_client_beats_one_that_waits(box, display):
    """Also one whose desktop listens already and one still starting."""
    requests = [box.post(geometry=f"{800 + i}x600") for i in range(5)]
    for r in requests[:-1]:
        with pytest.raises(HttpError) as e:
            r.json()
        assert (e.value.status, e.value.id) == (409, "session-taken-over")
    assert requests[-1].json()["state"] == "listening"
    # It listens for the fifth: the sixth gets options of its own.
    _, client = box.connect(display, geometry="999x600")
    box.wait("connected")
    options = box.path("/run/qvd-session/2000/options").read_text()
    assert "geometry=999x600" in options


def test_an_older_generation_is_refused(box):
    box.generation = 10
    box.post().json()
    box.generation = 4
    assert refused(box).id == "session-taken-over"


def test_a_client_that_goes_while_it_waits(box, display):
    box.post().close()
    box.wait("listening")
    box.connect(display)
    box.wait("connected")


def test_nobody_takes_the_stream_twice(desktop):
    with pytest.raises(HttpError) as e:
        desktop.stream()
    assert e.value.id == "conflict"


def test_another_user_has_to_wait(desktop):
    e = refused(desktop, user={"name": "bob", "uid": 2001})
    assert e.id == "conflict"
    assert "'alice'" in e.message


# ---- users and homes ----

def test_the_user_is_made_once(desktop):
    box = desktop
    line = [x for x in box.path("/etc/passwd").read_text().split("\n")
            if x.startswith("alice:")]
    assert line == ["alice:x:2000:2000:Alice:/home/alice:/bin/bash"]
    home = box.path("/home/alice")
    assert home.stat().st_uid == 2000
    assert (home / ".bashrc").stat().st_uid == 2000
    (home / "mine").write_text("kept")
    box.call("DELETE", "/session")
    box.post().json()
    assert (home / "mine").read_text() == "kept"


@pytest.mark.parametrize("user, id", [
    ({"name": "root"}, "not-allowed"),
    ({"uid": 0}, "not-allowed"),
    ({"name": "daemon"}, "conflict"),
    ({"name": "a:b"}, "bad-parameter"),
])
def test_system_users_get_no_desktop(box, user, id):
    assert refused(box, user=user).id == id
    assert box.state()["session"] == "stopped"


def test_groups_that_the_image_has(desktop):
    box = desktop
    box.call("DELETE", "/session")
    box.post(user={"groups": ["audio", "nowhere"]}).json()
    agent = box.pid_of("/usr/bin/nxagent")
    text = pathlib.Path(f"/proc/{agent}/status").read_text()
    groups = next(x for x in text.split("\n") if x.startswith("Groups:"))
    assert groups.split()[1:] == ["29", "2000"]


def test_a_home_that_is_anothers(box):
    home = box.path("/home/alice")
    home.mkdir()
    e = refused(box)
    assert "belongs to uid 0" in e.message
    assert e.id == "conflict"
    home.rmdir()
    home.symlink_to("/etc")
    assert "no directory" in refused(box).message


def test_no_space_for_a_home():
    with Box(prepare='mount -t tmpfs -o size=4k home "$R/home"') as box:
        e = refused(box)
        assert e.id == "no-space"
        assert e.status == 507
        assert not box.path("/home/alice").exists()


def test_a_blank_device_is_formatted_once(tmp_path):
    need("mkfs.ext4", "losetup")
    disk = tmp_path / "disk"
    with open(disk, "wb") as f:
        f.truncate(32 << 20)
    device = os.popen(f"losetup -f --show {disk}").read().strip()
    if not device:
        pytest.skip("no loop device can be made here")
    conf = ("etc/qvd/vma.conf", 0o644, "[home]\ndevice = /dev/vdz\n")
    prepare = f'touch "$R/dev/vdz"; mount --bind {device} "$R/dev/vdz"'
    try:
        for again in (False, True):
            with Box(files=[conf], prepare=prepare, home=False) as box:
                box.post().json()
                mine = box.path("/home/alice/mine")
                assert mine.exists() == again
                mine.write_text("kept")
                assert " ext4 " in box.run("grep", " /home ", "/proc/mounts")
                box.call("POST", "/poweroff")
                box.process.wait(timeout=20)
    finally:
        os.system(f"losetup -d {device}")


# ---- what the user can't do ----

def test_the_user_cannot_reach_the_control(desktop):
    out = desktop.run("sh", "-c", "ls /run/qvd; ls /run/qvd/vma.sock",
                      user=2000, check=False)
    assert out.count("Permission denied") == 2


def test_strangers_cannot_use_the_display(desktop):
    out = desktop.run("env", "DISPLAY=:100", "XAUTHORITY=/dev/null", "xterm",
                      user=2001, check=False)
    assert "Can't open display" in out or "not authorized" in out.lower() \
        or "No protocol specified" in out


def test_a_replaced_socket_is_not_connected_to(box):
    """The user puts a link to the control socket in the agent's place."""
    box.post().json()
    sock = box.path("/run/qvd-session/2000/nx.sock")
    sock.unlink()
    sock.symlink_to("/run/qvd/vma.sock")
    with pytest.raises(HttpError) as e:
        box.stream()
    assert e.value.id == "session-failed"
    sock.unlink()
    server = socket.socket(socket.AF_UNIX)
    fd = os.open(sock.parent, os.O_PATH)
    server.bind(f"/proc/self/fd/{fd}/nx.sock")
    server.listen()
    with pytest.raises(HttpError) as e:
        box.stream()
    assert "replaced" in e.value.message
    server.close()
    os.close(fd)


def test_no_secret_in_arguments_or_environment(box, display):
    hook = ("etc/qvd/hooks/action/connect", 0o755, HOOK)
    with Box(files=[hook]) as box:
        box.connect(display, params={"qvd.slave.key": "S3cr3tKey",
                                     "custom.x": "y"})
        box.wait("connected")
        args, text = box.path("/tmp/hooks").read_text().split("\n")[:2]
        assert "custom.x y" in args
        assert "qvd.hook.on_action connect" in args
        assert "qvd.vm.user.name alice" in args
        assert "S3cr3tKey" not in args
        assert json.loads(text)["params"]["qvd.slave.key"] == "S3cr3tKey"
        for pid in box.processes():
            with contextlib.suppress(OSError):
                env = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
                assert b"S3cr3tKey" not in env
        assert "S3cr3tKey" not in box.tail(1000)


# ---- things go wrong ----

def test_an_image_without_x_session():
    with Box("busybox") as box:
        e = refused(box)
        assert (e.status, e.id) == (503, "session-failed")
        assert e.message.startswith("the image has no X session: ")


def test_an_image_without_agent():
    with Box(prepare='rm "$R/usr/bin/nxagent"') as box:
        assert "install the package nxagent" in refused(box).message


def test_an_agent_that_dies_at_start():
    agent = ("usr/bin/nxagent", 0o755,
             "#!/bin/sh\necho 'Error: no \x1b[31mfonts' >&2\nexit 3")
    with Box(files=[agent]) as box:
        e = refused(box)
        assert e.id == "session-failed"
        assert e.message == ("the desktop's display agent ended by itself "
                             "(exit status 3): Error: no \\x1b[31mfonts")
        assert box.state()["session"] == "stopped"
        assert box.state()["reason"] == e.message


@pytest.mark.parametrize("end, reason", [
    ("exit 7", "exited with 7: cannot find the desktop"),
    ("sleep 1.3; exit 7", "exited with 7: cannot find the desktop"),
    ("exit 0", "without an error: cannot find the desktop"),
    ("sleep 1.3; exit 0", None),
], ids=["failed", "failed-late", "nothing", "quick-user"])
def test_a_session_that_ends_at_once(display, end, reason):
    program = ("etc/qvd/session", 0o755,
               f"#!/bin/sh\necho 'cannot find the desktop' >&2\n{end}")
    with Box(files=[program]) as box:
        stream = follow(box)
        box.connect(display)
        said = events(box, "stopping", stream)[-1]["reason"]
        box.wait("stopped")
    if reason is None:
        assert said == "the user logged out"
    else:
        assert said.startswith(
            "the image's X session '/etc/qvd/session' ended at once")
        assert said.endswith(reason)


def test_an_agent_that_is_killed_is_replaced(desktop, display):
    box = desktop
    stream = follow(box)
    box.kill("/usr/bin/nxagent")
    reason = events(box, "stopped", stream)[-1]["reason"]
    assert "ended by itself (signal 9)" in reason
    answer, _ = box.connect(display)
    assert answer["resumed"] is False
    box.wait("connected")


def test_an_agent_that_is_killed_while_suspended(desktop):
    box = desktop
    box.client.kill()
    box.wait("suspended")
    box.kill("/usr/bin/nxagent")
    box.wait("stopped")
    assert box.post().json()["resumed"] is False


def test_an_agent_that_hangs_is_replaced(desktop):
    """A resume that is never answered: the client gets a new session."""
    box = desktop
    box.client.kill()
    box.wait("suspended")
    os.kill(box.pid_of("/usr/bin/nxagent"), signal.SIGSTOP)
    request = box.post()
    answer = request.json()
    assert answer["resumed"] is False
    assert any("lost" in x for x in request.interim)


def test_a_desktop_that_ignores_its_end():
    program = ("etc/qvd/session", 0o755,
               "#!/bin/sh\ntrap '' TERM HUP\nwhile :; do sleep 1; done")
    conf = ("etc/qvd/vma.conf", 0o644, "[session]\nlogout_timeout = 1s\n")
    with Display() as screen, Box(files=[program, conf]) as box:
        box.connect(screen)
        box.wait("connected")
        eventually(lambda: box.pid_of("/bin/sh /etc/qvd/session"), 10)
        assert box.call("DELETE", "/session") == {"state": "stopped"}
        assert len(box.processes()) == 1


@pytest.mark.parametrize("own, expected", [
    ("", "131072"), ("MALLOC_MMAP_THRESHOLD_=4096\n", "4096")])
def test_the_environment_of_a_session(own, expected):
    """Memory is given back, unless the image says otherwise; who the user is
    it can't say."""
    program = ("etc/qvd/session", 0o755,
               "#!/bin/sh\nenv >~/env.new\nmv ~/env.new ~/env\n"
               "exec sleep 1000")
    image = ("etc/environment", 0o644, own + 'TZ="Europe/Madrid"\nHOME=/x\n')
    with Display() as screen, Box(files=[program, image]) as box:
        box.connect(screen)
        file = box.path("/home/alice/env")
        eventually(file.exists, 20)
        env = dict(x.split("=", 1) for x in file.read_text().splitlines())
        assert env["MALLOC_MMAP_THRESHOLD_"] == expected
        assert (env["TZ"], env["HOME"]) == ("Europe/Madrid", "/home/alice")


# ---- hooks ----

def test_a_hook_refuses_an_action():
    hook = ("etc/qvd/hooks/action/pre-connect", 0o755,
            "#!/bin/sh\necho hello\necho 'licence \x07server is down' >&2\n"
            "exit 1")
    with Box(files=[hook]) as box:
        e = refused(box)
        assert e.id == "session-failed"
        assert e.message == (
            "the image's hook 'action/pre-connect': exited with 1: "
            "licence \\x07server is down")
        assert box.state()["session"] == "stopped"


def test_a_hook_that_hangs():
    hook = ("etc/qvd/hooks/action/pre-connect", 0o755,
            "#!/bin/sh\nsleep 1000")
    conf = ("etc/qvd/vma.conf", 0o644, "[vma]\nhook_timeout = 1s\n")
    with Box(files=[hook, conf]) as box:
        e = refused(box)
        assert "pre-connect" in e.message
        eventually(lambda: len(box.processes()) == 1, 5)


def test_hooks_run_in_order(display):
    names = ["action/pre-connect", "action/connect", "action/stop",
             "state/connected", "state/disconnected", "state/suspended",
             "provisioning/mount_home", "provisioning/after_add_user"]
    # What the end of a connection takes long to do, the next one waits for.
    script = "#!/bin/sh\ncase $0 in */state/*) sleep 0.3;; esac\n" \
        "echo $0 >>/tmp/order"
    with Box(files=[(f"etc/qvd/hooks/{n}", 0o755, script)
                    for n in names]) as box:
        _, client = box.connect(display)
        box.wait("connected")
        client.kill()
        box.wait("suspended")
        box.post().json()
        box.call("DELETE", "/session")
        order = eventually(
            lambda: (lines := box.path("/tmp/order").read_text().split())
            and len(lines) >= 10 and lines, 10)
        short = [x.removeprefix("/etc/qvd/hooks/") for x in order]
        assert short[:4] == ["action/pre-connect", "provisioning/mount_home",
                             "provisioning/after_add_user", "action/connect"]
        assert short[4:7] == ["state/connected", "state/disconnected",
                              "state/suspended"]
        assert short[7:10] == ["action/pre-connect", "action/connect",
                               "action/stop"]


def test_an_expiring_machine_tells_its_hook():
    hook = ("etc/qvd/hooks/action/expire", 0o755, HOOK)
    with Box(files=[hook]) as box:
        assert box.call("POST", "/expire", {"soft": "2030-01-01T00:00:00Z"})
        args, text = box.path("/tmp/hooks").read_text().split("\n")[:2]
        assert "qvd.vm.expiration.soft 2030-01-01T00:00:00Z" in args
        assert json.loads(text)["hook"] == "expire"


def test_a_hook_that_adds_the_user():
    hook = ("etc/qvd/hooks/provisioning/add_user", 0o755,
            "#!/bin/sh\nuseradd -u 2000 -m -d /home/own alice")
    with Box(files=[hook]) as box:
        box.post().json()
        assert box.path("/home/own").is_dir()
        assert not box.path("/home/alice").exists()


# ---- process 1 ----

def test_orphans_are_reaped(desktop):
    """A thousand of them, while our own children live and die."""
    box = desktop
    box.run("sh", "-c",
            "i=0; while [ $i -lt 300 ]; do (sleep 0.01 & sleep 0 &);"
            " i=$((i+1)); done")

    def zombies():
        return [p for p in box.processes() if Box._stat(p)[0] == "Z"]

    eventually(lambda: not zombies(), 10, "no zombies")
    assert box.state()["session"] == "connected"


@pytest.mark.parametrize("signum", [
    signal.SIGTERM, signal.SIGPWR, signal.SIGRTMIN + 3])
def test_signals_end_everything(desktop, signum):
    box = desktop
    box.run("sh", "-c", "trap '' TERM; sleep 1000 >/dev/null 2>&1 &")
    os.kill(box.init, signum)
    assert box.process.wait(timeout=20) == 0
    assert "the end" in box.tail()


def test_poweroff(desktop):
    assert desktop.call("POST", "/poweroff") == {"state": "stopping"}
    assert desktop.process.wait(timeout=20) == 0


def test_poweroff_while_starting():
    hook = ("etc/qvd/hooks/action/pre-connect", 0o755,
            "#!/bin/sh\nsleep 1000")
    with Box(files=[hook]) as box:
        held = box.post()
        box.wait("starting")
        box.call("POST", "/poweroff")
        with pytest.raises(HttpError) as e:
            held.json()
        assert e.value.id == "cancelled"
        assert box.process.wait(timeout=20) == 0


def test_as_a_service_of_another_init(display):
    """It ends only what is its own, and what it started ends with it."""
    init = "/bin/sh -c '/usr/lib/qvd/qvd-vma --service & sleep 999 & wait'"
    with Box(init=init) as box:
        box.connect(display)
        box.wait("connected")
        eventually(lambda: box.pid_of("openbox"), 20, "the desktop")
        os.kill(box.pid_of("/usr/lib/qvd/qvd-vma"), signal.SIGTERM)
        eventually(lambda: not box.pid_of("/usr/lib/qvd/qvd-vma"), 20)
        assert not box.pid_of("/usr/bin/nxagent")
        assert box.pid_of("sleep 999")
    with Box(init=init) as box:
        box.connect(display)
        box.wait("connected")
        os.kill(box.pid_of("/usr/lib/qvd/qvd-vma"), signal.SIGKILL)
        eventually(lambda: not box.pid_of("/usr/bin/nxagent"), 5)


def test_the_rest_of_the_interface(box):
    for method, target, status in (("GET", "/nothing", 404),
                                   ("GET", "/session", 404),
                                   ("POST", "/session", 400),
                                   ("GET", "/session/stream", 426)):
        with pytest.raises(HttpError) as e:
            box.call(method, target)
        assert e.value.status == status
    assert box.call("DELETE", "/session") == {"state": "stopped"}
    assert box.call("POST", "/session/suspend") == {"state": "stopped"}
    state = box.state()
    assert state["session"] == "stopped"
    assert state["version"]
