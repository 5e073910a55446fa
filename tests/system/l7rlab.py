# SPDX-License-Identifier: GPL-3.0-or-later
"""A qvd-l7r with a real database and nothing else real: the node's daemon and
the desktops' agents are played by the test, so that each can misbehave.

Router    PostgreSQL, certificate, node.conf, qvd-l7r
Node      hkd.sock and the wishes of vms: writes vm_runtimes as HKD would
Agent     a VMA, one a VM: answers POST /session, echoes the display
Client    an old QVD client: TLS, requests with bare LF, several on one
"""

import base64
import contextlib
import grp
import hashlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import psycopg
from qvdlab import build, eventually, run
from qvdlab.util import descendants

PG = "/usr/lib/postgresql/15/bin"
# yescrypt of "secret", made once: hashing is what the router is to do.
WRONG_STATES = ("stopped", "zombie")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """A private cluster; every local user may be everybody."""

    def __init__(self, directory):
        self.dir = directory
        self.dir.mkdir()
        shutil.chown(self.dir, "postgres")
        self._as(f"{PG}/initdb", "-A", "trust", "-U", "postgres", "-N",
                 "-D", self.dir / "data")
        self.start()
        with self.connect("postgres") as db:
            db.execute("CREATE DATABASE qvd")
        self._migrate()

    def _as(self, *args):
        return run("setpriv", "--reuid=postgres", "--regid=postgres",
                   "--clear-groups", *args, cwd="/")

    def start(self):
        # Not run(): the server would keep its pipes.
        subprocess.run(
            ["setpriv", "--reuid=postgres", "--regid=postgres",
             "--clear-groups", f"{PG}/pg_ctl", "-D", self.dir / "data", "-w",
             "-s", "-l", self.dir / "log", "-o",
             f"-c listen_addresses='' -c unix_socket_directories={self.dir} "
             "-c fsync=off -c shared_buffers=32MB", "start"],
            cwd="/", check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self, mode="immediate"):
        self._as(f"{PG}/pg_ctl", "-D", self.dir / "data", "-m", mode, "-w",
                 "stop")

    def connect(self, name="qvd", user="postgres"):
        return psycopg.connect(
            host=str(self.dir), dbname=name, user=user, autocommit=True,
            options="-c search_path=qvd" if name == "qvd" else "")

    def _migrate(self):
        with self.connect() as db:
            for role in ("qvd_owner", "qvd_l7r", "qvd_hkd", "qvd_api"):
                db.execute(f"CREATE ROLE {role} LOGIN")
            db.execute("CREATE SCHEMA qvd AUTHORIZATION qvd_owner")
            db.execute("SET ROLE qvd_owner")
            db.execute("CREATE TABLE migrations (number integer PRIMARY KEY, "
                       "name text, sha256 text, applied_at timestamptz "
                       "DEFAULT now())")
            for i, sql in enumerate(sorted((build.TOP / "sql").glob("*.sql"))):
                db.execute(sql.read_text())
                db.execute("INSERT INTO migrations (number, name, sha256) "
                           "VALUES (%s, %s, '')", (i + 1, sql.name))


class Router:
    """with Router() as r: ..."""

    def __init__(self, workers=2, auths=1):
        self.dir = pathlib.Path(tempfile.mkdtemp(
            prefix="l7r", dir=os.environ.get("QVD_LAB_DIR", "/tmp")))
        self.dir.chmod(0o755)
        self.run_dir = self.dir / "r"
        self.run_dir.mkdir()
        self.port = free_port()
        self.log = self.dir / "log"
        self.daemon = None
        self.node = None
        self.clients = []
        self.workers = workers
        self.pg = Postgres(self.dir / "pg")
        self._db = None
        self._certificate("one")
        self._conf(auths)
        self._rows()

    def _certificate(self, name):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
            f"/CN={name}", "-keyout", self.dir / "key", "-out",
            self.dir / "cert")
        (self.dir / "key").chmod(0o600)

    def _conf(self, auths):
        (self.dir / "node.conf").write_text(
            f"[node]\nname = node1\n"
            f"[database]\nconninfo = host={self.pg.dir} dbname=qvd\n"
            f"[tls]\ncert = {self.dir}/cert\nkey = {self.dir}/key\n"
            f"[paths]\nrun = {self.run_dir}\n"
            f"[l7r]\nlisten = 127.0.0.1:{self.port}\n"
            f"workers = {self.workers}\nauths = {auths}\n")

    def _rows(self):
        self.host = self.one(
            "INSERT INTO hosts (name, address) VALUES ('node1', '127.0.0.1') "
            "RETURNING id")
        self.sql("INSERT INTO host_runtimes (host_id, state, lease_until, "
                 "memory_bytes, cpus) VALUES (%s, 'running', "
                 "now() + interval '1 day', 8::bigint << 30, 4)", self.host)
        self.tenant = self.add_tenant("default", 0)
        self.osf = self.add_osf("desk")

    # Life

    def __enter__(self):
        try:
            self.node = Node(self)
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        self.close(check=kind is None)

    def spawn(self):
        env = dict(os.environ, QVD_LOG="debug", **build.SANITIZER_ENV)
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [build.BUILD / "src/l7r/qvd-l7r", "--conf",
                 self.dir / "node.conf"], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=env)

    def start(self):
        self.spawn()
        eventually(lambda: self.ping() == 200, 20, "ping\n" + self.tail())

    def ping(self):
        try:
            with Client(self) as c:
                return c.get("/qvd/ping").status
        except OSError:
            return None

    def stop(self, sig=signal.SIGTERM):
        self.daemon.send_signal(sig)
        status = self.daemon.wait(timeout=20)
        self.daemon = None
        return status

    def close(self, check=False):
        problems = []
        for client in self.clients:
            client.close()
        if self.daemon is not None:
            pids = list(descendants(self.daemon.pid))
            try:
                if self.stop() != 0 and check:
                    problems.append("qvd-l7r ended badly")
            except subprocess.TimeoutExpired:
                problems.append("qvd-l7r does not end")
                for pid in [self.daemon.pid, *pids]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.daemon.wait()
        if self.node:
            self.node.close()
        if self._db is not None:
            self._db.close()
        with contextlib.suppress(AssertionError):
            self.pg.stop()
        text = self.text()
        problems += [line for line in text.splitlines()
                     if any(b in line for b in build.BROKEN)]
        if not os.environ.get("QVD_LAB_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)
        if check:
            assert not problems, "\n".join(problems) + "\n" + text[-6000:]

    def text(self):
        return self.log.read_text(errors="replace") \
            if self.log.exists() else ""

    def tail(self, lines=60):
        return "\n".join(self.text().splitlines()[-lines:])

    def pids(self, role):
        found = []
        for pid, args in sorted(descendants(self.daemon.pid).items()):
            if "--role" in args and args[args.index("--role") + 1] == role:
                found.append(pid)
        return found

    def processor_time(self, role):
        """Seconds, of all processes of that role. A process's clock is the
        complement of its pid, shifted by three, with 2 for what the
        scheduler counts (clock_getcpuclockid(3), which Python hasn't)."""
        return sum(time.clock_gettime(~pid << 3 | 2)
                   for pid in self.pids(role))

    def kill(self, role, index=None):
        pids = self.pids(role)
        pids = pids if index is None else pids[index:index + 1]
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    # Rows

    @property
    def db(self):
        if self._db is None or self._db.closed:
            self._db = self.pg.connect()
        return self._db

    def sql(self, query, *values):
        cursor = self.db.execute(query, values)
        return cursor.fetchall() if cursor.description else []

    def stop_db(self):
        if self._db is not None:
            self._db.close()
        self.pg.stop()

    def one(self, query, *values):
        rows = self.sql(query, *values)
        return rows[0][0] if rows else None

    def add_tenant(self, name, slot):
        return self.one("INSERT INTO tenants (name, idmap_slot) VALUES "
                        "(%s, %s) RETURNING id", name, slot)

    def add_osf(self, name, kind="desktop"):
        return self.one("INSERT INTO osfs (tenant_id, name, kind) VALUES "
                        "(%s, %s, %s) RETURNING id", self.tenant, name, kind)

    def add_user(self, login="alice", password="secret", tenant=None):
        return self.one(
            "INSERT INTO users (tenant_id, login, password_hash) VALUES "
            "(%s, %s, %s) RETURNING id", tenant or self.tenant, login,
            yescrypt(password))

    def add_vm(self, user, name="desk", osf=None, running=False):
        n = self.one("SELECT count(*) FROM vms") + 2
        vm = self.one(
            "INSERT INTO vms (name, user_id, osf_id, address) VALUES "
            "(%s, %s, %s, %s) RETURNING id", name, user, osf or self.osf,
            f"10.88.0.{n}")
        if running:
            self.sql("UPDATE vms SET desired = 'running', epoch = 1, "
                     "host_id = %s WHERE id = %s", self.host, vm)
            self.wait_state(vm, "running")
        return vm

    def wait_state(self, vm, state):
        eventually(lambda: self.one("SELECT state FROM vm_runtimes WHERE "
                                    "vm_id = %s", vm) == state,
                   what=f"VM {vm} {state}")

    def session(self, vm):
        """(state, generation) of its session's row."""
        rows = self.sql("SELECT state, generation FROM sessions WHERE "
                        "vm_id = %s", vm)
        return rows[0] if rows else (None, None)

    def wait_session(self, vm, state, timeout=20):
        eventually(lambda: self.session(vm)[0] == state, timeout,
                   f"session of VM {vm} {state}, it is {self.session(vm)}")

    def events(self, vm=None):
        return self.sql("SELECT name, text, error_id, ref FROM events WHERE "
                        "%s::int IS NULL OR vm_id = %s ORDER BY id", vm, vm)

    def wait_event(self, name, vm=None, timeout=20):
        def look():
            found = [e for e in self.events(vm) if e[0] == name]
            return found[-1] if found else None
        return eventually(look, timeout, f"event {name} in {self.events(vm)}")

    def client(self, login="alice", password="secret", **options):
        c = Client(self, login, password, **options)
        self.clients.append(c)
        return c


def yescrypt(password):
    out = run("python3", "-W", "ignore", "-c",
              "import crypt, sys; print(crypt.crypt(sys.argv[1], "
              "'$y$j9T$abcdefghijklmnop$'))", password)
    return out.strip()


class Agent:
    """What a VMA does, and what it should not: change its members."""

    def __init__(self):
        self.bodies = []        # of POST /session
        self.status = 200
        self.answer = {"state": "listening", "resumed": False, "ms": {}}
        self.interim = []       # X-QVD-VM-Info lines
        self.raw = None         # bytes instead of any answer to /session
        self.hold = None        # an Event to wait for before answering
        self.stream_raw = None  # bytes instead of the 101
        self.early = b""        # display bytes before the client spoke
        self.echo = True
        self.deaf = False       # doesn't notice that its client has left
        self.greeting = b""     # after the first bytes of the client
        self.streams = []
        self.lock = threading.Lock()

    def serve(self, sock):
        threading.Thread(target=self._serve, args=(sock,),
                         daemon=True).start()

    def _serve(self, sock):
        try:
            self._requests(sock)
        except (OSError, ValueError):
            pass
        finally:
            sock.close()

    def _requests(self, sock):
        f = sock.makefile("rb")
        while True:
            line = f.readline().split()
            if not line:
                return
            headers = {}
            while (h := f.readline().strip()):
                name, _, value = h.partition(b":")
                headers[name.lower()] = value.strip()
            body = f.read(int(headers.get(b"content-length", 0)))
            if line[0] == b"POST" and line[1] == b"/session":
                if not self._session(sock, json.loads(body)):
                    return
            elif line[1].startswith(b"/session/stream?"):
                self._stream(sock)
                return

    def _session(self, sock, body):
        self.bodies.append(body)
        if self.hold:
            self.hold.wait(60)
        if self.raw is not None:
            sock.sendall(self.raw)
            return False
        for text in self.interim:
            sock.sendall(b"HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: "
                         + text + b"\r\n\r\n")
        answer = json.dumps(self.answer).encode()
        sock.sendall(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n" % (self.status,
                                                      len(answer)) + answer)
        return True

    def _stream(self, sock):
        if self.stream_raw is not None:
            sock.sendall(self.stream_raw)
            return
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n"
                     b"Connection: Upgrade\r\nUpgrade: qvd-stream/1\r\n\r\n"
                     + self.early)
        self.streams.append(sock)
        first = True
        while (data := sock.recv(65536)):
            if first:
                sock.sendall(self.greeting)
                first = False
            if self.echo:
                sock.sendall(data)
        if self.deaf:
            time.sleep(60)


class Node:
    """HKD's part: hkd.sock, and vm_runtimes as vms wishes."""

    def __init__(self, router):
        self.router = router
        self.agents = {}
        self.asked = []         # vm.channel requests
        self.fail = None        # (id, message) for vm.channel
        self.start_error = None  # (id, text, ref): the next starts fail
        self.steps = []         # written while starting
        self.paused = False     # starts nothing
        self.closing = False
        self.listener = None
        self.open()
        self.thread = threading.Thread(target=self._wishes, daemon=True)
        self.thread.start()

    def agent(self, vm):
        return self.agents.setdefault(vm, Agent())

    def open(self):
        path = self.router.run_dir / "hkd.sock"
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        os.chown(path, 0, grp.getgrnam("qvd").gr_gid)
        path.chmod(0o660)
        self.listener.listen(8)
        self.conns = []
        threading.Thread(target=self._accept, args=(self.listener,),
                         daemon=True).start()

    def shut(self):
        """As if the daemon had been killed."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for c in self.conns:
            with contextlib.suppress(OSError):
                c.shutdown(socket.SHUT_RDWR)
                c.close()

    def close(self):
        self.closing = True
        self.shut()
        self.thread.join(5)

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                self.conns.append(conn)
                threading.Thread(target=self._serve, args=(conn,),
                                 daemon=True).start()

    def _serve(self, conn):
        with contextlib.suppress(OSError):
            while (packet := conn.recv(262144)):
                self._answer(conn, json.loads(packet))

    def _answer(self, conn, message):
        if message["t"] != "ask" or message["op"] != "vm.channel":
            return
        self.asked.append(message["args"])
        if self.fail:
            reply = {"t": "fail", "id": message["id"],
                     "error": dict(zip(("id", "message"), self.fail))}
            conn.send(json.dumps(reply).encode())
            return
        ours, theirs = socket.socketpair()
        self.agent(message["args"]["vm_id"]).serve(ours)
        reply = {"t": "ok", "id": message["id"], "result": {}}
        socket.send_fds(conn, [json.dumps(reply).encode()], [theirs.fileno()])
        theirs.close()

    # vm_runtimes

    def _wishes(self):
        while not self.closing:
            try:
                with self.router.pg.connect(user="qvd_hkd") as db:
                    db.execute(f"LISTEN qvd_host_{self.router.host}")
                    while not self.closing:
                        self._reconcile(db)
                        if select.select([db.fileno()], [], [], 0.2)[0]:
                            db.pgconn.consume_input()
                            while db.pgconn.notifies():
                                pass
            except psycopg.Error:
                time.sleep(0.1)

    def _reconcile(self, db):
        if self.paused:
            return
        rows = db.execute(
            "SELECT v.id, v.desired, v.epoch, r.epoch, r.state FROM vms v "
            "LEFT JOIN vm_runtimes r ON r.vm_id = v.id WHERE v.host_id = %s",
            (self.router.host,)).fetchall()
        for vm, desired, want, have, state in rows:
            if desired == "running" and want > (have or 0):
                self._start(db, vm, want)
            elif desired == "stopped" and state == "running":
                self.write(db, vm, have, "stopping")
                self.write(db, vm, have, "stopped")

    def _start(self, db, vm, epoch):
        for step in [None, *self.steps]:
            self.write(db, vm, epoch, "starting", step)
        if self.start_error:
            self.write(db, vm, epoch, "stopped", None, *self.start_error)
        else:
            self.write(db, vm, epoch, "running")

    def write(self, db, vm, epoch, state, step=None, error_id=None,
              error=None, ref=None):
        db.execute(
            "INSERT INTO vm_runtimes (vm_id, epoch, state, host_id, step, "
            "error_id, error, error_ref) VALUES (%s, %s, %s, %s, %s, %s, %s, "
            "%s) ON CONFLICT (vm_id) DO UPDATE SET epoch = excluded.epoch, "
            "state = excluded.state, host_id = excluded.host_id, "
            "step = excluded.step, error_id = excluded.error_id, "
            "error = excluded.error, error_ref = excluded.error_ref, "
            "state_at = now()",
            (vm, epoch, state, self.router.host, step, error_id, error, ref))


class Response:
    def __init__(self, status, reason, headers, body=b""):
        self.status, self.reason = status, reason
        self.headers, self.body = headers, body

    def header(self, name):
        return dict(self.headers).get(name)

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, router, login="alice", password="secret", eol="\n",
                 timeout=30):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", router.port), timeout)
        self.sock = context.wrap_socket(plain)
        self.buf = b""
        self.eol = eol
        self.auth = "Basic " + base64.b64encode(
            f"{login}:{password}".encode()).decode()
        self.interims = []      # of the last request: texts

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.close()

    def send(self, target, *headers, method="GET", auth=True):
        lines = [f"{method} {target} HTTP/1.1", *headers]
        if auth:
            lines.append(f"Authorization: {self.auth}")
        self.sock.sendall(
            (self.eol.join(lines) + self.eol * 2).encode("latin-1"))

    def _fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"closed after {self.buf!r}")
        self.buf += data

    def read_head(self):
        while b"\r\n\r\n" not in self.buf:
            self._fill()
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert version == "HTTP/1.1"
        return Response(int(status), reason,
                        [tuple(h.split(": ", 1)) for h in rest])

    def read(self):
        """The final answer; interim ones are in .interims."""
        self.interims = []
        while True:
            r = self.read_head()
            if r.status == 102:
                assert [n for n, _ in r.headers] == ["X-QVD-VM-Info"]
                self.interims.append(r.headers[0][1])
                continue
            if r.status != 101:
                n = int(r.header("Content-Length"))
                while len(self.buf) < n:
                    self._fill()
                r.body, self.buf = self.buf[:n], self.buf[n:]
            return r

    def get(self, target, *headers, **options):
        self.send(target, *headers, **options)
        return self.read()

    def connect_send(self, vm, extra="", *headers):
        self.send(f"/qvd/connect_to_vm?id={vm}{extra}", "Connection: Upgrade",
                  "Upgrade: QVD/1.0", *headers)

    def connect(self, vm, extra="", *headers):
        self.connect_send(vm, extra, *headers)
        return self.read()

    # After the 101

    def say(self, data):
        self.sock.sendall(data)

    def hear(self, n):
        while len(self.buf) < n:
            self._fill()
        data, self.buf = self.buf[:n], self.buf[n:]
        return data

    def closed(self, timeout=5):
        """True if the other end closes within the time."""
        self.sock.settimeout(timeout)
        try:
            while self.sock.recv(65536):
                pass
        except socket.timeout:
            return False
        except OSError:
            pass
        return True


def sha256(text):
    return hashlib.sha256(text.encode()).digest()
