# SPDX-License-Identifier: GPL-3.0-or-later
"""What a farm, or a VM, must not leave behind: processes, mounts, network
devices, cgroups, directories, firewall elements."""

import contextlib
import json
import os
import pathlib
import shutil
import signal

from .util import eventually, run

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def cgroup_dirs(farm):
    """Every cgroup of the farm, in every hierarchy, deepest first."""
    found = []
    roots = [CGROUPS] + [p for p in CGROUPS.iterdir() if p.is_dir()] \
        if CGROUPS.is_dir() else []
    for root in roots:
        top = root / farm.id
        if top.is_dir():
            found += [pathlib.Path(d) for d, _, _ in os.walk(top)]
    return sorted(set(found), key=lambda d: -len(d.parts))


def cgroup_pids(farm):
    pids = set()
    for d in cgroup_dirs(farm):
        with contextlib.suppress(OSError):
            pids |= {int(p) for p in (d / "cgroup.procs").read_text().split()}
    return pids


def netns_pids(farm):
    """Processes in the farm's network namespace."""
    try:
        mine = os.stat(f"/run/netns/{farm.id}").st_ino
    except OSError:
        return set()
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(entry / "ns/net").st_ino == mine:
                    found.add(int(entry.name))
    return found


def describe(pid):
    with contextlib.suppress(OSError):
        args = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return f"process {pid} {args.replace(bytes(1), b' ').decode()[:120]}"
    return None


def mounts(farm):
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    where = str(farm.dir) + "/"
    return [line.split()[4] for line in lines
            if line.split()[4].startswith(where)]


def links(farm):
    out = run(*farm.prefix, "ip", "-j", "link", check=False)
    return [x["ifname"] for x in json.loads(out or "[]")]


def find(farm):
    """Sentences about what a farm that has ended left behind."""
    def left():
        pids = netns_pids(farm) | cgroup_pids(farm)
        return [d for d in map(describe, pids) if d]
    # A process that was told to end may need a moment.
    with contextlib.suppress(AssertionError):
        eventually(lambda: not left(), 3)
    problems = left()
    problems += [f"mount {m}" for m in mounts(farm)
                 if m != str(farm.run / "netns")]
    problems += [f"network device {n}" for n in links(farm)
                 if n != "lo" and not n.startswith(("qvdnet", "br"))]
    problems += [f"cgroup {d}" for d in cgroup_dirs(farm)
                 if d.parent.name in ("ct", "mon")]
    return problems


def of_vm(farm, vm):
    """What is left of a stopped VM in a farm that runs on."""
    left = [f"cgroup {d}" for d in cgroup_dirs(farm) if d.name == str(vm)]
    if (farm.run / "vms" / str(vm)).exists():
        left.append(f"directory {farm.run}/vms/{vm}")
    address = farm.one("SELECT host(address) FROM vms WHERE id = %s", vm)
    ruleset = run(*farm.prefix, "nft", "list", "ruleset", check=False)
    if address and f" {address} " in ruleset.replace(",", " "):
        left.append(f"firewall element of {address}")
    ports = [n for n in links(farm) if n not in ("lo",)
             and not n.startswith(("qvdnet", "br"))]
    running = farm.one("SELECT count(*) FROM vm_runtimes WHERE state <> "
                       "'stopped'")
    if len(ports) > running:
        left.append(f"network device among {ports}")
    state = farm.one("SELECT state FROM vm_runtimes WHERE vm_id = %s", vm)
    if state not in (None, "stopped", "suspended"):
        left.append(f"row vm_runtimes.state = {state}")
    return left


def remove(farm):
    """Takes away whatever is there, so that no test harms the next."""
    for pid in netns_pids(farm) | cgroup_pids(farm):
        if pid != os.getpid():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(AssertionError):
        eventually(lambda: not (netns_pids(farm) | cgroup_pids(farm)), 5)
    for m in sorted(mounts(farm), reverse=True):
        run("umount", "-l", m, check=False)
    for d in cgroup_dirs(farm):
        with contextlib.suppress(OSError):
            d.rmdir()
    run("ip", "netns", "del", farm.id, check=False)


class _Remains:
    """As much of a farm as remove() looks at."""

    def __init__(self, path):
        self.dir, self.id, self.run = path, path.name, path / "r"
        self.prefix = ["nsenter", f"--net=/run/netns/{self.id}"]


def sweep(base):
    """Removes farms whose test process was killed before it could."""
    for owner in pathlib.Path(base).glob("q????????/owner"):
        with contextlib.suppress(OSError, ValueError):
            if not pathlib.Path(f"/proc/{int(owner.read_text())}").exists():
                remove(_Remains(owner.parent))
                shutil.rmtree(owner.parent, ignore_errors=True)
