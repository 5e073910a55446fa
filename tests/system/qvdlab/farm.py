# SPDX-License-Identifier: GPL-3.0-or-later
"""A farm of one node: `qvd up` in a box of its own. See leaks.py for what
must not be left of it."""

import contextlib
import json as json_module
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg

from . import build, leaks, template
from .util import SLOW, descendants, eventually, run

# Short, because the paths of unix sockets end at 107 bytes.
BASE = os.environ.get("QVD_LAB_DIR", "/tmp")
START_S = 60 * SLOW
STOP_S = 90 * SLOW


class Failed(AssertionError):
    """A program ended with an error; .result has all of it."""

    def __init__(self, result):
        super().__init__(f"{result.args} ended with {result.status}: "
                         f"{result.err.strip()}")
        self.result = result


class Result:
    def __init__(self, args, done):
        self.args = " ".join(str(a) for a in args)
        self.status, self.out, self.err = \
            done.returncode, done.stdout, done.stderr


class Farm:
    """with Farm(images=["busybox"]) as farm: ...

    images: names of recipes; each is there as an OSF of that name with the
    image published under the tag `default` (prepared once, then copied).
    """

    def __init__(self, images=(), port=8443, env=None, options=()):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="q", dir=BASE))
        self.dir.chmod(0o755)
        self.id = self.dir.name
        (self.dir / "owner").write_text(str(os.getpid()))
        self.data, self.run = self.dir / "d", self.dir / "r"
        self.log = self.dir / "log"
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.programs = build.programs()
        self.options = list(options)
        self.env = dict(os.environ, **build.SANITIZER_ENV, **(env or {}))
        self.env["QVD_ADMIN_SOCKET"] = str(self.run / "api.sock")
        self.up = None
        self.clients = []
        self._db = None
        run("ip", "netns", "add", self.id)
        # Programs that are to see the farm's network start with this.
        self.prefix = ["nsenter", f"--net=/run/netns/{self.id}"]
        run(*self.prefix, "ip", "link", "set", "lo", "up")
        if images or template.WANTED:
            template.copy(images, self.data)

    # Life

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close(check=False)
            raise
        return self

    def __exit__(self, kind, error, trace):
        self.close(check=kind is None)

    def start(self, *options, wait=True):
        """Runs `qvd up` and waits until it says that it is ready."""
        assert self.up is None
        reader, writer = os.pipe()
        with self.log.open("ab") as log:
            self.up = subprocess.Popen(
                [*self.prefix, self.programs / "qvd", "up", "--data",
                 self.data, "--run", self.run, "--listen",
                 f"*:{self.port}", "--name", "node1", "--netns", self.id,
                 "--cgroup", self.id, "--ready-fd", str(writer),
                 *self.options, *options],
                pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.env, start_new_session=True)
        os.close(writer)
        if not wait:
            os.close(reader)
            return self
        ready, _, _ = select.select([reader], [], [], START_S)
        said = os.read(reader, 1) if ready else b""
        os.close(reader)
        if not said:
            self._end_up()
            raise AssertionError("qvd up is not ready:\n" + self.tail())
        return self

    def stop(self, sig=signal.SIGTERM):
        """Ends `qvd up` and returns its exit status."""
        self.close_db()
        up, self.up = self.up, None
        up.send_signal(sig)
        try:
            return up.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.up = up
            self._end_up()
            raise AssertionError(
                f"qvd up doesn't end within {STOP_S} s:\n" + self.tail()
            ) from None

    def _end_up(self):
        """By force, with everything that it started."""
        up, self.up = self.up, None
        pids = [up.pid, *descendants(up.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        up.wait()

    def close(self, check=True):
        """Ends everything. With check: the farm must have ended well, said
        nothing bad, and left nothing behind."""
        problems = []
        for client in self.clients:
            if client.poll() is None:
                client.kill()
            client.wait()
        self.close_db()
        if self.up is not None:
            try:
                status = self.stop()
                if status != 0:
                    problems.append(f"qvd up ended with status {status}")
            except AssertionError as e:
                problems.append(str(e))
        text = self.text()
        problems += [line for line in text.splitlines()
                     if any(b in line for b in build.BROKEN)]
        problems += leaks.find(self)
        leaks.remove(self)
        keep = os.environ.get("QVD_LAB_KEEP")
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        if check and problems:
            raise AssertionError(
                "the farm didn't end clean:\n  " + "\n  ".join(problems)
                + "\nits log ends:\n" + "\n".join(text.splitlines()[-40:]))

    # Log

    def text(self):
        return self.log.read_text(errors="replace") \
            if self.log.exists() else ""

    def tail(self, lines=60):
        return "\n".join(self.text().splitlines()[-lines:])

    def wait_log(self, part, timeout=20):
        eventually(lambda: part in self.text(), timeout,
                   f"'{part}' in the farm's log")

    # Programs

    def qvd(self, *args, json=False, input=None, check=True, timeout=90):
        """Runs a command of the administrator. With json, what it printed
        with -o json; else a Result. A failure raises Failed unless
        check=False."""
        args = [self.programs / "qvd", *(("-o", "json") if json else ()),
                *args]
        done = subprocess.run([str(a) for a in args], input=input, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.env, timeout=timeout * SLOW, check=False)
        result = Result(args, done)
        if check and result.status != 0:
            raise Failed(result)
        return json_module.loads(result.out) if json and not result.status \
            else result

    def client(self, *args, display=None, user="alice", password="secret",
               trust=True, env=None):
        """Starts qvd-client in the farm's network, on a Display; the Popen.
        Its output goes to the file .log, its HOME is .home. It knows the
        farm's certificate unless trust=False; password=None: gives none."""
        n = len(self.clients)
        home = self.dir / f"home{n}"
        home.mkdir(exist_ok=True)
        options = ["--host", "127.0.0.1", "--port", str(self.port),
                   "--user", user]
        if password is not None:
            secret = home / "password"
            secret.write_text(password + "\n")
            secret.chmod(0o600)
            options += ["--password-file", str(secret)]
        if trust:
            options += ["--ca", str(self.data / "tls/cert.pem")]
        env = dict(self.env, HOME=str(home), **(env or {}))
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
                     "DISPLAY"):
            env.pop(name, None)
        if display:
            env["DISPLAY"] = display.name
        path = self.dir / f"client{n}.log"
        with path.open("wb") as out:
            client = subprocess.Popen(
                [*self.prefix, self.programs / "qvd-client", *options,
                 *(str(a) for a in args)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                start_new_session=True)
        client.log, client.home = path, home
        self.clients.append(client)
        return client

    def client_ends(self, *args, timeout=60, **options):
        """Runs qvd-client to its end: (exit code, what it printed)."""
        client = self.client(*args, **options)
        try:
            status = client.wait(timeout=timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the client doesn't end within {timeout} s: "
                                 + client.log.read_text()) from None
        return status, client.log.read_text()

    def connect(self, timeout=20):
        """A plain TCP socket to the clients' port, made in the farm's
        network namespace."""
        mine = os.open("/proc/self/ns/net", os.O_RDONLY)
        theirs = os.open(f"/run/netns/{self.id}", os.O_RDONLY)
        try:
            setns(theirs)
            return socket.create_connection(("127.0.0.1", self.port), timeout)
        finally:
            setns(mine)
            os.close(mine)
            os.close(theirs)

    # What most tests begin with

    def add_user(self, login="alice", password="secret"):
        self.qvd("user", "add", login, "--password-file", "-",
                 input=password + "\n")
        return login

    def add_osf(self, name, source=None, *options):
        """An OSF with an image, published as its `default`."""
        self.qvd("osf", "add", name, *options)
        if source:
            self.qvd("image", "import", source, "--osf", name, "--version",
                     "1", "--tag", "default", timeout=300)
        return name

    def add_vm(self, user="alice", osf="demo", name="desk", *options):
        """The VM's id."""
        self.qvd("vm", "add", f"{user}/{name}", "--osf", osf, *options)
        return self.one("SELECT v.id FROM vms v JOIN users u ON "
                        "u.id = v.user_id WHERE u.login = %s AND v.name = %s",
                        user, name)

    # Database

    @property
    def db(self):
        """A connection as the farm's owner, each statement its own
        transaction."""
        if self._db is None or self._db.closed:
            self._db = psycopg.connect(
                host=str(self.run / "pg"), dbname="qvd", user="qvd_owner",
                options="-c search_path=qvd", autocommit=True)
        return self._db

    def close_db(self):
        if self._db is not None:
            self._db.close()
        self._db = None

    def sql(self, query, *values):
        """Rows as tuples; [] for a statement without rows."""
        cursor = self.db.execute(query, values)
        return cursor.fetchall() if cursor.description else []

    def one(self, query, *values):
        rows = self.sql(query, *values)
        return rows[0][0] if rows else None

    def wait_sql(self, channel, query, *values, timeout=60, what=None):
        """Until the query's first column is true: looked at now and after
        each NOTIFY on the channel."""
        deadline = time.monotonic() + timeout * SLOW
        with psycopg.connect(
                host=str(self.run / "pg"), dbname="qvd", user="qvd_owner",
                options="-c search_path=qvd", autocommit=True) as db:
            heard = []  # also by execute(), which reads whatever comes
            db.add_notify_handler(heard.append)
            db.execute(f"LISTEN {channel}")
            while True:
                heard.clear()
                row = db.execute(query, values).fetchone()
                if row and row[0]:
                    return row[0]
                left = deadline - time.monotonic()
                assert left > 0, \
                    f"not within {timeout} s: {what or query}\n" + self.tail()
                if heard:
                    continue
                ready, _, _ = select.select([db.fileno()], [], [], left)
                if ready:
                    db.pgconn.consume_input()
                    while db.pgconn.notifies():
                        pass

    def wait_vm(self, vm, state=None, session=None, timeout=60):
        """Until the VM's run, and its session, have these states."""
        self.wait_sql(
            "qvd_vm_runtimes",
            "SELECT (%s::text IS NULL OR state = %s) AND "
            "(%s::text IS NULL OR session = %s) FROM vm_runtimes "
            "WHERE vm_id = %s", state, state, session, session, vm,
            timeout=timeout, what=f"VM {vm} {state or ''} {session or ''}")

    def events(self, vm=None, user=None):
        """[(name, text, error id)], oldest first."""
        return self.sql(
            "SELECT name, text, error_id FROM events WHERE "
            "(%s::int IS NULL OR vm_id = %s) AND "
            "(%s::int IS NULL OR user_id = %s) ORDER BY id",
            vm, vm, user, user)

    def event_names(self, vm=None):
        return [name for name, _, _ in self.events(vm)]

    def wait_event(self, name, vm=None, count=1, timeout=30):
        """Until such an event was written that many times; the last one."""
        def look():
            found = [e for e in self.events(vm) if e[0] == name]
            return found[-1] if len(found) >= count else None
        return eventually(look, timeout, f"event {name} of VM {vm}, "
                          f"there are {self.event_names(vm)}")

    # Processes

    def pids(self, program, role=None):
        """Pids of a program of the farm: "qvd-hkd", "postgres" (its
        postmaster), ...; with role, those started with --role ROLE."""
        found = []
        for pid, args in sorted(descendants(self.up.pid).items()):
            if not args or os.path.basename(args[0].split(":")[0]) != program:
                continue
            named = args[args.index("--role") + 1] \
                if "--role" in args[:-1] else None
            if named == role and (program != "postgres" or "-D" in args):
                found.append(pid)
        return found

    def kill(self, program, role=None, sig=signal.SIGKILL):
        """Ends all such processes and waits until they are gone; how many
        there were."""
        pids = self.pids(program, role)
        assert pids, f"no {program} {role or ''} runs: " + str(
            [args[:3] for args in descendants(self.up.pid).values()])
        for pid in pids:
            os.kill(pid, sig)
        eventually(lambda: not set(pids) & set(self.pids(program, role)),
                   what=f"the end of {program}")
        return len(pids)

    def assert_clean(self, vm):
        """Nothing of a VM that stopped is left on the node."""
        def look():
            left = leaks.of_vm(self, vm)
            assert not left, "left of the VM: " + ", ".join(left)
            return True
        eventually(look, 10)


def setns(fd):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")
