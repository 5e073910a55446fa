# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store when the disk is full or a process is killed, wherever it
is: what was whole stays whole, and nothing of the rest is left."""

import fcntl
import os
import random
import signal
import time

import pytest
from nodelab import Failed, Node, eventually, make_tree, run
from test_image import children, leftovers, refs, tar
from test_image_oci import Layout, layer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def kill_children(node, after):
    child = eventually(lambda: children(node.proc.pid))
    time.sleep(after)
    for pid in child:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def oci_archive(tmp_path, name, n=300):
    rng = random.Random(name)
    members = [(f"usr/share/{name}{i}", rng.randbytes(4000).hex())
               for i in range(n)]
    made = Layout(tmp_path / name, layer(*members[:n // 2]),
                  layer(*members[n // 2:]), packing="")
    path = tmp_path / f"{name}.tar"
    run("tar", "-C", made.dir, "-cf", path, ".")
    return path


def clean(node):
    return not leftovers(node) and not (node.data / "images/import").exists()


def test_disk_full_anywhere(tmp_path):
    """A little more room each time, until the import succeeds."""
    base = tmp_path / "base"
    make_tree(base)
    fill = tmp_path / "fill"
    make_tree(fill)
    for i in range(200):
        (fill / f"usr/lib/f{i}").write_bytes(os.urandom(10000))
    with Node(disk="size=64m") as n:
        kept = n.ask("image.import", image_id=1,
                     source=str(base))["checksum"]
        n.ask("image.checkout", checksum=kept)
        for k, source in enumerate((fill, oci_archive(tmp_path, "full", 200))):
            used = int(run("df", "--output=used", n.data).split()[1])
            outcomes = []
            for room in range(100, 9000, 550):
                run("mount", "-o", f"remount,size={used + room}k", n.data)
                try:
                    done = n.ask("image.import", image_id=2 + k,
                                 source=str(source))
                    n.ask("image.checkout", checksum=done["checksum"])
                    n.ask("image.verify", checksum=done["checksum"])
                    outcomes.append("done")
                    break
                except Failed as e:
                    assert e.id == "no-space", (room, e)
                    outcomes.append(e.id)
                    assert clean(n), (room, leftovers(n))
                    n.ask("image.verify", checksum=kept)
            assert outcomes[0] == "no-space" and outcomes[-1] == "done", \
                outcomes
            assert len(outcomes) > 3, outcomes
            n.ask("image.gc", gone=[], dry_run=False)


def test_killed_import_of_layers(tmp_path):
    archive = oci_archive(tmp_path, "kill", 1500)
    rng = random.Random(5)
    with Node() as n:
        for i in range(8):
            ask = n.send("image.import", image_id=100 + i,
                         source=str(archive))
            kill_children(n, rng.uniform(0, 0.5))
            try:
                n.wait(ask)
            except Failed:
                assert str(100 + i) not in refs(n)
                assert clean(n)
        done = n.ask("image.import", image_id=200, source=str(archive))
        n.ask("image.checkout", checksum=done["checksum"])
        n.ask("image.verify", checksum=done["checksum"])


def test_killed_collection(tmp_path):
    """Whatever moment it is, what stays is whole; the last one ends it."""
    rng = random.Random(6)
    tree = tmp_path / "tree"
    make_tree(tree)
    with Node() as n:
        sums = {}
        for i in range(1, 7):
            for j in range(300):
                (tree / f"usr/lib/f{j}").write_text(f"{i} {j}\n" * 50)
            sums[i] = n.ask("image.import", image_id=i,
                            source=str(tree))["checksum"]
            n.ask("image.checkout", checksum=sums[i])
        assert sorted(n.ask("image.refs")["images"]) == list(range(1, 7))
        gone = [1, 2, 4, 5]
        dry = n.ask("image.gc", gone=gone, dry_run=True)
        assert dry["images"] == 4 and dry["trees"] == 4
        assert dry["objects"] > 1200
        for k in range(6):
            ask = n.send("image.gc", gone=gone, dry_run=False)
            kill_children(n, rng.uniform(0, 0.12))
            try:
                n.wait(ask)
            except Failed:
                pass
            for i in (3, 6):
                n.ask("image.verify", checksum=sums[i])
            for path in (n.data / "images/trees").iterdir():
                # A tree is there whole or not at all.
                assert sum(1 for _ in (path / "usr/lib").iterdir()) == 300
        n.ask("image.gc", gone=gone, dry_run=False)
        assert n.ask("image.gc", gone=gone, dry_run=False) == \
            {"images": 0, "trees": 0, "objects": 0, "bytes": 0}
        assert sorted(n.ask("image.refs")["images"]) == [3, 6]
        assert sorted(p.name for p in (n.data / "images/trees").iterdir()) \
            == sorted((sums[3], sums[6]))
        # What was removed can come again.
        again = n.ask("image.import", image_id=9,
                      source=str(tar(tree, tmp_path / "t.tar")))["checksum"]
        n.ask("image.checkout", checksum=again)
        n.ask("image.verify", checksum=again)


def test_collection_spares_what_runs(tmp_path):
    """Even when its row is gone."""
    with Node() as n:
        n.setup()
        checksum = n.image()
        other = n.image(image_id=2, extra=lambda t: (t / "etc/x").touch())
        _, fd = n.vm(1, checksum)
        os.close(fd)
        n.ask("image.gc", gone=[1, 2], dry_run=False)
        assert n.ask("image.refs")["images"] == [1]
        assert [p.name for p in (n.data / "images/trees").iterdir()] == \
            [checksum]
        n.ask("image.verify", checksum=checksum)
        # Nor is anything guessed where its record can't be read.
        record = n.run / "vms/1/run.json"
        whole = record.read_bytes()
        record.write_bytes(whole[:len(whole) // 2])
        with pytest.raises(Failed) as e:
            n.ask("image.gc", gone=[1, 2], dry_run=False)
        assert "nothing is removed" in e.value.message
        assert n.ask("image.refs")["images"] == [1]
        n.ask("image.verify", checksum=checksum)
        record.write_bytes(whole)
        with pytest.raises(Failed) as e:
            n.ask("image.commit", image_id=3, vm_id=1, base=checksum,
                  idmap_slot=0)
        assert e.value.id == "conflict" and "runs" in e.value.message
        n.ask("vm.stop", vm_id=1, grace_ms=0)
        n.ask("vm.clean", vm_id=1)
        n.ask("image.gc", gone=[1, 2], dry_run=False)
        assert n.ask("image.refs")["images"] == []
        for op, args in (("image.diff", {"from": other, "to": checksum}),
                         ("image.export", {"checksum": other,
                                           "name": "x.tar"}),
                         ("image.commit", {"image_id": 3, "vm_id": 1,
                                           "base": checksum,
                                           "idmap_slot": 0})):
            with pytest.raises(Failed) as e:
                n.ask(op, **args)
            assert e.value.id == "image-unusable", (op, e.value)
        for op, args in (("image.export", {"checksum": other,
                                           "name": "../x"}),
                         ("image.export", {"checksum": "x", "name": "x"}),
                         ("image.diff", {"from": "../x", "to": other}),
                         ("image.diff", {"from": "", "to": other}),
                         ("image.export", {"checksum": "", "name": "x"}),
                         ("image.gc", {"gone": ["x"]}), ("image.gc", {}),
                         ("image.commit", {"image_id": 3, "vm_id": 1,
                                           "base": "../x",
                                           "idmap_slot": 0}),
                         ("image.commit", {"image_id": 3, "vm_id": 1,
                                           "base": checksum,
                                           "idmap_slot": 1000})):
            with pytest.raises(Failed) as e:
                n.ask(op, **args)
            assert e.value.id == "bad-parameter", (op, e.value)


def test_what_is_cancelled_before_its_turn_is_not_begun(tmp_path):
    """A commit that waits behind another one, which waits for the store."""
    with Node() as n:
        n.setup()
        checksum = n.image()
        _, fd = n.vm(1, checksum)
        os.close(fd)
        n.ask("vm.stop", vm_id=1, grace_ms=0)
        n.ask("vm.clean", vm_id=1)

        def commit(image_id):
            return n.send("image.commit", image_id=image_id, vm_id=1,
                          base=checksum, idmap_slot=0)
        store = os.open(n.data / "images/repo", os.O_RDONLY)
        fcntl.flock(store, fcntl.LOCK_EX)
        first, second, third = commit(2), commit(3), commit(4)
        n.cancel(second)
        # Asked and answered after it: the helper has heard of it.
        assert n.ask("image.refs")["images"] == [1]
        os.close(store)
        n.wait(first)
        n.wait(third)
        assert sorted(n.ask("image.refs")["images"]) == [1, 2, 4]
        assert clean(n)
