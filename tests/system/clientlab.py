# SPDX-License-Identifier: GPL-3.0-or-later
"""What the client is tested against, without a farm: a server that says
exactly what a test wants, and a real nxagent behind it."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import threading
import urllib.parse

from qvdlab import eventually, programs, run
from qvdlab.build import BROKEN, SANITIZER_ENV

KEY = "k" * 64
DESKS = [{"id": 7, "name": "desk", "state": "stopped", "blocked": 0,
          "is_application": 0}]


def certificate(directory, name="server", host="localhost", ca=None):
    """A self-signed certificate, or one by the authority `ca` (a name)."""
    key, cert = directory / f"{name}.key", directory / f"{name}.pem"
    how = [] if ca is None else ["-CA", directory / f"{ca}.pem",
                                 "-CAkey", directory / f"{ca}.key"]
    kind = "IP" if host[0].isdigit() else "DNS"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert,
        "-subj", f"/CN={name}", "-days", "2", "-addext",
        f"subjectAltName={kind}:{host}",
        "-addext", f"basicConstraints=critical,CA:{'FALSE' if ca else 'TRUE'}",
        *how)
    return cert


class Request:
    def __init__(self, head):
        lines = head.split("\r\n")
        self.target = lines[0].split(" ")[1]
        self.path, _, query = self.target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        self.headers = dict(line.split(": ", 1) for line in lines[1:] if line)


class Server:
    """Speaks the QVD protocol. `answers[path]` is a list of what to send,
    used up one a request, the last one for ever: bytes, or a function
    (connection, request). Requests are kept in .requests."""

    def __init__(self, directory, name="server", host="localhost", ca=None):
        self.dir = directory
        self.cert = certificate(directory, name, host, ca)
        self.requests = []
        self.links = []
        self.agent = None
        self.answers = {
            "/qvd/list_of_vm": [self.json(DESKS)],
            "/qvd/list_of_applications": [self.json([])],
            "/qvd/create_auth_token": [self.json({"auth_token": "T0ken\n"})],
            "/qvd/authenticate_user": [self.json({})],
            "/qvd/stop_vm": [self.text(200, "Machine stopped\r\n")],
            "/qvd/connect_to_vm": [self.session],
        }
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.cert, self.cert.with_suffix(".key"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @staticmethod
    def response(status, headers, body=b""):
        lines = [f"HTTP/1.1 {status} Whatever"]
        lines += [f"{k}: {v}" for k, v in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    @classmethod
    def json(cls, value):
        body = json.dumps(value, indent=3).encode()
        return cls.response(200, {"Content-Type": "application/json",
                                  "Content-Length": len(body)}, body)

    @classmethod
    def text(cls, status, body, **headers):
        body = body.encode()
        return cls.response(status, {
            "Content-Type": "text/plain", "Content-Length": len(body),
            **{k.replace("_", "-"): v for k, v in headers.items()}}, body)

    @classmethod
    def progress(cls, text):
        return cls.response(102, {"X-QVD-VM-Info": text})

    @classmethod
    def switch(cls, key=KEY):
        return cls.response(101, {"X-QVD-Slave-Key": key})

    def seen(self, path):
        return [r for r in self.requests if r.path == path]

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    # Connections

    def _accept(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,),
                             daemon=True).start()

    def _serve(self, raw):
        with contextlib.suppress(OSError, ssl.SSLError, ValueError):
            link = self.tls.wrap_socket(raw, server_side=True)
            raw = link
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    more = link.recv(1)
                    if not more:
                        return
                    head += more
                request = Request(head.decode()[:-4])
                self.requests.append(request)
                what = self.answers.get(request.path)
                if what is None:
                    what = [self.text(404, "Not found")]
                answer = what.pop(0) if len(what) > 1 else what[0]
                if callable(answer):
                    answer(link, request)
                else:
                    link.sendall(answer)
        raw.close()

    # A session

    def session(self, link, request):
        """102, 102, 101, and then the agent's bytes."""
        for text in ("Starting virtual machine", "Connection established"):
            link.sendall(self.progress(text))
        stream = self.agent.open(request)
        link.sendall(self.switch())
        self.links.append((link, stream))
        pump(link, stream)

    def end(self):
        """The streams end in order, without NX's good-bye."""
        for _, stream in self.links:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RD)
        self.links = []

    def cut(self):
        """As if the server had been killed: FIN without TLS's good-bye."""
        for link, stream in self.links:
            for s in (link, stream):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(s, socket.SHUT_RDWR)
        self.links = []

    def reset(self):
        """As if a router had forgotten it: a RST."""
        for link, stream in self.links:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            os.close(link.detach())
        self.links = []


def pump(link, stream):
    """Both ways until one ends; TLS is read in small steps, because an
    SSLSocket can't be read and written by two threads at once."""
    link.settimeout(0.005)
    stream.setblocking(False)
    while True:
        with contextlib.suppress(ssl.SSLWantReadError, TimeoutError):
            data = link.recv(65536)
            if not data:
                break
            stream.setblocking(True)
            stream.sendall(data)
            stream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            data = stream.recv(65536)
            if not data:
                break
            link.settimeout(20)
            link.sendall(data)
            link.settimeout(0.005)
    link.settimeout(5)
    with contextlib.suppress(OSError, ssl.SSLError):
        link.unwrap()
    stream.close()


class Agent:
    """nxagent with an xterm that writes what is typed into a file. Its
    display number is the test's, so that tests can run side by side."""

    def __init__(self, directory, number, geometry="800x600", extra=""):
        self.dir = pathlib.Path(directory)
        self.number = number
        self.name = f":{number}"
        self.options = self.dir / "options"
        self.typed = self.dir / "typed"
        self.extra = extra
        self.n = 0
        self.geometry = geometry
        self.log = (self.dir / "agent.log").open("w+")
        self._write_options()
        self.process = subprocess.Popen(
            ["nxagent", self.name, "-ac", "-name", "QVD", "-nolisten", "tcp",
             "-display", f"nx/nx,options={self.options}:{number}"],
            env=dict(os.environ, NX_ROOT=str(self.dir), HOME=str(self.dir)),
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
            start_new_session=True)
        self.xterm = None

    def text(self):
        return (self.dir / "agent.log").read_text(errors="replace")

    def _write_options(self):
        self.n += 1
        self.socket = self.dir / f"nx{self.n}.sock"
        self.options.write_text(
            f"nx/nx,resize=1,keyboard=pc105/us,client=linux,link=lan,"
            f"geometry={self.geometry},fullscreen=0,sleep=0{self.extra},"
            f"listen=unix:{self.socket}:{self.number}\n")

    def _poke(self):
        with socket.socket(socket.AF_UNIX) as s, \
                contextlib.suppress(OSError):
            s.connect(f"/tmp/.X11-unix/X{self.number}")

    def open(self, _request=None):
        """A stream to it; the second time it is resumed first."""
        if self.xterm is not None:
            eventually(lambda: self.text().count("Session suspended at") >=
                       self.n, 20, "a suspended agent")
            self._write_options()
            self.process.send_signal(signal.SIGHUP)

        stream = socket.socket(socket.AF_UNIX)

        def connected():
            if self.xterm is not None:
                self._poke()
            try:
                stream.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False  # not made, or bound and not listening yet
            return True
        eventually(connected, 20, "the agent's socket")
        if self.xterm is None:
            self.xterm = threading.Thread(target=self._xterm, daemon=True)
            self.xterm.start()
        return stream

    def _xterm(self):
        eventually(lambda: os.path.exists(f"/tmp/.X11-unix/X{self.number}"),
                   30)
        self.terminal = subprocess.Popen(
            ["xterm", "-geometry", "100x30+0+0", "-e",
             f"cat >{self.typed}"],
            env=dict(os.environ, DISPLAY=self.name),
            stderr=subprocess.DEVNULL, start_new_session=True)

    def close(self):
        for p in (getattr(self, "terminal", None), self.process):
            if p is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        with contextlib.suppress(OSError):
            os.unlink(f"/tmp/.X{self.number}-lock")
            os.unlink(f"/tmp/.X11-unix/X{self.number}")
        print(f"-- the agent of {self.name}\n{self.text()}")
        self.log.close()


class Client:
    """qvd-client with a home of its own. What it said is told at the end,
    where a failed test shows it."""

    def __init__(self, directory, server):
        self.server = server
        self.home = pathlib.Path(directory) / "home"
        self.home.mkdir(exist_ok=True)
        self.processes = []
        self.env = dict(os.environ, **SANITIZER_ENV, HOME=str(self.home),
                        TMPDIR=str(self.home), QVD_HOST="localhost",
                        QVD_PORT=str(server.port), QVD_USER="alice",
                        QVD_PASSWORD="secret", QVD_CA=str(server.cert))
        for name in ("DISPLAY", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
                     "QVD_VM", "QVD_TOKEN"):
            self.env.pop(name, None)

    def command(self, *args):
        return [str(programs() / "qvd-client"), *(str(a) for a in args)]

    def run(self, *args, timeout=60, **env):
        """To its end; a CompletedProcess."""
        out = subprocess.run(
            self.command(*args), env=self.environment(env), text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
            check=False, start_new_session=True)
        assert not any(b in out.stderr for b in BROKEN), out.stderr
        return out

    def environment(self, env):
        merged = dict(self.env, **env)
        return {k: str(v) for k, v in merged.items() if v is not None}

    def start(self, *args, **env):
        """In the background; its output goes to .out of the Popen."""
        path = self.home / f"client{len(self.processes)}.log"
        with path.open("w") as out:
            p = subprocess.Popen(
                self.command(*args), env=self.environment(env), stdout=out,
                stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        p.out = path
        self.processes.append(p)
        return p

    def leftovers(self):
        return list(self.home.glob("qvd-client-*"))

    def close(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait()
            text = p.out.read_text(errors="replace")
            print(f"-- {' '.join(map(str, p.args))}\n{text}")
            assert not any(b in text for b in BROKEN), text
