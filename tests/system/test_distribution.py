# SPDX-License-Identifier: GPL-3.0-or-later
"""Images between two nodes: each with its own house-keeper, store and
certificate, on one loopback. The second node is a qvd-hkd alone."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess

import pytest
from qvdlab import Farm, need
from qvdlab.util import SLOW, eventually, run

CGROUPS = pathlib.Path("/sys/fs/cgroup")
NODE1, NODE2 = "127.0.0.1:18445", "127.0.0.1:18446"


class Node2:
    def __init__(self, farm):
        self.farm = farm
        self.id = farm.id + "b"
        self.dir = farm.dir / "n2"
        self.data, self.run = self.dir / "d", self.dir / "r"
        self.log = self.dir / "log"
        self.conf = self.dir / "node.conf"
        self.proc = None
        self.dir.mkdir()
        run("ip", "netns", "add", self.id)
        self.conf.write_text(
            f"[node]\nname = node2\ncgroup = {self.id}\nnetns = {self.id}\n"
            f"[database]\nconninfo = host={farm.run}/pg dbname=qvd\n"
            f"[paths]\nrun = {self.run}\ndata = {self.data}\n"
            f"programs = {farm.programs}\n[farm]\nlisten = {NODE2}\n")

    def start(self):
        with self.log.open("ab") as log:
            self.proc = subprocess.Popen(
                [*self.farm.prefix, self.farm.programs / "qvd-hkd", "--conf",
                 self.conf], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.farm.env, start_new_session=True)

    def stop(self, sig=signal.SIGTERM):
        if self.proc is not None:
            self.proc.send_signal(sig)
            self.proc.wait(timeout=60)
        self.proc = None

    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def close(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        if self.proc is not None:
            self.stop(signal.SIGKILL)
        run("ip", "netns", "del", self.id, check=False)
        for top in [CGROUPS, *(p for p in CGROUPS.iterdir() if p.is_dir())]:
            for d, _, _ in os.walk(top / self.id, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(d)


@pytest.fixture
def two(request):
    need("root", "containers")
    with Farm(images=["busybox"]) as farm:
        conf = farm.data / "node.conf"
        with conf.open("a") as f:
            f.write(f"\n[farm]\nlisten = {NODE1}\n")
        farm.qvd("--conf", conf, "farm", "init")
        assert farm.stop() == 0
        farm.start()
        farm.qvd("host", "add", "node2", "--address", "127.0.0.1")
        node = Node2(farm)
        try:
            farm.qvd("--conf", conf, "farm", "certificate", "node2", "--dir",
                     node.data / "farm")
            yield farm, node
        finally:
            node.close()
        assert "ERROR: AddressSanitizer" not in node.text()


def state_is(farm, image, state, timeout=120):
    """Until node2 has the image in that state; its row."""
    def look():
        rows = farm.qvd("image", "distribution", image, json=True)
        found = [r for r in rows if r["host"] == "node2"]
        return found[0] if found and found[0]["state"] == state else None
    return eventually(look, timeout, lambda: f"image on node2 is {state}; it "
                      f"is {farm.sql('SELECT * FROM image_nodes')}")


def same_files(farm, node, image):
    checksum = farm.one("SELECT checksum FROM images WHERE id = %s", image)
    run("diff", "-r", "--no-dereference",
        farm.data / "images/trees" / checksum,
        node.data / "images/trees" / checksum)
    return checksum


def test_an_image_goes_to_a_node_before_its_tag_moves(two):
    farm, node = two
    conf = farm.data / "node.conf"
    first = farm.one("SELECT id FROM images")
    # Slowly, so that what is under way can be looked at, and killed.
    farm.qvd("config", "set", "node.images.kbit", "500")
    node.start()
    eventually(lambda: farm.one(
        "SELECT progress FROM image_nodes WHERE state = 'pulling' "
        "AND progress >= 5"), 120, "the transfer has begun")
    refused = farm.qvd("image", "tag", first, "beta", check=False)
    assert refused.status == 16 and "node2 (pulling" in refused.err
    refused = farm.qvd("image", "rollout", first, "--to", "default",
                       check=False)
    assert refused.status == 16 and "node2 (pulling" in refused.err
    node.stop(signal.SIGKILL)
    farm.qvd("config", "set", "node.images.kbit", "0")
    node.start()
    row = state_is(farm, first, "present")
    assert row["from_host"] == "node1" and row["moved_bytes"] > 0
    same_files(farm, node, first)
    farm.qvd("image", "tag", first, "beta")
    farm.wait_event("image.arrived")

    # A new version: only what changed moves, and the tag that the import was
    # given waits for both nodes.
    source = farm.dir / "src"
    run("cp", "-a", farm.data / "images/trees" / farm.one(
        "SELECT checksum FROM images"), source)
    (source / "etc/new").write_text("new\n" * 1000)
    farm.qvd("image", "import", source, "--osf", "busybox", "--version", "2",
             "--tag", "gamma", timeout=300)
    second = farm.one("SELECT id FROM images WHERE version = '2'")
    assert farm.sql("SELECT h.name FROM image_nodes n JOIN hosts h ON "
                    "h.id = n.host_id WHERE image_id = %s AND "
                    "n.state = 'present' ORDER BY 1", second) == \
        [("node1",), ("node2",)]
    moved = state_is(farm, second, "present")["moved_bytes"]
    assert moved * 20 < row["moved_bytes"], (moved, row)
    checksum = same_files(farm, node, second)
    for name in ("bin/busybox", "etc/new"):
        inodes = {os.stat(p / name).st_ino for p in
                  (node.data / "images/trees").iterdir() if
                  (p / name).exists()}
        assert len(inodes) == 1, name  # one file, one page cache
    # Signed by the node that imported it, and so at the other.
    assert (farm.data / "farm/signing.key").stat().st_mode & 0o777 == 0o600
    assert checksum and farm.qvd("--conf", conf, "farm", "show",
                                 json=True)["signs"]


def ask_for_image(farm, name, checksum):
    """(status, body) of node1's port, with that node's certificate."""
    keys = farm.dir / f"keys-{name}"
    if not keys.exists():
        farm.qvd("--conf", farm.data / "node.conf", "farm", "certificate", name,
                 "--dir", keys)
    # A stream that has begun would never end by itself.
    said = run(*farm.prefix, "curl", "-s", "--max-time", "5", "--cert",
               keys / "node.crt", "--key", keys / "node.key", "--cacert",
               keys / "ca.crt", "--resolve", f"node1:{NODE1[-5:]}:127.0.0.1",
               "-H", "Connection: Upgrade", "-H", "Upgrade: qvd-image/1",
               "--write-out", "\n%{http_code}",
               f"https://node1:{NODE1[-5:]}/v1/images/{checksum}", check=False)
    body, _, status = said.rpartition("\n")
    return int(status), body


def test_a_blocked_node_is_served_nothing(two):
    farm, node = two
    image = farm.one("SELECT id FROM images")
    checksum = farm.one("SELECT checksum FROM images")
    assert ask_for_image(farm, "node2", checksum)[0] == 101
    # Of the same authority, but no host of the farm.
    status, said = ask_for_image(farm, "node9", checksum)
    assert status == 403 and "no host of the name in this cert" in said, said
    farm.qvd("host", "block", "node2")
    assert ask_for_image(farm, "node2", checksum)[0] == 403
    farm.wait_log("asks for image " + checksum[:12])
    # It doesn't ask either, until it may.
    node.start()
    eventually(lambda: "serving images to the farm" in node.text(), 60)
    farm.qvd("image", "tag", image, "beta")
    assert not farm.one("SELECT count(*) FROM image_nodes n JOIN hosts h "
                        "ON h.id = n.host_id WHERE h.name = 'node2'")
    farm.qvd("host", "unblock", "node2")
    state_is(farm, image, "present")
    assert "getting image" in node.text()


def ask(node, op, **args):
    """Of a house-keeper, as the API asks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(120 * SLOW)
        s.connect(str(node.run / "hkd.sock"))
        s.send(json.dumps({"t": "ask", "id": 1, "op": op,
                           "args": args}).encode())
        while (said := json.loads(s.recv(1 << 20)))["t"] == "progress":
            pass
    assert said["t"] == "ok", said
    return said["result"]


def serving_pids(farm):
    """Of the processes that work on the store those with a stream."""
    def has_stream(pid):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{pid}/fd/1").startswith("socket:")
    return [p for p in farm.pids("qvd-hkd-image") if has_stream(p)]


def test_a_pull_that_stands_still_holds_up_nothing(two):
    """The other end of it is stopped: what is imported and removed on the
    node that pulls can't wait for it."""
    farm, node = two
    first = farm.one("SELECT id FROM images")
    source = farm.dir / "src"
    run("cp", "-a", farm.data / "images/trees" / farm.one(
        "SELECT checksum FROM images"), source)
    # It signs what it imports, else the other one takes nothing of it.
    run("cp", farm.data / "farm/signing.key", node.data / "farm")
    # Slow enough to be met on its way.
    farm.qvd("config", "set", "node.images.kbit", "500")
    node.start()
    eventually(lambda: farm.one(
        "SELECT progress FROM image_nodes WHERE state = 'pulling' "
        "AND progress >= 2"), 120, "the transfer has begun")
    serving = serving_pids(farm)
    for pid in serving:
        os.kill(pid, signal.SIGSTOP)
    host = farm.one("SELECT id FROM hosts WHERE name = 'node2'")

    def there(version):
        (source / "etc/new").write_text(version * 1000)
        image = farm.one(
            "INSERT INTO images (osf_id, host_id, version, source) SELECT "
            "osf_id, %s, %s, %s FROM images WHERE id = %s RETURNING id", host,
            version, str(source), first)
        farm.wait_sql("qvd_images", "SELECT state = 'published' FROM images "
                      "WHERE id = %s", image, timeout=120)
        return image
    kept, gone = there("kept"), there("gone")
    # Removed from the store while the pull is on its way, too.
    farm.qvd("config", "set", "node.images.kbit", "0")
    ref = node.data / f"images/repo/refs/heads/image/{gone}"
    assert ref.exists()
    farm.sql("DELETE FROM images WHERE id = %s", gone)
    eventually(lambda: not ref.exists(), 60, "its removal from node2's store")
    row = farm.sql("SELECT state, from_host_id FROM image_nodes WHERE "
                   "image_id = %s AND host_id = %s", first, host)
    assert row[0][0] == "pulling" and serving_pids(farm) == serving
    for pid in serving:
        os.kill(pid, signal.SIGCONT)
    # A new house-keeper goes on with it, at its own pace.
    node.stop()
    node.start()
    state_is(farm, first, "present")
    checksum = same_files(farm, node, first)
    ask(node, "image.verify", checksum=checksum)
    # And the other way round.
    farm.wait_sql("qvd_images", "SELECT count(*) = 2 FROM image_nodes WHERE "
                  "image_id = %s AND state = 'present'", kept, timeout=120)
    ask(node, "image.verify", checksum=same_files(farm, node, kept))
    farm.qvd("image", "verify", first, kept)


def test_a_transfer_is_cancelled_and_resumed(two):
    """By who offers the image. A command that waits for it is told how far the
    other node is."""
    farm, node = two
    source = farm.dir / "src"
    run("cp", "-a", farm.data / "images/trees" / farm.one(
        "SELECT checksum FROM images"), source)
    node.start()
    state_is(farm, farm.one("SELECT id FROM images"), "present")
    (source / "etc/new").write_bytes(random.Random(1).randbytes(2_000_000))
    farm.qvd("config", "set", "node.images.kbit", "500")
    waiting = subprocess.Popen(
        [farm.programs / "qvd", "image", "import", source, "--osf", "busybox",
         "--version", "2", "--tag", "beta"], env=farm.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    next(line for line in waiting.stderr if re.search(
        r"published; its tags wait for node2 \(pulling \d+ %\)", line))
    image = farm.one("SELECT id FROM images WHERE version = '2'")
    farm.qvd("image", "retire", image)
    _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 16 and "was retired before" in said, said
    eventually(lambda: "image busybox/2 isn't wanted" in node.text(), 60)
    assert not [r for r in farm.qvd("image", "distribution", image, json=True)
                if r["host"] == "node2"]
    farm.qvd("config", "set", "node.images.kbit", "0")
    farm.qvd("image", "publish", image)
    state_is(farm, image, "present")
    ask(node, "image.verify", checksum=same_files(farm, node, image))
    farm.wait_sql("qvd_images", "SELECT image_id = %s FROM image_tags "
                  "WHERE tag = 'beta'", image)


def test_who_is_not_of_the_farm_gets_nothing(two):
    farm, node = two
    first = farm.one("SELECT id FROM images")
    farmdir = node.data / "farm"
    ours = {p.name: p.read_bytes() for p in farmdir.iterdir()}
    other = node.dir / "other.conf"
    other.write_text(node.conf.read_text().replace(str(node.data),
                                                   str(node.dir / "o")))
    farm.qvd("--conf", other, "farm", "init")
    theirs = {p.name: p.read_bytes()
              for p in (node.dir / "o/farm").iterdir()}
    # Nobody would take what is made where it can't be signed.
    farm.add_user()
    vm = farm.add_vm("alice", "busybox")
    farm.qvd("vm", "start", vm)
    farm.qvd("vm", "stop", vm)
    key = farm.data / "farm/signing.key"
    key.rename(farm.dir / "kept")
    for args in (["import", farm.dir, "--osf", "busybox"], ["commit", vm]):
        refused = farm.qvd("image", *args, check=False)
        assert refused.status == 36 and \
            f"this node has no {key}" in refused.err, refused.err
    (farm.dir / "kept").rename(key)
    # With a part of it lost, no new keys are made over the others.
    (node.dir / "o/farm/ca.crt").unlink()
    refused = farm.qvd("--conf", other, "farm", "init", check=False)
    assert refused.status == 16 and "copy ca.crt back" in refused.err
    assert {p.name: p.read_bytes() for p in (node.dir / "o/farm").iterdir()} \
        == {n: t for n, t in theirs.items() if n != "ca.crt"}

    def failed(what, *files):
        for name, text in ours.items():
            (farmdir / name).write_bytes(text)
        for name in files:
            (farmdir / name).write_bytes(theirs[name])
        farm.sql("DELETE FROM image_nodes USING hosts h WHERE "
                 "h.id = host_id AND h.name = 'node2'")
        node.start()
        row = state_is(farm, first, "failed")
        assert what in row["error"], row
        node.stop()
        assert not list((node.data / "images/trees").iterdir())

    # It trusts us, and we don't trust its certificate.
    failed("certificate", "node.crt", "node.key")
    # The other way round.
    failed("certificate", "ca.crt")
    # An image that was signed with a key that isn't the farm's.
    failed("not signed by this farm", "signing.pub")
    for name, text in ours.items():
        (farmdir / name).write_bytes(text)
    farm.sql("DELETE FROM image_nodes WHERE state = 'failed'")
    node.start()
    state_is(farm, first, "present")
    same_files(farm, node, first)
