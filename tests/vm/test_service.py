# SPDX-License-Identifier: GPL-3.0-or-later
"""A farm as a service of systemd, in the machine's own network: where udev
sees each port and bridge, and systemd ends what it finds in the service's
group when it is restarted."""

import json
import os
import pathlib
import re

import pytest
from nodelab import UNIFIED
from qvdlab import build, eventually, run
from qvdlab.farm import START_S

DIR = pathlib.Path("/var/lib/qvd-service")
UNIT = "qvd-service"


class Service:
    def __init__(self):
        self.env = dict(os.environ, QVD_ADMIN_SOCKET=str(DIR / "r/api.sock"))

    def start(self):
        run("systemd-run", "-q", f"--unit={UNIT}", "--remain-after-exit",
            "-p", "KillMode=mixed", "-p", "TasksMax=infinity",
            build.programs() / "qvd", "up", "--keep-desktops", "--data", DIR / "d", "--run",
            DIR / "r", "--listen", "127.0.0.1:8443", "--name", "node1")
        self.wait()

    def wait(self):
        eventually(lambda: run(build.programs() / "qvd", "host", "top",
                               env=self.env, check=False), START_S,
                   "the service's API")

    def qvd(self, *args, **options):
        return run(build.programs() / "qvd", *args, env=self.env, timeout=120,
                   **options)

    def adoptions(self):
        told = json.loads(self.qvd("-o", "json", "why", "vm", "1"))
        return [e["name"] for e in told["events"]].count("vm.adopted")

    def vm(self):
        top = json.loads(self.qvd("-o", "json", "host", "top"))
        return next((v for v in top["vms"] if v["vm_id"] == 1), None)


@pytest.fixture(scope="module")
def service():
    DIR.mkdir(mode=0o755)
    service = Service()
    try:
        service.start()
        service.qvd("user", "add", "alice", "--password-file", "-",
                    input="secret\n")
        service.qvd("osf", "add", "busybox", "--memory", "96M")
        service.qvd("image", "import", build.image("busybox"), "--osf",
                    "busybox", "--version", "1", "--tag", "default")
        service.qvd("vm", "add", "alice/desk", "--osf", "busybox")
        service.qvd("vm", "start", "alice/desk")
        yield service
    finally:
        print(run("journalctl", "-q", "-n", "60", "-u", UNIT))
        run("systemctl", "stop", UNIT, check=False)


def first_pid():
    return (UNIFIED / "qvd/ct/1/cgroup.procs").read_text().split()[0]


def address(service):
    return re.search(r"10\.88\.\d+\.\d+", service.qvd(
        "-o", "json", "vm", "show", "1")).group()


def assert_reached(service):
    assert " 0% packet loss" in run("ping", "-n", "-c1", "-W20",
                                    address(service))


def test_reached_past_udev(service):
    """udev gives new links addresses of its own, unless they have one."""
    links = {x["ifname"]: x["address"]
             for x in json.loads(run("ip", "-j", "link"))}
    assert links["qvdnet0"] == "54:52:00:58:00:01"
    assert_reached(service)
    inside = run("nsenter", "-t", first_pid(), "-n", "ip", "-j", "link")
    mine = next(x for x in json.loads(inside) if x["ifname"] == "eth0")
    assert mine["address"].startswith("54:52:00:58:")


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_desktops_outlive_the_service(service, how):
    pid = first_pid()
    adopted = service.adoptions()
    if how == "restart":
        run("systemctl", "restart", UNIT, check=False)
        if run("systemctl", "is-active", UNIT, check=False) != "active\n":
            service.start()  # a transient unit has gone with its stop
    else:
        run("systemctl", "kill", "-s", "KILL", UNIT)
        run("systemctl", "stop", UNIT, check=False)
        run("systemctl", "reset-failed", UNIT, check=False)
        service.start()
    service.wait()
    eventually(lambda: service.adoptions() > adopted, 60, "the adoption")
    assert first_pid() == pid
    assert (UNIFIED / "qvd/ct/1/memory.max").read_text() == f"{96 << 20}\n"
    assert_reached(service)


def test_nothing_is_left(service):
    service.qvd("vm", "stop", "alice/desk")
    eventually(lambda: not (UNIFIED / "qvd/ct/1").exists(), 60)
    assert service.vm() is None
    assert "qvd1" not in run("ip", "link")
    assert service.qvd("host", "repair", "node1") == \
        "Nothing was left behind.\n"
