# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines of a farm: rows in the database become machines, whose
agent answers over TCP, and what is killed is found again."""

import ipaddress
import os
import socket
import subprocess

import kvmguest
import pytest
from qvdlab import Farm, eventually, leaks, need, run

from test_hkd import alive, row, wait, wait_house, want

AGENT = "exec qvd-vma --service\n"


@pytest.fixture(scope="module")
def farm():
    need("root", "containers")
    with Farm() as farm:
        tree = kvmguest.make_tree(farm.dir / "guest", agent=AGENT,
                                  programs=[kvmguest.vma()])
        farm.qvd("config", "set", "vm.kvm.accel", "tcg")
        farm.qvd("config", "set", "vm.stop.grace", "60s")
        farm.qvd("config", "set", "vm.network.gateway6", "fd00:6::1/64")
        farm.add_osf("kvm", tree, "--hypervisor", "kvm", "--memory", "512M",
                     "--home", "64M")
        farm.add_user("alice", "secret")
        farm.vm = farm.add_vm("alice", "kvm", "machine")
        yield farm


def look_at_console_and_screen(farm, vm):
    """By the administrator's commands."""
    def begin(verb):
        return subprocess.Popen(
            [farm.programs / "qvd", "vm", verb, "alice/machine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=farm.env)
    with begin("console") as shell:
        shell.stdin.write(b"\necho BE''GIN $(hostname) E''ND\n")
        shell.stdin.flush()
        kvmguest.read_until(shell.stdout.fileno(), b"BEGIN machine END")
        shell.terminate()
    with begin("screen") as screen:
        line = screen.stdout.readline().decode()
        path = line.split(": ")[1].strip()
        for _ in range(2):  # one viewer after the other
            with socket.socket(socket.AF_UNIX) as viewer:
                viewer.settimeout(60)
                viewer.connect(path)
                assert viewer.recv(12) == b"RFB 003.008\n"
        screen.terminate()
    assert screen.returncode == 0 and not os.path.exists(path)
    assert [a for a, in farm.sql(
        "SELECT DISTINCT action FROM audit WHERE action IN "
        "('vms.console', 'vms.screen') ORDER BY action")] == \
        ["vms.console", "vms.screen"]


def test_life_through_rows(farm):
    vm = farm.vm
    want(farm, vm)
    run_ = wait(farm, vm, "running", timeout=200)
    assert alive(run_["pid"]) and run_["error_id"] is None
    name = os.readlink(f"/proc/{run_['pid']}/exe")
    assert name.endswith("qemu-system-x86_64")

    # Its agent answers nobody who doesn't know the secret.
    address = farm.one("SELECT host(address) FROM vms WHERE id = %s", vm)
    said = run(*farm.prefix, "curl", "-sS", "-m", "10",
               f"http://{address}:823/state", check=False)
    assert "session" not in said

    # Killed house-keepers find it again, and the agent's word with it.
    for n, who in enumerate((("qvd-hkd-main", "main"), ("qvd-hkd", None)), 1):
        farm.kill(*who)
        eventually(lambda: farm.event_names(vm).count("vm.adopted") == n, 60)
        wait_house(farm)
        assert row(farm, vm)["pid"] == run_["pid"] and alive(run_["pid"])

    look_at_console_and_screen(farm, vm)

    # Its power button ends it in order.
    want(farm, vm, False)
    wait(farm, vm, "stopped", timeout=120)
    eventually(lambda: not alive(run_["pid"]), 10, "QEMU's end")
    farm.assert_clean(vm)
    names = [n for n in farm.event_names(vm) if n.startswith("vm.")]
    assert names[-2:] == ["vm.stopping", "vm.stopped"]


# Also what a directory is made of that was moved, and what took the place of
# another.
CHANGES = "\n".join(line.strip() for line in """
    rm /etc/hosts
    rm -r /etc/skel; mkdir /etc/skel; echo x >/etc/skel/fresh
    mkdir -p /srv/deep; mv /etc/qvd /srv/qvd-moved; echo n >/srv/qvd-moved/new
    rm /etc/os-release; mkfifo /etc/os-release
    chown 7:8 /srv/deep; chmod 2750 /srv/deep; ln -s ../deep /srv/link
    echo long >/srv/deep/$(printf '%0150d' 7)
    dd if=/dev/zero of=/srv/holes bs=1 count=1 seek=20000000 2>/dev/null
    echo alice:x:2000:2000::/home/alice:/bin/sh >>/etc/passwd
    echo litter >/tmp/litter; echo litter >/var/tmp/litter
    sync; echo E''ND3
    """.split("\n"))


def test_commit_what_was_done_in_a_machine(farm):
    """Read by a machine, not by the node; the new version is the old one with
    that alone."""
    farm.add_osf("done", kvmguest.make_system(farm.dir / "done"),
                 "--hypervisor", "kvm", "--memory", "512M", "--home", "64M")
    vm = farm.add_vm("alice", "done", "done")
    want(farm, vm)
    wait(farm, vm, "running", timeout=200)
    # Its node is its name server, when none is named.
    kvmguest.console(farm, vm, ("#", "\n"),
                     ("nameserver 10.88.0.1", "cat /etc/resolv.conf\n"),
                     ("END3", CHANGES))
    want(farm, vm, False)
    wait(farm, vm, "stopped", timeout=120)
    # What its OSF says of the accelerator is for the machine that reads, too.
    farm.qvd("osf", "set", "done", "--accel", "tcg")
    farm.qvd("config", "set", "vm.kvm.accel", "kvm")
    try:
        farm.qvd("image", "commit", vm, "--message", "In a machine",
                 timeout=600)
    finally:
        farm.qvd("config", "set", "vm.kvm.accel", "tcg")
    old, new = (farm.qvd("image", "show", f"done:{tag}", json=True)
                for tag in ("default", "head"))
    assert new["parent"] == old["version"]
    assert new["hypervisors"] == "lxc kvm"
    tree = farm.data / "images/trees" / new["checksum"]
    changes = {f["path"]: f["change"] for f in farm.qvd(
        "image", "diff", "done:head", json=True)["files"]}
    name = f"/srv/deep/{7:0150d}"
    assert (tree / name[1:]).read_text() == "long\n"
    st = (tree / "srv/deep").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (7, 8, 0o2750)
    assert os.readlink(tree / "srv/link") == "../deep"
    assert (tree / "srv/holes").stat().st_size == 20000001
    assert {p.name for p in (tree / "srv/qvd-moved").iterdir()} == {"new"}
    assert [p.name for p in (tree / "etc/skel").iterdir()] == ["fresh"]
    assert "alice" not in (tree / "etc/passwd").read_text()
    assert not (tree / "etc/os-release").exists()
    assert changes[name] == "added" and changes["/etc/hosts"] == "removed"
    assert changes["/etc/os-release"] == changes["/etc/qvd"] == "removed"
    for same in ("/bin/busybox", "/etc/passwd", "/etc/resolv.conf",
                 "/tmp/litter", "/var/tmp/litter"):
        assert same not in changes
    files = [p for p in tree.rglob("*")]
    assert new["files"] == len(files) + 1
    assert new["size_bytes"] == sum(
        p.lstat().st_size for p in files if p.is_file()
        and not p.is_symlink())
    farm.qvd("image", "verify", "done:head")
    farm.assert_clean(vm)
    assert farm.event_names(vm)[-1] == "vm.stopped"


def overwrite(path, data):
    """Its beginning; what was there."""
    with path.open("r+b") as f:
        before = f.read(len(data))
        f.seek(0)
        f.write(data)
    return before


@pytest.mark.once
def test_commit_of_a_forged_disk(farm):
    """A guest, or a QEMU that it has taken over, may write what it likes to
    its disk. And the reading of it is killed."""
    farm.add_osf("forged", kvmguest.make_system(farm.dir / "forged"),
                 "--hypervisor", "kvm", "--memory", "512M", "--home", "64M")
    vm = farm.add_vm("alice", "forged", "forged")
    want(farm, vm)
    wait(farm, vm, "running", timeout=200)
    kvmguest.console(farm, vm, ("#", "\n"), (
        "END", "mkdir /srv; echo mine >/srv/mine; sync; echo E''ND\n"))
    want(farm, vm, False)
    wait(farm, vm, "stopped", timeout=120)
    disk, = farm.data.glob(f"vms/{vm}/*/root.raw")
    commit = ("image", "commit", vm, "--message", "Forged")

    # Its file system has become the header of a disk that leans on a file of
    # the node's.
    secret, header = farm.dir / "secret", farm.dir / "header"
    secret.write_bytes(b"SECRET\n" * 300000)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw",
        header)
    honest = overwrite(disk, header.read_bytes()[:65536])
    said = farm.qvd(*commit, check=False, timeout=600)
    assert said.status and "ended before it was done" in said.err, said.err
    assert "SECRET" not in said.err
    farm.assert_clean(vm)
    overwrite(disk, honest)

    # The helper ends while it is read: the commit begins again by itself.
    reading = subprocess.Popen(
        [str(a) for a in (farm.programs / "qvd", *commit)], env=farm.env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: leaks.of_vm(farm, vm), 120)
    farm.kill("qvd-hkd")
    assert reading.wait(600) == 0
    farm.assert_clean(vm)

    head = farm.qvd("image", "show", "forged:head", json=True)
    tree = farm.data / "images/trees" / head["checksum"]
    assert (tree / "srv/mine").read_text() == "mine\n"
    farm.qvd("image", "verify", "forged:head")


def states(farm, vm):
    return sorted(p.name for p in farm.data.glob(f"vms/{vm}/*/state*"))


def start_fails(farm, vm, word):
    said = farm.qvd("vm", "start", vm, check=False)
    assert said.status and word in said.err, said.err
    farm.wait_vm(vm, state="suspended")


def test_suspended_through_rows(farm):
    vm = farm.vm
    want(farm, vm)
    run_ = wait(farm, vm, "running", timeout=200)
    said = kvmguest.console(
        farm, vm, ("#", "\n"),
        ("END", "date -s @1000000000; echo here >/tmp/mark; "
                    "echo BOOTS $(wc -l </disk/boots) E''ND\n"))
    boots = said.split("BOOTS ")[-1].split()[0]
    image = farm.one("SELECT image_id FROM vm_runtimes WHERE vm_id = %s", vm)

    # Its disk is full: it runs on.
    place, = (p for p in farm.data.glob(f"vms/{vm}/*")
              if (p / "root.qcow2").exists())
    run("mount", "-t", "tmpfs", "-o", "size=1m", "qvd-test", place)
    try:
        said = farm.qvd("vm", "suspend", "alice/machine", check=False)
    finally:
        run("umount", "-l", place)  # QEMU may still close its file there
    assert said.status and "save its state" in said.err, said.err
    farm.wait_event("vm.suspend-failed", vm)
    now = row(farm, vm)
    assert now["state"] == "running" and now["pid"] == run_["pid"]

    farm.qvd("vm", "suspend", "alice/machine")
    farm.wait_event("vm.suspended", vm)
    assert row(farm, vm)["state"] == "suspended"
    eventually(lambda: not alive(run_["pid"]), 60, "QEMU's end")
    farm.assert_clean(vm)
    assert states(farm, vm) == ["state", "state.machine"]
    said = farm.qvd("vm", "del", vm, check=False)
    assert said.status and "suspended" in said.err
    for who in (("qvd-hkd-main", "main"), ("qvd-hkd", None)):
        n = farm.event_names().count("host.started")
        farm.kill(*who)
        farm.wait_event("host.started", count=n + 1, timeout=120)
        assert row(farm, vm)["state"] == "suspended"

    # Another machine can't go on from it; it waits until it is set back.
    farm.qvd("osf", "set", "kvm", "--machine", "microvm", "--accel", "tcg",
             "--memory", "640M")
    start_fails(farm, vm, "as 'microvm tcg 640 MB")
    farm.qvd("osf", "set", "kvm", "--machine", "node", "--accel", "node",
             "--memory", "512M")
    farm.wait_event("vm.resume-failed", vm)
    # Its tag moves: what goes on, goes on with what it ran.
    farm.qvd("image", "import", farm.dir / "guest", "--osf", "kvm",
             "--version", "2", "--tag", "default", timeout=300)
    farm.qvd("vm", "start", vm)
    farm.wait_event("vm.resumed", vm)
    assert states(farm, vm) == []
    assert image == farm.one(
        "SELECT image_id FROM vm_runtimes WHERE vm_id = %s", vm)
    said = kvmguest.console(
        farm, vm, ("#", "\n"),
        ("END", "echo GOT $(cat /tmp/mark) $(wc -l </disk/boots); "
         "echo E''ND\n"))
    assert f"GOT here {boots}" in said
    # Its clock, which has stood still (here since 2001), is right again.
    eventually(lambda: "YEAR 2001" not in kvmguest.console(
        farm, vm, ("#", "\n"), ("END", "echo YEAR $(date +%Y) E''ND\n")), 60)

    # A stop forgets it.
    farm.qvd("vm", "suspend", vm)
    farm.qvd("vm", "stop", vm)
    assert row(farm, vm)["state"] == "stopped" and states(farm, vm) == []
    said = farm.qvd("vm", "suspend", vm, check=False)
    assert said.status == 16 and "isn't running" in said.err
    farm.assert_clean(vm)

    # Its home is its disk, of which there are snapshots.
    farm.qvd("home", "snapshot", vm, "one")
    farm.qvd("home", "restore", vm, "one")
    home = farm.qvd("home", "show", vm, json=True)
    assert home["size_mb"] == 64
    assert [s["name"] for s in home["snapshots"]] == ["one"]
    farm.qvd("home", "forget", vm, "one")


@pytest.fixture
def small_homes(farm):
    """The homes of the farm's machines on a disk with little room."""
    homes = str(farm.data / "homes")
    run("mount", "-t", "tmpfs", "-o", "size=24m", "qvd-test", homes)
    yield homes
    want(farm, farm.vm, False)
    wait(farm, farm.vm, "stopped", timeout=120)
    eventually(lambda: run("umount", homes, check=False) is not None
               and not os.path.ismount(homes), 30, "the disk's end")


@pytest.mark.long
def test_paused_until_the_node_has_room(farm, small_homes):
    vm = farm.vm
    farm.qvd("config", "set", "node.storage.look", "1s")
    want(farm, vm)
    wait(farm, vm, "running", timeout=200)
    # No zeros, which take no room. It goes on where it stood still.
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(farm.run / f"vms/{vm}/console.sock"))
        s.sendall(b"\nyes | dd of=/dev/vdb bs=64k count=640 iflag=fullblock "
                  b"conv=fsync && echo WRIT''TEN\n")
        text, error = farm.wait_event("vm.paused", vm, timeout=200)[1:]
        assert "QEMU has paused it" in text and error == "no-space"
        text, error = farm.wait_event("host.disk-full")[1:]
        assert small_homes in text and error == "no-space"
        farm.wait_sql("qvd_vm_runtimes", "SELECT paused_at IS NOT NULL FROM "
                      "vm_runtimes WHERE vm_id = %s", vm)
        assert "It has been paused since" in farm.qvd("why", "vm", vm).out
        run("mount", "-o", "remount,size=200m", small_homes)
        farm.wait_event("host.disk-room")
        farm.wait_event("vm.continued", vm, timeout=200)
        kvmguest.read_until(s.fileno(), b"WRITTEN", timeout=200)
    assert not farm.qvd("vm", "show", vm, json=True)["paused_at"]
    farm.qvd("config", "unset", "node.storage.look")


def address6(farm, vm):
    """As the node derives it: the last four bytes are those of IPv4."""
    four = ipaddress.ip_address(
        farm.one("SELECT host(address) FROM vms WHERE id = %s", vm))
    return str(ipaddress.ip_address("fd00:6::") + int(four))


def test_one_image_two_hypervisors(farm):
    """The same commit as a machine and as a container."""
    tree = kvmguest.make_system(farm.dir / "both")
    farm.add_osf("both", tree, "--hypervisor", "kvm", "--memory", "512M",
                 "--home", "64M")
    vm = farm.add_vm("alice", "both", "both")
    image, runs_on = farm.sql(
        "SELECT i.id, i.hypervisors FROM images i JOIN osfs o "
        "ON o.id = i.osf_id WHERE o.name = 'both'")[0]
    assert runs_on == "lxc kvm"

    def ran_from():
        return farm.one("SELECT image_id FROM vm_runtimes WHERE vm_id = %s",
                        vm)
    for boot in (1, 2):
        want(farm, vm)
        run_ = wait(farm, vm, "running", timeout=200)
        assert os.readlink(f"/proc/{run_['pid']}/exe").endswith(
            "qemu-system-x86_64")
        assert ran_from() == image
        # Root and home are its own and stay; the image can't be written.
        said = kvmguest.console(
            farm, vm, ("#", "\n"),
            ("END2", f"echo {boot} >>/opt; echo {boot} >>/home/kept; "
             "echo GOT $(cat /opt /home/kept), read-only $(cat "
             "/sys/block/vda/ro), $(hostname); echo E''ND2\n"))
        kept = "1 1" if boot == 1 else "1 2 1 2"
        assert f"GOT {kept}, read-only 1, both" in said
        # It has the address that its node knows, and answers there.
        if boot == 1:
            assert "fd00:6::" in kvmguest.console(
                farm, vm, ("END6", "ip -6 addr; echo E''ND6\n"))
            eventually(lambda: "1 received" in run(
                *farm.prefix, "ping", "-6", "-c1", "-W5",
                address6(farm, vm), check=False), 60)
        want(farm, vm, False)
        wait(farm, vm, "stopped", timeout=120)
        farm.assert_clean(vm)
    farm.qvd("osf", "set", "both", "--hypervisor", "lxc")
    want(farm, vm)
    run_ = wait(farm, vm, "running")
    assert ran_from() == image
    assert not os.readlink(f"/proc/{run_['pid']}/exe").endswith(
        "qemu-system-x86_64")
    want(farm, vm, False)
    wait(farm, vm, "stopped")
    farm.assert_clean(vm)


def test_refuses_an_image_without_kernel(farm):
    tree = farm.dir / "no-kernel"
    (tree / "etc").mkdir(parents=True)
    farm.add_osf("odd", None, "--hypervisor", "kvm")
    said = farm.qvd("image", "import", tree, "--osf", "odd", check=False)
    assert said.status
    assert "neither a disk" in said.err and "linux-image" in said.err
    # One that was imported for containers is refused at the start.
    farm.add_osf("odder", tree)
    farm.qvd("osf", "set", "odder", "--hypervisor", "kvm")
    vm = farm.add_vm("alice", "odder", "odd")
    want(farm, vm)
    farm.wait_event("vm.start-failed", vm)
    run_ = wait(farm, vm, "stopped")  # the event may come before the row
    assert run_["error_id"] == "image-unusable"
    assert "neither a disk" in run_["error"]
    want(farm, vm, False)
    wait(farm, vm, "stopped")
    farm.assert_clean(vm)


def test_what_has_no_console(farm):
    tree = farm.dir / "bare"
    (tree / "etc").mkdir(parents=True)
    farm.add_osf("bare", tree)
    farm.add_vm("alice", "bare", "bare")
    for verb in ("console", "screen"):
        failed = farm.qvd("vm", verb, "alice/bare", check=False)
        assert failed.status == 16, failed.err
        assert "start it first" in failed.err
    failed = farm.qvd("vm", "suspend", "alice/bare", check=False)
    assert failed.status == 16 and "is a container" in failed.err
    # The API gives a stream only to who asks for one.
    said = run("curl", "-sS", "-X", "POST", "--unix-socket",
               farm.run / "api.sock", f"http://qvd/v1/vms/{farm.vm}/console")
    assert "Upgrade" in said


def test_bare_disks(farm):
    farm.add_osf("disks", None, "--hypervisor", "kvm")

    def bring(name, *how):
        path = farm.dir / name
        if how:
            run("qemu-img", "create", "-q", *how)
        else:
            path.write_bytes(b"\x55" * 4096 + bytes(1 << 20))
        return farm.qvd("image", "import", path, "--osf", "disks", check=False)
    good, based = farm.dir / "good.qcow2", farm.dir / "based.qcow2"
    for done in (bring("good.qcow2", "-f", "qcow2", good, "1M"),
                 bring("plain.img")):
        assert done.status == 0, done.err
    assert farm.sql("SELECT DISTINCT state, hypervisors FROM images i JOIN "
                    "osfs o ON o.id = i.osf_id WHERE o.name = 'disks'") == \
        [("published", "kvm")]
    # One that would show a file of the node to the guest; and no disks.
    refused = bring("based.qcow2", "-f", "qcow2", "-u", "-b", "/etc/shadow",
                    "-F", "raw", based, "1M")
    assert refused.status == 29 and "backing file" in refused.err
    refused = bring("false.qcow2")
    assert refused.status == 29 and "no qcow2" in refused.err
    assert not list(farm.data.glob("images/disks/*"))
    # Nor does a line of containers get one.
    farm.add_osf("trees")
    refused = farm.qvd("image", "import", good, "--osf", "trees", "--tag",
                       "default", check=False)
    assert refused.status == 29 and "are containers" in refused.err
