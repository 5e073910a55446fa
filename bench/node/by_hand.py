#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The peer of the connect benchmark: the same X session started by hand.

One lxc-start of a container over the same image tree (unprivileged, overlay),
whose init is a shell that starts nxagent and the image's session, and an
nxproxy from Debian on this side. It prints the milliseconds from lxc-start to
the first window drawn. What an administrator would have prepared beforehand
(overlay mounted, user and home made) is done before the clock starts.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BASE = 100000

INIT = """#!/bin/sh
mkdir -p /tmp/.X11-unix && chmod 1777 /tmp /tmp/.X11-unix
setpriv --reuid=2000 --regid=2000 --clear-groups env HOME=/home/peer \\
  USER=peer LOGNAME=peer DISPLAY=:100 PATH=/usr/bin:/bin sh -c '
  trap "" TERM
  umask 0; cd; echo "nx/nx,link=lan,geometry=1024x768,listen=unix:/peer/nx.sock:100" >/tmp/o
  nxagent :100 -ac -nolisten tcp -display nx/nx,options=/tmp/o:100 >/tmp/nx.log 2>&1 &
  until [ -S /tmp/.X11-unix/X100 ]; do sleep 0.01; done
  exec /etc/qvd/session' &
exec sleep infinity
"""

CONFIG = """lxc.uts.name=peer
lxc.rootfs.path=dir:{root}
lxc.init.cmd=/peer/init
lxc.mount.auto=proc:mixed sys:ro
lxc.mount.entry=tmpfs run tmpfs mode=0755 0 0
lxc.idmap=u 0 {base} 65536
lxc.idmap=g 0 {base} 65536
lxc.pty.max=64
lxc.autodev=1
lxc.apparmor.profile=unconfined
lxc.no_new_privs=1
lxc.net.0.type=empty
lxc.cgroup.dir.monitor={name}/mon
lxc.cgroup.dir.monitor.pivot={name}/pivot
lxc.cgroup.dir.container={name}/ct
"""


def prepare(tree, work):
    """A writable, shifted copy of the tree; returns its path.

    `cp -al` shares the files; their owners stay root of the host, which the
    container sees as nobody: enough to read and run them. What must be the
    container's own (user, home, /tmp, /run) is made here.
    """
    for name in ("lower", "upper", "work", "root"):
        (work / name).mkdir()
    os.chown(work / "upper", BASE, BASE)
    subprocess.run(["mount", "--bind", str(tree), str(work / "lower")],
                   check=True)
    subprocess.run(["mount", "-t", "overlay", "peer", "-o",
                    f"lowerdir={work}/lower,upperdir={work}/upper,"
                    f"workdir={work}/work", str(work / "root")], check=True)
    root = work / "root"
    with (root / "etc/passwd").open("a", encoding="ascii") as out:
        out.write("peer:x:2000:2000::/home/peer:/bin/sh\n")
    with (root / "etc/group").open("a", encoding="ascii") as out:
        out.write("peer:x:2000:\n")
    for path, uid, mode in (("home/peer", 2000, 0o755), ("tmp", 0, 0o1777),
                            ("run", 0, 0o755), ("peer", 2000, 0o755)):
        (root / path).mkdir(parents=True, exist_ok=True)
        os.chown(root / path, BASE + uid, BASE + uid)
        os.chmod(root / path, mode)
    (root / "peer/init").write_text(INIT, encoding="ascii")
    os.chmod(root / "peer/init", 0o755)
    return root


def run(tree, display, first_window):
    """Milliseconds from lxc-start to the first window on the display."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="qvd-peer-"))
    name = work.name
    os.chmod(work, 0o755)
    proxy = waiter = None
    try:
        root = prepare(pathlib.Path(tree), work)
        config = work / "config"
        config.write_text(CONFIG.format(root=root, base=BASE, name=name),
                          encoding="ascii")
        waiter = subprocess.Popen([first_window, "--display", display],
                                  stdout=subprocess.PIPE)
        start = time.monotonic()
        subprocess.run(["lxc-start", "-P", str(work), "-n", name, "-f",
                        str(config), "-d"], check=True)
        socket = root / "peer/nx.sock"
        while not socket.exists():
            time.sleep(0.005)
        proxy = subprocess.Popen(
            ["nxproxy", "-S", f"nx/nx,connect=unix:{socket},retry=3:101"],
            env={"DISPLAY": display, "HOME": str(work), "NX_ROOT": str(work),
                 "PATH": "/usr/bin:/bin"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        waiter.communicate(timeout=60)
        if waiter.returncode != 0:
            raise RuntimeError("no window within 60 s")
        return (time.monotonic() - start) * 1000
    finally:
        if proxy is not None:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait()
        if waiter is not None and waiter.poll() is None:
            waiter.kill()
            waiter.wait()
        subprocess.run(["lxc-stop", "-P", str(work), "-n", name, "-k"],
                       check=False, stderr=subprocess.DEVNULL)
        for mount in ("root", "lower"):
            subprocess.run(["umount", "-l", str(work / mount)], check=False,
                           stderr=subprocess.DEVNULL)
        remove_cgroups(name)
        shutil.rmtree(work)


def remove_cgroups(name):
    for top in pathlib.Path("/sys/fs/cgroup").glob(f"*/{name}"):
        for path in sorted(top.rglob("*"), key=lambda p: -len(p.parts)):
            if path.is_dir():
                path.rmdir()
        top.rmdir()


if __name__ == "__main__":
    # An end by signal must clean up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"{run(*sys.argv[1:4]):.0f}")
