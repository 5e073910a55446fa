# SPDX-License-Identifier: GPL-3.0-or-later
"""A container without a node: qvd-vma as process 1 of an image, in
namespaces of its own, and a client of its HTTP interface.

The root file system is an overlay over the unpacked image, so that a box
starts in milliseconds and leaves nothing.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from qvdlab import eventually, image, need, programs

SCRIPT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 box "$BOX/scratch"
mkdir "$BOX/scratch/upper" "$BOX/scratch/work"
mount -t overlay -o \
    "lowerdir=$LOWER,upperdir=$BOX/scratch/upper,workdir=$BOX/scratch/work" \
    box "$BOX/root"
R=$BOX/root
mount -t proc proc "$R/proc"
mount -t tmpfs -o mode=755 dev "$R/dev"
for d in null zero full random urandom tty; do
	touch "$R/dev/$d"; mount --bind "/dev/$d" "$R/dev/$d"
done
mkdir "$R/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
mkdir -p "$R/run/qvd" "$R/usr/lib/qvd"
mount --bind "$BOX/channel" "$R/run/qvd"
[ -z "$HOME_VOLUME" ] || mount --bind "$BOX/home" "$R/home"
touch "$R/usr/lib/qvd/qvd-vma"
mount --bind "$VMA" "$R/usr/lib/qvd/qvd-vma"
eval "$PREPARE"
hostname box
cd "$R"
eval "exec chroot . $INIT"
"""


def unpacked(name):
    """The image's tree, unpacked once and never written to."""
    tar = pathlib.Path(image(name))
    tree = tar.parent / ("tree-" + tar.stem)
    with open(tar.parent / f".tree-{tar.stem}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            tmp = tree.with_suffix(".new")
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir(mode=0o755)
            subprocess.run(["tar", "-xf", tar, "-C", tmp], check=True)
            tmp.rename(tree)
    return tree


class HttpError(AssertionError):
    def __init__(self, status, body):
        self.status = status
        self.id = body.get("error", {}).get("id")
        self.message = body.get("error", {}).get("message")
        super().__init__(f"{status} {body}")


class Request:
    """One request on a connection of its own; interim answers kept."""

    def __init__(self, path, method, target, body=None, headers=()):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(90)
        # A path relative to the directory: sun_path is short.
        fd = os.open(os.path.dirname(path), os.O_PATH)
        try:
            self.sock.connect(f"/proc/self/fd/{fd}/{os.path.basename(path)}")
        finally:
            os.close(fd)
        data = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {target} HTTP/1.1", "Host: vm", *headers]
        if body is not None:
            head.append(f"Content-Length: {len(data)}")
        self.sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + data)
        self.rest = b""
        self.interim = []

    def _head(self):
        while b"\r\n\r\n" not in self.rest:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionError("closed: " + repr(self.rest))
            self.rest += more
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), headers

    def answer(self):
        """(status, headers), interim answers read past."""
        while True:
            status, headers = self._head()
            if status != 102:
                return status, headers
            self.interim.append(headers.get("X-QVD-VM-Info"))

    def json(self):
        status, headers = self.answer()
        length = int(headers.get("Content-Length", 0))
        while len(self.rest) < length:
            self.rest += self.sock.recv(65536)
        body = json.loads(self.rest[:length])
        self.close()
        if status != 200:
            raise HttpError(status, body)
        return body

    def close(self):
        self.sock.close()


def started(pid):
    """Clock ticks since boot; of a process that has ended, the latest."""
    with contextlib.suppress(OSError):
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[19])
    return sys.maxsize


class Box:
    """with Box("demo") as box: ..."""

    def __init__(self, name="demo", prepare="", files=(), program=None,
                 home=True, init="/usr/lib/qvd/qvd-vma"):
        need("root")
        self.lower = unpacked(name)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="qvd-vma-test-"))
        self.socket = str(self.dir / "channel" / "vma.sock")
        self.log_path = self.dir / "log"
        self.program = program or pathlib.Path(programs()) / "qvd-vma"
        self.prepare = prepare
        self.home = "1" if home else ""
        self.init_command = init
        for name_, mode, text in files:
            self.prepare += f"""
mkdir -p "$R/$(dirname '{name_}')"
cat >"$R/{name_}" <<'END_OF_FILE'
{text}
END_OF_FILE
chmod {mode:o} "$R/{name_}"
"""
        self.generation = 0
        self.displays = []

    def __enter__(self):
        for d in ("scratch", "root", "channel", "home"):
            (self.dir / d).mkdir(mode=0o755, exist_ok=True)
        self.log = open(self.log_path, "ab")
        env = dict(os.environ, BOX=str(self.dir), LOWER=str(self.lower),
                   VMA=str(self.program), PREPARE=self.prepare,
                   HOME_VOLUME=self.home, INIT=self.init_command,
                   QVD_LOG=os.environ.get("QVD_LOG", "debug"))
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--uts", "--ipc", "--net",
             "--fork", "--kill-child", "sh", "-c", SCRIPT],
            env=env, stdout=self.log, stderr=self.log,
            stdin=subprocess.DEVNULL)
        try:
            eventually(self._answers, 20, "the VMA's socket")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError("the box ended: " + self.tail())
        try:
            return self.state()
        except OSError:
            return None

    def __exit__(self, *exc):
        for d in self.displays:
            d.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=20)
        self.log.close()
        if exc and exc[0] is not None:
            print(self.tail())
        shutil.rmtree(self.dir, ignore_errors=True)

    def tail(self, lines=80):
        text = self.log_path.read_text(errors="replace")
        return "\n".join(text.split("\n")[-lines:])

    # ---- processes ----

    @property
    def init(self):
        """The host's pid of process 1."""
        children = pathlib.Path(
            f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if children.exists():
            return int(children.read_text().split()[0])
        return next(p for p in self._pids()
                    if self._stat(p)[1] == str(self.process.pid))

    @staticmethod
    def _pids():
        return [int(p) for p in os.listdir("/proc") if p.isdigit()]

    @staticmethod
    def _stat(pid):
        try:
            text = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ["", "", ""]
        return text.rsplit(")", 1)[1].split()

    def processes(self):
        """{pid on the host: command line} of all in the box."""
        try:
            mine = os.stat(f"/proc/{self.init}/ns/pid").st_ino
        except (OSError, IndexError, StopIteration):
            return {}
        found = {}
        for pid in self._pids():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/ns/pid").st_ino == mine:
                    line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                    found[pid] = line.replace(b"\0", b" ").decode().strip()
        return found

    def pid_of(self, start):
        """The oldest of that command line: a child that it forked has the
        same, and may have a smaller pid."""
        return min((pid for pid, line in self.processes().items()
                    if line.startswith(start)), key=started, default=None)

    def kill(self, start, signum=signal.SIGKILL):
        os.kill(self.pid_of(start), signum)

    def path(self, name):
        """A path of the box as seen from here."""
        return pathlib.Path(f"/proc/{self.init}/root") / name.lstrip("/")

    def run(self, *args, user=None, check=True):
        enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-n", "-i",
                 "-u", "-r", "-w"]
        if user is not None:
            enter += ["setpriv", "--reuid", str(user), "--regid", str(user),
                      "--clear-groups"]
        return subprocess.run([*enter, *args], check=check, text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout

    # ---- HTTP ----

    def request(self, method, target, body=None, headers=()):
        return Request(self.socket, method, target, body, headers)

    def call(self, method, target, body=None):
        return self.request(method, target, body).json()

    def state(self):
        return self.call("GET", "/state")

    def wait(self, session, timeout=30):
        def instead():
            last = self.displays[-1].output() if self.displays else ""
            return f"session {session}; it is {self.state()}, and the last " \
                f"display said: {last[-800:]}"
        return eventually(lambda: self.state()["session"] == session,
                          timeout, instead)

    def order(self, user=None, params=None, resume=False, **display):
        self.generation += 1
        return {
            "generation": self.generation, "resume": resume,
            "user": {"name": "alice", "uid": 2000, "full_name": "Alice",
                     "groups": [], "shell": "/bin/bash", **(user or {})},
            "display": {"kind": "nx", "link": "adsl", "client": "linux",
                        "keyboard": "pc105/us", "geometry": "1024x768",
                        "fullscreen": False, **display},
            "params": {"qvd.client.os": "linux", **(params or {})}}

    def post(self, **order):
        """A held POST /session."""
        return self.request("POST", "/session", self.order(**order))

    def stream(self, generation=None):
        """The display's stream as a connected socket."""
        request = self.request(
            "GET",
            f"/session/stream?generation={generation or self.generation}",
            headers=["Upgrade: qvd-stream/1", "Connection: Upgrade"])
        status, _ = request.answer()
        if status != 101:
            raise HttpError(status, json.loads(request.rest))
        return request.sock

    def connect(self, screen, **order):
        """POST, stream and nxproxy on the screen; (answer, NxClient)."""
        answer = self.post(**order).json()
        client = NxClient(self, self.stream(), screen)
        self.displays.append(client)
        return answer, client


class NxClient:
    """nxproxy on the client's side, fed through a relay of ours."""

    def __init__(self, box, stream, screen):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=box.dir))
        ours, theirs = socket.socketpair()
        self.stream = stream
        stream.settimeout(None)
        self.process = subprocess.Popen(
            ["nxproxy", "-S", f"nx/nx,root={self.dir}:{os.getpid() % 1000}"],
            env=dict(screen.env, NX_COMMFD=str(theirs.fileno()),
                     HOME=str(self.dir), NX_ROOT=str(self.dir)),
            pass_fds=[theirs.fileno()], cwd=self.dir,
            stdout=open(self.dir / "out", "wb"), stderr=subprocess.STDOUT)
        theirs.close()
        self.ours = ours
        for a, b in ((stream, ours), (ours, stream)):
            threading.Thread(target=self._pump, args=(a, b),
                             daemon=True).start()

    @staticmethod
    def _pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def output(self):
        return (self.dir / "out").read_text(errors="replace")

    def kill(self):
        self.process.kill()
        self.process.wait()
        for s in (self.ours, self.stream):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.kill()
        self.ours.close()
        self.stream.close()
