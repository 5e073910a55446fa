# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry: a user is told on the desktop, and later it is restarted, whoever
died meanwhile."""

import pathlib

from qvdlab import eventually, run
from qvdlab.desk import Desk


def message_of(farm, vm):
    """The text of the message that is shown in the VM, None without one."""
    init = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)
    space = pathlib.Path(f"/proc/{init}/ns/pid").readlink()
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            args = (path / "cmdline").read_bytes().decode().split("\0")
            if "message" in args and (path / "ns/pid").readlink() == space \
                    and "--text" in args:
                return args[args.index("--text") + 1]
        except OSError:
            continue
    return None


def test_a_user_is_told_and_the_desktop_is_restarted(desktop, screen):
    farm, vm = desktop, desktop.vm
    desk = Desk(farm, screen)
    epoch = farm.one("SELECT epoch FROM vms WHERE id = %s", vm)
    farm.qvd("vm", "expire", vm, "--soft", "0", "--hard", "1h")
    assert "that it is restarted at 2" in \
        farm.wait_event("vm.expiry-told", vm)[1]
    text = eventually(lambda: message_of(farm, vm), 20, "the message")
    assert text.startswith("There is a new version of this desktop. It will "
                           "be restarted on 2")
    # A white window above the terminal, which goes with a click.
    x, y = 440, 120
    eventually(lambda: screen.pixel(x, y) in ("white", "srgb(255,255,255)",
                                              "gray(255)"), 20,
               lambda: "a white window, not " + screen.pixel(x, y))
    screen.click(x, y)
    eventually(lambda: not message_of(farm, vm), 20, "its end")

    # The house-keeper that comes back tells again; nobody forgets the date.
    farm.kill("qvd-hkd-main", "main")
    farm.wait_event("vm.expiry-told", vm, count=2, timeout=60)
    farm.qvd("vm", "expire", vm, "--hard", "2s")
    farm.kill("qvd-api")
    farm.wait_event("vm.expired", vm, timeout=60)
    farm.wait_sql("qvd_vm_runtimes", "SELECT state = 'running' AND epoch = %s "
                  "FROM vm_runtimes WHERE vm_id = %s", epoch + 1, vm)
    assert farm.sql("SELECT expire_soft_at, expire_hard_at FROM vms "
                    "WHERE id = %s", vm) == [(None, None)]
    why = farm.qvd("why", "vm", vm).out
    assert "its time is over: it is restarted" in why
    desk.client.terminate()
    desk.client.wait(30)


def test_only_what_runs_expires(desktop):
    farm, vm = desktop, desktop.vm
    farm.qvd("vm", "start", vm)
    farm.qvd("vm", "expire", vm, "--hard", "1h")
    assert farm.qvd("vm", "show", vm, json=True)["expire_hard_at"]
    farm.qvd("vm", "expire", vm, "--never")
    assert not farm.qvd("vm", "show", vm, json=True)["expire_hard_at"]
    assert farm.qvd("vm", "expire", vm, check=False).status == 18
    farm.qvd("vm", "expire", vm, "--hard", "1h")
    farm.qvd("vm", "stop", vm)
    refused = farm.qvd("vm", "expire", vm, "--hard", "1h", check=False)
    assert refused.status == 16 and "does not run" in refused.err
    farm.qvd("vm", "start", vm)
    assert not farm.qvd("vm", "show", vm, json=True)["expire_hard_at"]
    farm.qvd("vm", "stop", vm)


def test_a_user_is_told_of_a_full_home(desktop, screen):
    """Once for each word; somebody who isn't there, on coming back; and anew
    when the desktop was restarted."""
    farm = desktop
    farm.qvd("config", "set", "node.storage.look", "1s")
    farm.qvd("osf", "set", "demo", "--home", "64M")
    try:
        vm = farm.add_vm("alice", "demo", "narrow")
        farm.qvd("vm", "start", vm)
    finally:
        farm.qvd("osf", "set", "demo", "--home", "0")
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)

    def inside(script):
        run("nsenter", "-t", pid, "-m", "-U", "-r", "-w", "sh", "-c", script)
    inside("dd if=/dev/zero of=/home/big bs=1M count=80; sync; :")
    farm.wait_event("vm.disk-full", vm)
    assert "vm.disk-told" not in farm.event_names(vm)
    inside("rm /home/big; sync")
    farm.wait_event("vm.disk-room", vm)
    desk = Desk(farm, screen, vm=vm,
                home=pathlib.Path(f"/proc/{pid}/root/home/alice"))
    inside("dd if=/dev/zero of=/home/big bs=1M count=80; sync; :")
    eventually(lambda: "Your home is full" in (message_of(farm, vm) or ""),
               60, lambda: message_of(farm, vm))
    farm.wait_event("vm.disk-told", vm)
    eventually(lambda: "its user was told that the home is full" in
               farm.qvd("why", "vm", vm).out, 30)
    # Still nearly full, with room for a session to begin.
    inside("truncate -s -4M /home/big; sync")
    desk.close()
    farm.qvd("vm", "stop", vm)
    client = farm.client("--vm", vm, user="alice", display=screen)
    farm.wait_event("vm.disk-told", vm, count=2)
    client.terminate()
    client.wait(30)
    farm.qvd("vm", "stop", vm)
    farm.qvd("config", "unset", "node.storage.look")
    farm.assert_clean(vm)
