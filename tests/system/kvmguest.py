# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest of the tests of virtual machines: Debian's cloud kernel and
BusyBox in an initial RAM disk, up in two seconds without KVM. It takes its
address from what its node tells it, mounts its disk, counts its boots there,
gives a shell on the serial console, and powers off at the power button."""

import os
import pathlib
import select
import shutil
import socket
import subprocess
import tempfile
import time

from qvdlab import build

MODULES = """virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev
virtio_pci virtio_mmio virtio_blk failover net_failover virtio_net
virtio-rng virtio_balloon qemu_fw_cfg button evdev""".split()

INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
for m in $(cat /modules.list); do insmod /modules/$m.ko; done
fact() { cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.qvd/$1/raw; }
hostname "$(fact hostname)"
ip link set lo up
ip link set eth0 up
ip addr add "$(fact address)" dev eth0
ip route add default via "$(fact gateway)"
mount -t ext4 /dev/vda /disk
echo boot >>/disk/boots
sync
acpid
echo "guest is up, boots: $(wc -l </disk/boots)"
[ -x /agent ] && /agent &
while :; do setsid cttyhack sh; done
"""


def run(*args, **options):
    done = subprocess.run([str(a) for a in args], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{args}: {done.stdout}"
    return done.stdout


def kernel():
    """The folder with the kernel; fetched once."""
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run([root / "images/kernel", root / "build/images"],
                          check=False, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.strip())


def libraries(program):
    """Paths of what a program is linked with."""
    done = subprocess.run(["ldd", program], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    words = done.stdout.split()  # none of one that is linked statically
    return [w for w in words if w.startswith("/")]


def make_initrd(path, work, agent, programs):
    root = work / "initrd"
    for d in ("bin", "modules", "proc", "sys", "dev", "disk", "tmp", "run",
              "etc/acpi/PWRF", "home", "root", "lib64", "var/log",
              "var/run"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in run("/bin/busybox", "--list").split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    tree = kernel()
    for name in MODULES:
        found = next(tree.glob(f"lib/modules/*/kernel/**/{name}.ko"))
        shutil.copy(found, root / "modules" / f"{name}.ko")
    (root / "modules.list").write_text("\n".join(MODULES))
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    files = {"init": INIT,
             "etc/acpi/PWRF/00000080": "#!/bin/sh\nsync\npoweroff -f\n"}
    if agent:
        files["agent"] = "#!/bin/sh\n" + agent
    for name, text in files.items():
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    for program in programs:
        shutil.copy(program, root / "bin" / pathlib.Path(program).name)
        for lib in libraries(program):
            target = root / lib.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(lib, target)
    names = "\n".join(str(p.relative_to(root)) for p in
                      sorted(root.rglob("*")))
    with path.open("wb") as out:
        cpio = subprocess.Popen(["cpio", "-o", "-H", "newc", "--quiet"],
                                cwd=root, stdin=subprocess.PIPE, stdout=out)
        cpio.communicate(names.encode())
        assert cpio.returncode == 0
    path.chmod(0o644)


def make_tree(tree, agent="", programs=(), quiet=True):
    """An image of a virtual machine. agent: shell script that the guest runs
    beside its console; programs: of ours, put into its /bin."""
    tree.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as tmp:
        work = pathlib.Path(tmp)
        make_initrd(tree / "initrd.img", work, agent, programs)
        disk = work / "disk.raw"
        with disk.open("wb") as f:
            f.truncate(16 << 20)
        run("mke2fs", "-q", "-t", "ext4", "-F", disk)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk,
            tree / "disk.qcow2")
    shutil.copy(kernel() / "vmlinuz", tree / "vmlinuz")
    (tree / "vmlinuz").chmod(0o644)
    (tree / "cmdline").write_text(
        "console=ttyS0 panic=-1 " + ("quiet" if quiet else "") + "\n")
    return tree


def add_kernel(root):
    """A kernel and those of its modules that a machine needs, as Debian's
    package would install them."""
    tree = kernel()
    version = next((tree / "lib/modules").iterdir()).name
    source = tree / "lib/modules" / version
    target = root / "lib/modules" / version
    target.mkdir(parents=True, exist_ok=True)
    wanted = [*MODULES, "erofs", "overlay"]
    for line in (source / "modules.dep").read_text().splitlines():
        name, needs = line.split(":", 1)
        if pathlib.Path(name).stem in wanted:
            for path in (name, *needs.split()):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / path, target / path)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(source / name, target / name)
    run("depmod", "-b", root, version)
    (root / "boot").mkdir(exist_ok=True)
    shutil.copy(tree / "vmlinuz", root / "boot" / f"vmlinuz-{version}")
    return version


def make_system(root):
    """An image for both hypervisors: BusyBox with a kernel."""
    root.mkdir()
    run("tar", "-C", root, "-xf", build.image("busybox"))
    add_kernel(root)
    return root


def vma():
    """The agent of the build under test."""
    return build.BUILD / "src/vma/qvd-vma"


def read_until(fd, word, timeout=120):
    """What is said there until the word was said."""
    said, end = b"", time.monotonic() + timeout
    while word not in said:
        left = end - time.monotonic()
        assert left > 0 and select.select([fd], [], [], left)[0], said
        data = os.read(fd, 65536)
        assert data, said
        said += data
    return said


def console(farm, vm, *talk, timeout=200):
    """Says something on the machine's serial console after each of the words
    that it waits for; what the machine said."""
    said = b""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(farm.run / f"vms/{vm}/console.sock"))
        for word, answer in talk:
            s.sendall(answer.encode())
            said += read_until(s.fileno(), word.encode(), timeout)
    return said.decode(errors="replace")
