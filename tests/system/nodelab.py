# SPDX-License-Identifier: GPL-3.0-or-later
"""A node without a farm: the root helper alone, asked directly.

Node() makes a network namespace, cgroup and directories of its own, starts
the helper and speaks its rpc (src/net/rpc_priv.h) on a socket pair. Desktops
run tiny_init (drivers/tiny_init.c) instead of the agent, from an image that
holds little more than busybox.
"""

import array
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from qvdlab import build
from qvdlab.util import SLOW

BASE = pathlib.Path(os.environ.get("QVD_TEST_DIR", "/tmp"))
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# The hierarchy of cgroup v2: beside those of v1, or the only one.
UNIFIED = CGROUPS / "unified" if (CGROUPS / "unified").is_dir() else CGROUPS
MB = 1024 * 1024


class Failed(Exception):
    """The helper's answer is an error: .id and the sentence."""

    def __init__(self, error):
        super().__init__(f"{error['message']} ({error['id']})")
        self.id = error["id"]
        self.message = error["message"]


def run(*args, check=True, **options):
    done = subprocess.run([str(a) for a in args], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, **options)
    assert not check or done.returncode == 0, f"{args}: {done.stdout}"
    return done.stdout


def eventually(fn, timeout=5, what=None):
    """Waits for something that nothing announces."""
    end = time.monotonic() + timeout * SLOW
    while not (found := fn()):
        assert time.monotonic() < end, what or "did not happen in time"
        time.sleep(0.01)
    return found


def binary(path):
    found = build.BUILD / path
    assert found.exists(), f"{found} is not built"
    return found


class Node:
    def __init__(self, cgroup_view=None, conf="", disk=None, **disk_args):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="qn", dir=BASE))
        self.dir.chmod(0o755)
        self.id = self.dir.name
        self.run, self.data = self.dir / "r", self.dir / "d"
        self.programs = self.dir / "bin"
        self.log = self.dir / "log"
        self.cgroup_view = cgroup_view
        self.conf = conf
        self.disk = disk  # the data directory's: see make_disk()
        self.disk_args = disk_args
        self.proc = self.sock = None
        self.next_id = 0
        self.answers = {}
        self.progress = []
        self.in_net = ["nsenter", f"--net=/run/netns/{self.id}"]

    def __enter__(self):
        try:
            if self.disk:
                self.make_disk()
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def make_disk(self):
        """A file system of our own for the data directory: "btrfs",
        "project" for ext4 with project quotas, "ext4" with disk_mb and
        disk_inodes (all three in a file, whose loop device goes with it), or
        mount options of a tmpfs, which can hold no root before Linux 6.3."""
        def make(*mkfs, options="loop", disk_mb=1024, disk_inodes=0):
            file = self.dir / "disk"
            with file.open("wb") as f:
                f.truncate(disk_mb * MB)
            run(*mkfs, *(["-N", disk_inodes] if disk_inodes else []), file)
            run("mount", "-o", options, file, self.data)

        self.data.mkdir()
        if self.disk == "btrfs":
            make("mkfs.btrfs", "-q", **self.disk_args)
        elif self.disk == "project":
            make("mkfs.ext4", "-q", "-O", "quota,project", "-E",
                 "quotatype=prjquota", options="loop,prjquota",
                 **self.disk_args)
        elif self.disk == "ext4":
            # All of it is for files, in blocks as a large one has them.
            make("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-O",
                 "^has_journal", **self.disk_args)
        else:
            run("mount", "-t", "tmpfs", "-o", self.disk, "qvd-test",
                self.data)

    def prepare(self):
        self.programs.mkdir()
        for name in ("hkd/qvd-hkd-vm", "hkd/qvd-hkd-image", "boot/qvd-boot"):
            path = binary(f"src/{name}")
            (self.programs / path.name).symlink_to(path)
        shutil.copy(binary("tests/system/drivers/tiny_init"),
                    self.programs / "qvd-vma")
        (self.dir / "node.conf").write_text(
            f"[node]\nname = n1\ncgroup = {self.id}\nnetns = {self.id}\n"
            f"{self.conf}"
            f"[paths]\nrun = {self.run}\ndata = {self.data}\n"
            f"programs = {self.programs}\n")
        run("ip", "netns", "add", self.id)
        run("ip", "-n", self.id, "link", "set", "lo", "up")

    def start(self):
        """Starts the helper; again after kill()."""
        ours, theirs = socket.socketpair(socket.AF_UNIX,
                                         socket.SOCK_SEQPACKET)
        argv = [binary("tests/system/drivers/hkd_helper_driver"),
                self.dir / "node.conf"]
        if self.cgroup_view == "v2":
            argv = ["unshare", "-m", "--propagation", "private", "sh", "-c",
                    "umount -R /sys/fs/cgroup && mount -t cgroup2 none "
                    "/sys/fs/cgroup && exec \"$@\"", "sh"] + argv
        high = os.dup(theirs.fileno())

        def place():
            os.dup2(high, 3)
        with self.log.open("ab") as log:
            self.proc = subprocess.Popen(
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, close_fds=False, preexec_fn=place,
                env=dict(os.environ, **build.SANITIZER_ENV))
        os.close(high)
        theirs.close()
        self.sock = ours
        self.answers = {}

    def setup(self, **args):
        args = {"bridge": "qvdnet0", "gateway": "10.88.0.1/16", "nat": False,
                "dns": "", **args}
        return self.ask("node.setup", **args)

    def kill(self, sig=signal.SIGKILL):
        self.proc.send_signal(sig)
        self.proc.wait(10 * SLOW)
        self.sock.close()

    def stop(self):
        """Ends the helper as its parent would: by closing the socket."""
        if self.sock is not None:
            self.sock.close()
        if self.proc is None:
            return None
        try:
            return self.proc.wait(15 * SLOW)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            raise

    def close(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        for d in self.groups():
            with contextlib.suppress(OSError):
                (d / "cgroup.kill").write_text("1")
        eventually(lambda: not self.pids(), 10, "processes don't end")
        for d in self.groups():
            with contextlib.suppress(OSError):
                d.rmdir()
        run("umount", "-l", self.run / "netns", check=False)
        if self.disk:
            run("umount", "-l", self.data, check=False)
        run("ip", "netns", "del", self.id, check=False)
        text = self.log.read_text() if self.log.exists() else ""
        shutil.rmtree(self.dir, ignore_errors=True)
        # liblxc keeps a folder of locks for each place that ever was one.
        shutil.rmtree(f"/run/lxc/lock{self.dir}", ignore_errors=True)
        for word in build.BROKEN:
            assert word not in text, text

    # rpc

    def send(self, op, fd=None, **args):
        """fd: of a stream that the operation is to have."""
        self.next_id += 1
        ask = {"t": "ask", "id": self.next_id, "op": op, "args": args}
        socket.send_fds(self.sock, [json.dumps(ask).encode()],
                        [] if fd is None else [fd])
        return self.next_id

    def cancel(self, ask):
        self.sock.send(json.dumps({"t": "cancel", "id": ask}).encode())

    def receive(self, timeout):
        ready, _, _ = select.select([self.sock], [], [], timeout * SLOW)
        assert ready, "no answer; log:\n" + self.log.read_text()[-4000:]
        fds = array.array("i")
        data, control, _, _ = self.sock.recvmsg(
            1 << 20, socket.CMSG_SPACE(fds.itemsize))
        assert data, "helper is gone:\n" + self.log.read_text()[-4000:]
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[:fds.itemsize])
        msg = json.loads(data)
        if msg["t"] == "progress":
            self.progress.append(msg["info"])
        else:
            self.answers[msg["id"]] = (msg, fds[0] if fds else None)

    def wait(self, ask, timeout=60):
        """(result, descriptor); raises Failed."""
        while ask not in self.answers:
            self.receive(timeout)
        msg, fd = self.answers.pop(ask)
        if msg["t"] == "fail":
            raise Failed(msg["error"])
        return msg["result"], fd

    def ask_fd(self, op, **args):
        return self.wait(self.send(op, **args))

    def ask(self, op, **args):
        result, fd = self.ask_fd(op, **args)
        if fd is not None:
            os.close(fd)
        return result

    def remove_vms(self):
        """Whatever runs: for tests that share a node."""
        for vm in self.ask("vm.list")["vms"]:
            self.ask("vm.stop", vm_id=vm, grace_ms=0)
            self.ask("vm.clean", vm_id=vm)

    # Images and VMs

    def image(self, tiny="", image_id=1, extra=None):
        """Imports and checks out a busybox tree; tiny: /etc/tiny."""
        tree = self.dir / f"tree{image_id}"
        make_tree(tree, tiny)
        if extra:
            extra(tree)
        done = self.ask("image.import", image_id=image_id, source=str(tree),
                        author="test", message="a tree", version="1")
        self.ask("image.checkout", checksum=done["checksum"])
        shutil.rmtree(tree)
        return done["checksum"]

    def spec(self, vm_id, checksum, **more):
        return {"vm_id": vm_id, "epoch": 1, "hostname": f"vm{vm_id}",
                "checksum": checksum, "volatile": False,
                "address": f"10.88.{vm_id // 250}.{vm_id % 250 + 2}",
                "idmap_slot": 0, "memory_mb": 64, "swap_mb": 0,
                "cpu_percent": 0, "cpu_weight": 100, "io_weight": 100,
                "pids_max": 64, "home_mb": 0, **more}

    def vm(self, vm_id, checksum, **more):
        """(answer, pidfd) of a start."""
        return self.ask_fd("vm.start", **self.spec(vm_id, checksum, **more))

    def connect(self, vm_id, wait_ms=5000):
        most = 180000  # that the helper accepts
        _, fd = self.ask_fd("vm.channel", vm_id=vm_id,
                             wait_ms=min(wait_ms * SLOW, most))
        s = socket.socket(fileno=fd)
        s.settimeout(10 * SLOW)
        return s

    def inside(self, pid, *argv, check=True):
        """Runs a program in the desktop as its root."""
        return run("nsenter", "-t", pid, "-m", "-p", "-n", "-u", "-U", "-r",
                   "-w", *argv, check=check)

    # What is there

    def groups(self):
        tops = [CGROUPS / self.id] + [p / self.id for p in CGROUPS.iterdir()]
        return sorted({pathlib.Path(d) for top in tops if top.is_dir()
                       for d, _, _ in os.walk(top)},
                      key=lambda d: -len(d.parts))

    def group_file(self, vm_id, name, part="ct"):
        """A file of the VM's cgroup, in whichever hierarchy has it."""
        return next(d / name for d in self.groups()
                    if d.parts[-2:] == (part, str(vm_id))
                    and (d / name).exists())

    def pids(self):
        found = set()
        for d in self.groups():
            with contextlib.suppress(OSError):
                found |= {int(p)
                          for p in (d / "cgroup.procs").read_text().split()}
        return found

    def links(self):
        out = run("ip", "-n", self.id, "-j", "link")
        return [x["ifname"] for x in json.loads(out)]

    def elements(self):
        out = run(*self.in_net, "nft", "list", "set", "bridge", "qvd",
                  "macip", check=False)
        return out

    def left(self, vm_id):
        """What there is of a VM besides its disks."""
        found = [str(d) for d in self.groups() if d.name == str(vm_id)]
        found += [n for n in self.links() if n == f"qvd{vm_id}"]
        if f'"qvd{vm_id}"' in self.elements():
            found.append("firewall elements")
        if (self.run / "vms" / str(vm_id)).exists():
            found.append("directory")
        if f"{self.run}/mnt" in pathlib.Path("/proc/mounts").read_text():
            found.append("mount")
        return found


def make_tree(tree, tiny=""):
    """A root file system of busybox alone."""
    for d in ("bin", "sbin", "usr/bin", "usr/lib", "etc", "dev", "proc",
              "sys", "run", "home", "root", "tmp", "var"):
        (tree / d).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in run("/bin/busybox", "--list").split():
        if name != "busybox" and not (tree / "bin" / name).exists():
            (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/tiny").write_text(tiny)
