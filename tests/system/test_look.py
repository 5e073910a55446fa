# SPDX-License-Identifier: GPL-3.0-or-later
"""The look at all disks of a node: machines whose QEMU doesn't answer keep
nobody's facts back. Their QEMUs are played here, because a real one always
answers (test_kvm.py has it)."""

import contextlib
import json
import os
import socket
import subprocess
import threading

import pytest
from nodelab import Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SYSTEM, HOME, PAUSED = slice(1, 4), slice(4, 7), 7
GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


class Machine:
    """A group, a record, and a monitor; says: what is its status, or how it
    misbehaves."""

    def __init__(self, node, vm_id, says):
        self.says, self.heard = says, []
        place = node.run / "vms" / str(vm_id)
        place.mkdir(parents=True)
        (place / "run.json").write_text(json.dumps({
            "hypervisor": "kvm", "checksum": "a" * 64, "volatile": False}))
        home = node.data / "homes" / f"{vm_id}.raw"
        with home.open("wb") as f:
            f.write(bytes(1 << 20))
            f.truncate(8 << 20)
        self.proc = subprocess.Popen(["sleep", "1000"])
        self.groups = []
        for top in (d for d in node.groups() if d.name == node.id):
            group = top / "ct" / str(vm_id)
            with contextlib.suppress(OSError):
                group.mkdir(parents=True, exist_ok=True)
                (group / "cgroup.procs").write_text(str(self.proc.pid))
                self.groups.append(group)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(place / "qmp.sock"))
        if says != "deaf":
            self.socket.listen(8)
            threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            with contextlib.suppress(OSError):
                self.talk(self.socket.accept()[0])

    def talk(self, c):
        if self.says == "silent":
            c.recv(1 << 16)
            c.recv(1 << 16)
            return
        if self.says == "flood":
            while True:
                c.sendall(b'{"event": "RESUME", "data": {}}\r\n' * 100)
        c.sendall(GREETING)
        for text in c.makefile("r"):
            ask = json.loads(text)
            self.heard.append(ask["execute"])
            c.sendall(b'{"event": "RTC_CHANGE", "data": {}}\r\n')
            status = {"status": self.says} \
                if ask["execute"] == "query-status" else {}
            answer = {"error": {"class": "GenericError", "desc": "no"}} \
                if self.says == "refuses" else {"return": status}
            c.sendall(json.dumps({**answer, "id": ask["id"]}).encode()
                      + b"\r\n")

    def end(self):
        self.proc.kill()
        self.proc.wait()
        self.socket.close()


@pytest.fixture
def node():
    with Node() as node:
        node.setup()
        yield node


def test_machines_that_do_not_answer(node):
    node.vm(1, node.image(), home_mb=32)
    kinds = ["running", "io-error", "silent", "flood", "deaf", "refuses",
             "silent"]
    machines = {i: Machine(node, i, says) for i, says in enumerate(kinds, 11)}
    try:
        for go_on in (False, True):
            rows = {row[0]: row for row in node.ask(
                "vm.disks", go_on=go_on)["vms"]}
            assert {vm: row[PAUSED] for vm, row in rows.items()} == {
                1: 0, 11: 0, 12: 1, 13: -1, 14: -1, 15: -1, 16: -1, 17: -1}
            assert rows[1][HOME][1] > 0
            # Their disks are known all the same.
            assert all(rows[vm][HOME][:2] == [1024, 8192] for vm in machines)
            assert ("cont" in machines[12].heard) == go_on
        assert "cont" not in machines[11].heard
    finally:
        for machine in machines.values():
            machine.end()
        node.remove_vms()
