# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-client and libqvdclient against a server that says what each test
wants, with real nxagent and X servers behind and before it."""

import json
import os
import signal
import subprocess
import time

import pytest
from clientlab import KEY, Agent, Client, Server, certificate
from qvdlab import Display, eventually, need, programs

EXIT_USAGE, EXIT_AUTH, EXIT_FORBIDDEN, EXIT_NOT_FOUND = 2, 12, 14, 15
EXIT_PARAMETER, EXIT_UPGRADE, EXIT_UNAVAILABLE = 18, 19, 20
EXIT_NETWORK, EXIT_TLS, EXIT_PROTOCOL, EXIT_SESSION = 25, 26, 27, 32
EXIT_TAKEN_OVER, EXIT_CERTIFICATE, EXIT_CONFIG = 33, 35, 36


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path)
    yield s
    s.close()


@pytest.fixture
def client(tmp_path, server):
    c = Client(tmp_path, server)
    yield c
    c.close()


@pytest.fixture
def screen():
    need("Xvfb", "nxagent", "xdotool")
    with Display(size="1024x768") as display:
        yield display


@pytest.fixture
def agent(server, tmp_path_factory):
    need("nxagent", "xterm")
    number = 30000 + os.getpid() % 20000
    a = Agent(tmp_path_factory.mktemp("nx"), number)
    server.agent = a
    yield a
    a.close()


# Lists, tokens, stopping

def test_list_as_a_table(server, client):
    server.answers["/qvd/list_of_applications"] = [Server.json(
        [{"id": 9, "name": "calc", "state": "running", "blocked": 1,
          "is_application": 1, "of the future": True}])]
    out = client.run("list")
    assert out.returncode == 0, out.stderr
    lines = [line.split(None, 3) for line in out.stdout.splitlines()]
    assert lines == [["ID", "NAME", "STATE", "KIND"],
                     ["7", "desk", "stopped", "desktop"],
                     ["9", "calc", "running",
                      "application, under maintenance"]]
    assert server.requests[0].headers["Authorization"] == \
        "Basic YWxpY2U6c2VjcmV0"


def test_list_as_json_and_without_any(server, client):
    out = client.run("--list", "-o", "json")
    assert json.loads(out.stdout) == [{
        "id": 7, "name": "desk", "state": "stopped", "blocked": False,
        "is_application": False}]
    server.answers["/qvd/list_of_vm"] = [Server.json([])]
    assert json.loads(client.run("list", "-o", "json").stdout) == []
    out = client.run("list")
    assert out.returncode == 0 and "no desktops" in out.stderr


def test_several_requests_use_one_connection(server, client):
    used = []

    def remember(link, request):
        used.append(link)
        link.sendall(Server.json([]))
    server.answers["/qvd/list_of_vm"] = [remember]
    server.answers["/qvd/list_of_applications"] = [remember]
    assert client.run("list").returncode == 0
    assert used[0] is used[1]


def test_a_stale_connection_is_opened_again(server, client):
    def last_one(link, _request):
        link.sendall(Server.json([]))
        link.close()
    server.answers["/qvd/list_of_vm"] = [last_one]
    out = client.run("list")
    assert out.returncode == 0, out.stderr
    assert len(server.seen("/qvd/list_of_applications")) == 1


def test_token(server, client):
    out = client.run("token")
    assert out.returncode == 0 and out.stdout == "T0ken\n"
    out = client.run("list", QVD_PASSWORD=None, QVD_USER=None,
                     QVD_TOKEN="T0ken")
    assert out.returncode == 0
    assert server.requests[-1].headers["Authorization"] == "Bearer VDBrZW4="


def test_stop_by_id_by_name_and_the_only_one(server, client):
    for args in (["stop", "localhost", "7"], ["--stop", "--vm", "desk"],
                 ["stop"]):
        out = client.run(*args, QVD_PORT=server.port)
        assert out.returncode == 0, out.stderr
        assert server.requests[-1].query == {"id": "7"}
    assert "is stopped" in out.stderr


def test_choosing_needs_a_name(server, client):
    desks = [{"id": i, "name": f"d{i}", "state": "stopped", "blocked": 0}
             for i in (1, 2)]
    server.answers["/qvd/list_of_vm"] = [Server.json(desks)]
    out = client.run("stop")
    assert out.returncode == EXIT_USAGE and "'d1', 'd2'" in out.stderr
    out = client.run("stop", "--vm", "d3")
    assert out.returncode == EXIT_NOT_FOUND and "'d3'" in out.stderr
    assert not server.seen("/qvd/stop_vm")


# Secrets

def test_password_file(server, client, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("pa:ss\nnot this\n")
    secret.chmod(0o600)
    args = ("list", "--password-file", secret)
    assert client.run(*args, QVD_PASSWORD=None).returncode == 0
    assert server.requests[-1].headers["Authorization"] == \
        "Basic YWxpY2U6cGE6c3M="
    secret.chmod(0o640)
    out = client.run(*args, QVD_PASSWORD=None)
    assert out.returncode == EXIT_CONFIG and "chmod 600" in out.stderr
    out = client.run("list", "--password-file", tmp_path / "none")
    assert out.returncode == EXIT_CONFIG and "No such file" in out.stderr


def test_password_from_the_terminal_without_echo(server, client):
    pid, tty = os.forkpty()
    if pid == 0:
        env = client.environment({"QVD_PASSWORD": None})
        os.execvpe(client.command()[0], client.command("list"), env)
    seen = b""
    while b"Password of alice at localhost: " not in seen:
        seen += os.read(tty, 1000)
    os.write(tty, b"secret\n")
    try:
        while True:
            more = os.read(tty, 1000)
            if not more:
                break
            seen += more
    except OSError:
        pass  # how a terminal says that nobody is left
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    assert b"desk" in seen and b"secret" not in seen


def test_no_terminal_no_password(client):
    out = client.run("list", QVD_PASSWORD=None)
    assert out.returncode == EXIT_USAGE and "--password-file" in out.stderr


def test_the_password_leaves_the_environment(server, client):
    """Nor does it go to the viewer."""
    found = []

    def look(link, _request):
        with open(f"/proc/{child.pid}/environ", "rb") as f:
            found.append(f.read())
        link.sendall(Server.json([]))
    server.answers["/qvd/list_of_vm"] = [look]
    child = client.start("list")
    assert child.wait(20) == 0
    assert b"QVD_USER" in found[0] and b"secret" not in found[0]


# Certificates

def test_unknown_certificate_is_refused(server, client):
    out = client.run("list", QVD_CA=None)
    assert out.returncode == EXIT_CERTIFICATE
    for word in ("--ca", "--trust-first-use", "SHA256:"):
        assert word in out.stderr
    assert not server.requests


def test_certificate_of_another_host_is_refused(server, client):
    out = client.run("list", QVD_HOST="127.0.0.1")
    assert out.returncode == EXIT_CERTIFICATE
    assert "not for '127.0.0.1'" in out.stderr
    assert not server.requests


def test_authority(client, tmp_path):
    certificate(tmp_path, "ca")
    other = Server(tmp_path, "signed", "127.0.0.1", ca="ca")
    out = client.run("list", QVD_CA=tmp_path / "ca.pem", QVD_HOST="127.0.0.1",
                     QVD_PORT=other.port)
    assert out.returncode == 0, out.stderr
    out = client.run("list", "--ca", tmp_path / "ca.key")
    assert out.returncode == EXIT_CONFIG and "ca.key" in out.stderr
    other.close()


def test_trust_on_first_use_and_a_change(server, client, tmp_path):
    known = client.home / ".config/qvd/known_hosts"
    out = client.run("list", "--trust-first-use", QVD_CA=None)
    assert out.returncode == 0 and "remembered" in out.stderr
    assert known.stat().st_mode & 0o777 == 0o600
    assert known.parent.stat().st_mode & 0o777 == 0o700
    text = known.read_text()
    assert text.startswith(f"localhost:{server.port} SHA256:")
    # From now on without the option, and silently.
    out = client.run("list", QVD_CA=None)
    assert out.returncode == 0 and out.stderr == ""
    # Another certificate on the same port.
    known.write_text(text.replace("SHA256:", "SHA256:x"))
    done = len(server.requests)
    for option in ([], ["--trust-first-use"]):
        out = client.run("list", *option, QVD_CA=None)
        assert out.returncode == EXIT_CERTIFICATE
        assert "line 1" in out.stderr and "listening in" in out.stderr
    assert len(server.requests) == done
    known.chmod(0o666)
    out = client.run("list", QVD_CA=None)
    assert out.returncode == EXIT_CONFIG and "others can write" in out.stderr


def test_no_tls_and_no_server(client, tmp_path):
    import socket
    import threading
    with socket.create_server(("127.0.0.1", 0)) as plain:
        def serve():
            s, _ = plain.accept()
            s.recv(100)
            s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            s.close()
        threading.Thread(target=serve, daemon=True).start()
        port = plain.getsockname()[1]
        out = client.run("list", QVD_PORT=port)
        assert out.returncode == EXIT_TLS and "check host and port" in \
            out.stderr
    out = client.run("list", QVD_PORT=port)
    assert out.returncode == EXIT_NETWORK
    assert "Connection refused" in out.stderr
    out = client.run("list", QVD_HOST="nowhere.invalid")
    assert out.returncode == EXIT_NETWORK and "nowhere.invalid" in out.stderr


# What servers say

@pytest.mark.parametrize("status, body, headers, code, words", [
    (401, "Unauthorized", {}, EXIT_AUTH, "user or password is wrong"),
    (402, "", {}, EXIT_FORBIDDEN, "no subscription"),
    (403, "The requested virtual machine is offline for maintenance\r\n",
     {"X_QVD_Error": "blocked"}, 13, "offline for maintenance"),
    (404, "The requested virtual machine does not exist\r\n", {},
     EXIT_NOT_FOUND, "does not exist"),
    (409, "x", {"X_QVD_Error": "session-taken-over"}, EXIT_TAKEN_OVER,
     "taken over by another client"),
    (422, "parameter id is missing\r\n", {}, EXIT_PARAMETER, "id is missing"),
    (426, "", {}, EXIT_UPGRADE, "newer client"),
    (503, "The requested virtual machine is not available: no space, retry "
     "later. (no-space, reference ABCD2345)",
     {"X_QVD_Error": "no-space", "X_QVD_Ref": "ABCD2345"}, 22, "no space"),
    (503, "", {"X_QVD_Ref": "ABCD2345"}, EXIT_UNAVAILABLE,
     "reference ABCD2345"),
    (418, "<html>", {}, EXIT_PROTOCOL, "is this a QVD server?"),
    (503, "evil \x1b[31m text \x07", {}, EXIT_UNAVAILABLE, "\\x1b[31m"),
])
def test_refusals(server, client, status, body, headers, code, words):
    server.answers["/qvd/stop_vm"] = [Server.text(status, body, **headers)]
    out = client.run("stop", "localhost", "7", QVD_PORT=server.port)
    assert out.returncode == code, out.stderr
    assert words in out.stderr
    assert "\x1b" not in out.stderr
    if "X_QVD_Ref" in headers:
        assert out.stderr.count(headers["X_QVD_Ref"]) == 1


def test_error_as_json(server, client):
    server.answers["/qvd/stop_vm"] = [
        Server.text(503, "no", X_QVD_Error="vm-lost", X_QVD_Ref="AAAA2222")]
    out = client.run("stop", "-o", "json", "localhost", "7")
    assert json.loads(out.stderr) == {"error": {
        "id": "vm-lost", "message": "no", "reference": "AAAA2222",
        "exit_code": 31}}


HOSTILE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000,
    "huge body": b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" +
                 b"x" * (3 << 20),
    "endless chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                     b"\r\n1;" + b"e" * (10 << 20),
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{]}",
    "deep JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" +
                 b"[" * 40000,
    "no list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "no id": b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n"
             b'[{"name": 1}]',
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\n\r\nNXPROXY",
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers(server, client, answer):
    def say(link, _request):
        link.sendall(answer)
        link.close()
    server.answers["/qvd/list_of_vm"] = [say]
    out = client.run("list", timeout=30)
    assert out.returncode == EXIT_PROTOCOL, out.stderr
    assert len(out.stderr) < 700


def test_server_closes_within_its_answer(server, client):
    def say(link, _request):
        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[")
        link.close()
    server.answers["/qvd/list_of_vm"] = [say]
    out = client.run("list")
    assert out.returncode == EXIT_NETWORK and "within its answer" in out.stderr


@pytest.mark.parametrize("args", [
    ["--frobnicate"], ["--port", "0"], ["--port"], ["list", "--stop"],
    ["a", "b", "c"], ["-o", "xml"], ["--geometry", "1x1", "--vm", "7"],
    ["--link", "carrier-pigeon", "--vm", "7"], ["--param", "x"],
    ["--param", "evil=1", "--vm", "7"], ["--reconnect", "soon"],
    ["--keyboard", "pc105/us,evil=1", "--vm", "7"], ["list", "ho st"],
])
def test_usage_errors(client, args):
    out = client.run(*args)
    assert out.returncode == EXIT_USAGE, out.stderr
    assert out.stderr.startswith("qvd-client: ")


# Sessions

def test_no_display(server, client):
    for env in ({}, {"DISPLAY": ":54321"}):
        out = client.run("--vm", "7", **env)
        assert out.returncode == EXIT_SESSION and "DISPLAY" in out.stderr
    assert not server.seen("/qvd/connect_to_vm")  # no desktop was started
    assert not client.leftovers()


def connect(client, screen, *args, **env):
    return client.start("connect", *args, DISPLAY=screen.name, **env)


def type_line(screen, agent, text):
    screen.click(100, 100)
    screen.type(text + "\n")
    eventually(lambda: text in agent.typed.read_text(), 20,
               f"'{text}' typed in the desktop")


def test_session(server, client, screen, agent):
    child = connect(client, screen, "-v", "--geometry", "800x600", "--link",
                    "adsl", "--keyboard", "pc104/es", "--param",
                    "custom.where=a b&c")
    screen.wait_window("QVD")
    eventually(agent.typed.exists, 20)
    screen.wait_drawn(2)
    type_line(screen, agent, "Hello, desktop!")
    query = server.seen("/qvd/connect_to_vm")[0].query
    assert query == {
        "id": "7", "qvd.client.os": "linux", "qvd.client.link": "adsl",
        "qvd.client.keyboard": "pc104/es", "qvd.client.fullscreen": "0",
        "qvd.client.geometry": "800x600", "custom.where": "a b&c"}
    headers = server.seen("/qvd/connect_to_vm")[0].headers
    assert headers["Connection"] == "Upgrade"
    assert headers["Upgrade"] == "QVD/1.0"
    assert "X-QVD-Resume" not in headers
    out = child.out.read_text()
    assert "Starting virtual machine" in out and "Connected." in out
    # Ctrl-C: the session stays.
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(10) == 0
    assert "session waits" in child.out.read_text()
    eventually(lambda: "Session suspended at" in agent.text(), 20)
    assert not client.leftovers()
    # And is resumed, with its content.
    again = connect(client, screen)
    screen.wait_window("QVD")
    type_line(screen, agent, "Hello again")
    again.send_signal(signal.SIGTERM)
    assert again.wait(10) == 0


def test_keyboard_and_size_come_from_the_x_server(server, client, screen):
    server.answers["/qvd/connect_to_vm"] = [Server.text(503, "enough")]
    screen.do("setxkbmap", "-model", "pc105", "-layout", "de,us")
    out = client.run("connect", DISPLAY=screen.name)
    assert out.returncode == EXIT_UNAVAILABLE
    query = server.seen("/qvd/connect_to_vm")[0].query
    assert query["qvd.client.keyboard"] == "pc105/de"
    assert query["qvd.client.link"] == "lan"  # measured, on loopback
    # Nobody manages windows on this screen: all of it.
    assert query["qvd.client.geometry"] == "1024x768"
    assert query["qvd.client.fullscreen"] == "1"
    client.run("connect", "--geometry", "800x600", DISPLAY=screen.name)
    query = server.seen("/qvd/connect_to_vm")[1].query
    assert query["qvd.client.geometry"] == "800x600"
    assert query["qvd.client.fullscreen"] == "0"


def test_reconnects_after_a_lost_link(server, client, screen, agent):
    child = connect(client, screen)
    screen.wait_window("QVD")
    eventually(agent.typed.exists, 20)
    type_line(screen, agent, "before")
    for n, lose in enumerate((server.cut, server.reset), 1):
        lose()
        eventually(lambda: len(server.seen("/qvd/connect_to_vm")) > n, 20)
        eventually(lambda: child.out.read_text().count("Connected.") > n, 20)
        screen.wait_window("QVD")
        type_line(screen, agent, f"after{n}")
        last = server.seen("/qvd/connect_to_vm")[-1]
        assert last.headers["X-QVD-Resume"] == KEY
        # By a token: a one-time password would not do a second time.
        assert last.headers["Authorization"] == "Bearer VDBrZW4="
    assert "trying again in" in child.out.read_text()
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 0
    assert not client.leftovers()


def test_a_viewer_that_is_killed_ends_the_client(server, client, screen,
                                                 agent):
    from qvdlab.util import descendants
    child = connect(client, screen)
    screen.wait_window("QVD")
    viewer = [pid for pid, args in descendants(child.pid).items()
              if args and args[0] == "qvd-client-nx"]
    os.kill(viewer[0], signal.SIGKILL)
    assert child.wait(10) == EXIT_SESSION
    assert "signal 9" in child.out.read_text()
    assert not client.leftovers()


def test_taken_over(server, client, screen, agent):
    server.answers["/qvd/connect_to_vm"] = [
        server.session,
        Server.text(409, "x", X_QVD_Error="session-taken-over",
                    X_QVD_Ref="TAKE2345")]
    child = connect(client, screen)
    screen.wait_window("QVD")
    eventually(lambda: "Connected." in child.out.read_text(), 20)
    server.cut()
    assert child.wait(20) == EXIT_TAKEN_OVER
    out = child.out.read_text()
    assert "taken over by another client" in out and "TAKE2345" in out
    assert len(server.seen("/qvd/connect_to_vm")) == 2


def test_a_good_bye_that_comes_too_late(server, client, screen, agent):
    """The farm closes the stream and knows why: nobody speaks of a loss."""
    server.answers["/qvd/connect_to_vm"] = [
        server.session,
        Server.text(410, "x", X_QVD_Error="session-ended")]
    child = connect(client, screen)
    screen.wait_window("QVD")
    eventually(lambda: "Connected." in child.out.read_text(), 20)
    server.end()
    assert child.wait(20) == 0
    out = child.out.read_text()
    assert "session has ended" in out and "lost" not in out
    assert len(server.seen("/qvd/connect_to_vm")) == 2


def test_a_router_that_restarts_is_not_noticed(server, client, screen, agent):
    server.answers["/qvd/connect_to_vm"] = [server.session, server.session]
    child = connect(client, screen)
    screen.wait_window("QVD")
    eventually(lambda: "Connected." in child.out.read_text(), 20)
    server.end()
    eventually(lambda: child.out.read_text().count("Connected.") == 2, 20)
    assert "lost" not in child.out.read_text()
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 0


def test_gives_up_after_the_time(server, client, screen, agent):
    server.answers["/qvd/connect_to_vm"] = [
        server.session, Server.text(503, "no desktop")]
    child = connect(client, screen, "--reconnect", "2s")
    eventually(lambda: "Connected." in child.out.read_text(), 20)
    server.cut()
    assert child.wait(30) == EXIT_UNAVAILABLE
    assert len(server.seen("/qvd/connect_to_vm")) > 2


def test_never_reconnects_if_told_so(server, client, screen, agent):
    child = connect(client, screen, "--reconnect", "0")
    eventually(lambda: "Connected." in child.out.read_text(), 20)
    server.cut()
    assert child.wait(20) == EXIT_NETWORK
    assert "link to the desktop is lost" in child.out.read_text()
    assert not server.seen("/qvd/create_auth_token")


def test_the_end_of_the_session_ends_the_client(server, client, screen,
                                                agent):
    """The user logs out: that is not a lost link."""
    child = connect(client, screen)
    screen.wait_window("QVD")
    eventually(lambda: "Connected." in child.out.read_text(), 20)
    agent.process.terminate()
    assert child.wait(20) == 0
    assert "session has ended" in child.out.read_text()
    assert len(server.seen("/qvd/connect_to_vm")) == 1


def test_the_x_server_goes_away(server, client, agent):
    need("Xvfb")
    with Display(size="1024x768") as screen:
        child = connect(client, screen)
        eventually(agent.typed.exists, 20)
        screen.process.kill()
        assert child.wait(20) == EXIT_SESSION
    assert "has gone" in child.out.read_text()
    eventually(lambda: "Session suspended at" in agent.text(), 20)


def test_a_dialog_ends_with_the_client():
    """Also when nobody told it of its parent's death."""
    child = subprocess.Popen(
        [programs() / "qvd-client-nx", "--dialog", "ok", "--local"],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    child.stdout.close()
    assert child.wait(20) == 0


def test_x_authority(server, client, agent, tmp_path):
    """An X server that wants a cookie gets the user's."""
    need("Xvfb", "xauth", "mcookie")
    from qvdlab import run
    auth = tmp_path / "authority"
    number = 29000 + os.getpid() % 1000
    cookie = run("mcookie").strip()
    run("xauth", "-f", auth, "add", f":{number}", ".", cookie)
    reader, writer = os.pipe()
    xvfb = subprocess.Popen(
        ["Xvfb", f":{number}", "-auth", auth, "-displayfd", str(writer),
         "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    os.read(reader, 10)
    try:
        out = client.run("connect", DISPLAY=f":{number}",
                         XAUTHORITY=tmp_path / "none")
        assert out.returncode == EXIT_SESSION and "XAUTHORITY" in out.stderr
        child = client.start("connect", "-v", DISPLAY=f":{number}",
                             XAUTHORITY=auth)
        eventually(lambda: "Connected." in child.out.read_text(), 20)
        eventually(agent.typed.exists, 20)
        env = dict(os.environ, DISPLAY=f":{number}", XAUTHORITY=str(auth))
        eventually(lambda: run("xdotool", "search", "--onlyvisible",
                               "--name", "QVD", env=env, check=False), 20)
    finally:
        os.close(reader)
        xvfb.kill()
        xvfb.wait()


@pytest.mark.parametrize("at", ["handshake", "list", "connect", "session"])
def test_interrupting(server, client, screen, at):
    """Ctrl-C is heard at once, whatever the client waits for."""
    here = []

    def hang(_link, _request):
        here.append(1)
        time.sleep(30)
    if at == "handshake":
        import socket
        mute = socket.create_server(("127.0.0.1", 0))
        client.env["QVD_PORT"] = str(mute.getsockname()[1])
        here.append(1)
    if at == "list":
        server.answers["/qvd/list_of_vm"] = [hang]
    if at == "connect":
        server.answers["/qvd/connect_to_vm"] = [hang]
    if at == "session":
        def quiet(link, _request):
            link.sendall(Server.switch())
            hang(link, _request)
        server.answers["/qvd/connect_to_vm"] = [quiet]
    child = connect(client, screen)
    eventually(lambda: here, 20)
    if at == "handshake":
        peer, _ = mute.accept()  # kept, or it would be closed
    if at == "session":
        time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    # Not for as long as nobody answers, which is 30 s.
    assert child.wait(20) == (0 if at == "session" else 34)
    assert not client.leftovers()


def test_bytes_after_the_101_are_not_lost(server, client, screen, agent):
    """The agent's side may speak in the same record as the 101."""
    def early(link, request):
        stream = agent.open(request)
        data = Server.progress("one") * 50 + Server.switch()
        # In NX the client's side speaks first; what comes early here is a
        # wrong greeting, which the viewer must get to see.
        link.sendall(data + b"NXPROXY-0.0.0 nonsense that ends it\n" * 4)
        stream.close()
        time.sleep(5)
        link.close()
    server.answers["/qvd/connect_to_vm"] = [early]
    out = client.run("connect", "-v", DISPLAY=screen.name, timeout=60)
    assert out.returncode == EXIT_SESSION
    assert out.stderr.count("  one\n") == 50
    assert "'nonsense'" in out.stderr or "0.0.0" in out.stderr, out.stderr
