# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator's command line and the API behind it, against a real
PostgreSQL; without a node, so that what is asked of one can be seen."""

import json
import os
import re
import socket
import subprocess

import pytest
from qvdlab import TOP, Farm, eventually, need, run
from qvdlab.farm import Failed


@pytest.fixture(scope="module")
def api():
    need("root")
    with Farm(options=["--daemons", "api"]) as farm:
        yield farm


@pytest.fixture
def clean(api):
    """The same farm, with nothing in it but its tenant and its host."""
    for table in ("vm_runtimes", "sessions", "vms", "users", "image_tags",
                  "images", "osfs", "configs", "properties", "events",
                  "audit"):
        api.sql(f"DELETE FROM {table}")
    api.sql("DELETE FROM tenants WHERE name <> 'default'")
    api.sql("UPDATE hosts SET blocked = false")
    return api


def refused(farm, *args, status, text, input=None):
    """The command fails with that exit status and one sentence."""
    result = farm.qvd(*args, check=False, input=input)
    assert (result.status, result.out) == (status, ""), result.err
    assert re.fullmatch(r"qvd: .*\([a-z-]+\)\n", result.err), result.err
    assert text in result.err
    return result.err


def fake_host(farm, state="running"):
    """The host as a house-keeper that runs would leave it."""
    farm.sql("INSERT INTO host_runtimes (host_id, state, memory_bytes, cpus)"
             " SELECT id, %s, 8589934592, 4 FROM hosts ON CONFLICT (host_id)"
             " DO UPDATE SET state = excluded.state, lease_until = NULL",
             state)


# Help and completion


def test_each_command_has_help(api):
    top = api.qvd("help").out
    nouns = re.findall(r"^  ([a-z]+) ", top, re.M)
    assert {"tenant", "user", "osf", "image", "vm", "host", "session",
            "config", "event", "why", "db", "up"} <= set(nouns)
    for noun in nouns:
        text = api.qvd("help", noun).out
        for verb in re.findall(rf"^  qvd {noun} ([a-z]+) ", text, re.M):
            help_ = api.qvd("help", noun, verb).out
            assert help_.startswith(f"usage: qvd {noun} {verb}")
            assert api.qvd(noun, verb, "--help").out == help_
            assert all(len(line) < 80 for line in help_.splitlines()), help_


def test_help_of_one_command(api):
    assert api.qvd("help", "user", "passwd").out == """\
usage: qvd user passwd USER [--password-file FILE] [--none]

Sets a user's password.
It is asked for on the terminal, or read from a file or standard input, one
line.

  USER                     the user: an id, alice, or alice@tenant
  --password-file FILE     the password's file; - is standard input
  --none                   takes the password away
"""


def test_mistakes_in_a_command(api):
    refused(api, "vms", status=2, text="no noun 'vms'")
    refused(api, "vm", "kill", status=2, text="'vm' has no verb 'kill'")
    refused(api, "vm", "add", "alice", status=2, text="--osf is missing")
    refused(api, "user", "list", "-o", "xml", status=2,
            text="neither 'table' nor 'json'")
    refused(api, "why", "ref", "abc", status=2, text="is no reference")


def test_completion(clean):
    farm = clean
    farm.add_user("alice")
    farm.add_user("albert")

    def complete(*words):
        return farm.qvd("--complete", *words).out.split()
    assert "vm" in complete("")
    assert complete("ten") == ["tenant"]
    assert complete("vm", "st") == ["start", "stop"]
    assert complete("osf", "add", "x", "--ki") == ["--kind"]
    assert complete("osf", "add", "x", "--kind", "") == \
        ["desktop", "application"]
    assert sorted(complete("user", "show", "al")) == \
        ["albert@default", "alice@default"]
    assert "vm.network.nat" in complete("config", "get", "vm.")
    assert complete("nonsense", "") == []
    # Without an API there is silence, not an error.
    assert farm.qvd("--complete", "--socket", "/nowhere", "user", "show",
                    "").out == ""


def test_completion_in_bash(clean):
    clean.add_user("alice")
    script = clean.qvd("completion", "bash").out
    out = run("bash", "-c", script + """
        PATH=$1:$PATH
        COMP_WORDS=(qvd user show ali) COMP_CWORD=3
        _qvd; echo "${COMPREPLY[@]}" """, "bash", clean.programs,
              env=clean.env)
    assert out.strip() == "alice@default"


# Objects


def test_an_empty_farm(clean):
    assert clean.qvd("tenant", "list").out == (
        "ID  NAME     USERS  VMS  BLOCKED  DESCRIPTION\n"
        " 1  default      0    0\n")
    assert clean.qvd("user", "list").out == ""
    assert clean.qvd("user", "list", json=True) == []


def test_life_of_objects(clean):
    farm = clean
    assert re.fullmatch(r"tenant \d+ sales\n",
                        farm.qvd("tenant", "add", "sales").out)
    out = farm.qvd("user", "add", "alice@sales", "--full-name", "Alice L.",
                   "--password-file", "-", input="secret\n").out
    assert re.fullmatch(r"user \d+ alice@sales\n", out)
    alice = farm.qvd("-q", "user", "show", "alice").out.strip()
    assert alice.isdigit()
    farm.qvd("user", "add", "alice@default")
    shown = farm.qvd("user", "show", "alice@sales", json=True)
    assert shown["full_name"] == "Alice L." and shown["has_password"]
    assert "password" not in json.dumps(shown).replace("has_password", "")
    hashed = farm.one("SELECT password_hash FROM users WHERE id = %s", alice)
    assert hashed.startswith("$y$")

    farm.qvd("osf", "add", "xfce@sales", "--memory", "2G", "--root",
             "volatile")
    osf = farm.qvd("osf", "show", "xfce", json=True)
    assert (osf["memory_mb"], osf["root"], osf["pids_max"]) == \
        (2048, "volatile", 2048)
    farm.qvd("osf", "set", "xfce", "--memory", "512M", "--description", "x",
             "--io-weight", "300", "--devices", "render")
    osf = farm.qvd("osf", "show", "xfce", json=True)
    assert (osf["memory_mb"], osf["description"], osf["io_weight"],
            osf["devices"]) == (512, "x", 300, "render")
    refused(farm, "osf", "set", "xfce", "--devices", "/dev/sda",
            status=18, text="there are kvm, tun and render")
    farm.qvd("osf", "set", "xfce", "--description", "", "--devices", "")
    assert farm.qvd("osf", "show", "xfce", json=True)["devices"] is None
    assert farm.qvd("osf", "show", "xfce", json=True)["description"] is None

    assert re.fullmatch(
        r"vm \d+ alice@sales/desk\n",
        farm.qvd("vm", "add", "alice@sales/desk", "--osf", "xfce").out)
    # The VM's name is its OSF's if it isn't said.
    farm.qvd("vm", "add", "alice@sales", "--osf", "xfce")
    names = [v["path"] for v in farm.qvd("vm", "list", json=True)]
    assert names == ["alice@sales/desk", "alice@sales/xfce"]
    farm.qvd("vm", "set", "alice@sales/xfce", "--name", "second", "--tag",
             "test")
    assert farm.qvd("vm", "show", "alice/second", json=True)["tag"] == "test"
    for verb, blocked in (("block", True), ("unblock", False)):
        for noun, name in (("tenant", "sales"), ("user", "alice@sales"),
                           ("vm", "alice/desk"), ("host", "node1")):
            farm.qvd(noun, verb, name)
            assert farm.qvd(noun, "show", name,
                            json=True)["blocked"] is blocked
    farm.qvd("vm", "del", "alice/desk", "alice/second")
    farm.qvd("osf", "del", "xfce")
    farm.qvd("user", "del", "alice@sales")
    farm.qvd("tenant", "del", "sales")
    assert farm.qvd("vm", "list").out == ""


def test_lists_are_aligned(clean):
    clean.add_user("alice")
    clean.add_osf("demo")
    clean.sql("ALTER TABLE vms ALTER id RESTART WITH 1")
    clean.add_vm("alice", "demo", "desk")
    clean.add_vm("alice", "demo", "a-longer-name")
    assert clean.qvd("vm", "list").out == (
        "ID  NAME                         STATE    SINCE  SESSION  "
        "HIBERNATED  HOST  IMAGE  ADDRESS    BLOCKED  ERROR\n"
        " 2  alice@default/a-longer-name  stopped         stopped  "
        "                         10.88.1.1\n"
        " 1  alice@default/desk           stopped         stopped  "
        "                         10.88.1.0\n")
    assert clean.qvd("vm", "list", "-q").out == "2\n1\n"
    assert clean.qvd("vm", "list", "--user", "alice", "--state", "running",
                     "-q").out == ""


def test_names_that_fit_nothing_or_several(clean):
    farm = clean
    farm.qvd("tenant", "add", "sales")
    farm.qvd("user", "add", "alice@default")
    farm.qvd("user", "add", "alice@sales")
    refused(farm, "user", "show", "bob", status=15,
            text="no user 'bob'; 'qvd user list' lists them")
    refused(farm, "user", "show", "99999", status=15,
            text="there is no user 99999")
    message = refused(farm, "user", "show", "alice", status=16,
                      text="'alice' names more than one user")
    assert "alice@default (" in message and "alice@sales (" in message
    refused(farm, "user", "show", "al ice", status=18, text="is no name")
    refused(farm, "image", "show", "x/1", status=15, text="no image 'x/1'")


def test_what_is_in_use_is_not_deleted(clean):
    farm = clean
    farm.add_user("alice")
    farm.add_osf("demo")
    vm = farm.add_vm("alice", "demo", "desk")
    refused(farm, "user", "del", "alice", status=16,
            text=f"is in use: VM {vm} (desk)")
    refused(farm, "osf", "del", "demo", status=16,
            text=f"is in use: VM {vm} (alice/desk)")
    refused(farm, "tenant", "del", "default", status=16,
            text="is in use: user alice, OSF demo")
    refused(farm, "host", "add", "node1", "--address", "x", status=16,
            text="there is a host of that name already")
    farm.sql("UPDATE vms SET desired = 'running', epoch = 1")
    refused(farm, "vm", "del", "alice/desk", status=16,
            text="to be running; stop it first")
    for n in range(7):
        farm.add_user(f"u{n}")
    refused(farm, "tenant", "del", "default", status=16, text=" and 4 more")


def test_twice_the_same(clean):
    farm = clean
    farm.add_user("alice")
    farm.add_osf("demo")
    farm.add_vm("alice", "demo", "desk")
    for args, text in (
            (("tenant", "add", "default"), "a tenant of that name"),
            (("user", "add", "alice"), "a user of that login"),
            (("osf", "add", "demo"), "an OSF of that name"),
            (("vm", "add", "alice/desk", "--osf", "demo"),
             "the user has a VM of that name"),
            (("vm", "add", "alice/b", "--osf", "demo", "--address",
              "10.88.1.0"), "another VM has that address")):
        refused(farm, *args, status=16, text=text)


def test_bad_values(clean):
    farm = clean
    farm.add_user("alice")
    farm.add_osf("demo")
    refused(farm, "tenant", "add", "no spaces", status=18, text="name")
    refused(farm, "tenant", "add", "x" * 65, status=18, text="name")
    refused(farm, "osf", "add", "x", "--memory", "1", status=18,
            text="memory_mb")
    for address in ("10.88.0.1", "10.88.0.0", "10.88.255.255", "10.99.0.1",
                    "nonsense"):
        refused(farm, "vm", "add", "alice/x", "--osf", "demo", "--address",
                address, status=18, text="address")
    farm.qvd("tenant", "add", "sales")
    farm.qvd("osf", "add", "other@sales")
    refused(farm, "vm", "add", "alice/x", "--osf", "other", status=15,
            text="different tenants")


# Passwords


def test_password_ways(clean, tmp_path):
    farm = clean
    farm.qvd("user", "add", "alice")
    shown = farm.qvd("user", "show", "alice", json=True)
    assert shown["has_password"] is False
    file = tmp_path / "password"
    file.write_text("from a file\nnot this\n")
    farm.qvd("user", "passwd", "alice", "--password-file", file)
    first = farm.one("SELECT password_hash FROM users")
    farm.qvd("user", "passwd", "alice", "--password-file", "-",
             input="from a pipe")
    second = farm.one("SELECT password_hash FROM users")
    assert first.startswith("$y$") and second.startswith("$y$")
    assert first != second
    farm.qvd("user", "passwd", "alice", "--none")
    assert farm.one("SELECT password_hash FROM users") is None
    refused(farm, "user", "passwd", "alice", "--password-file", "-",
            input="\n", status=2, text="the password is empty")
    refused(farm, "user", "passwd", "alice", "--password-file", "-",
            input="x" * 600, status=2, text="longer than 512")
    refused(farm, "user", "passwd", "alice", "--password-file",
            "/nowhere/x", status=2, text="/nowhere/x")


def test_password_from_a_terminal(clean):
    """Asked for twice, not shown."""
    farm = clean
    farm.qvd("user", "add", "alice")
    for answers, status in ((["one", "one"], 0), (["one", "two"], 2)):
        leader, follower = os.openpty()
        child = subprocess.Popen(
            [farm.programs / "qvd", "user", "passwd", "alice"],
            stdin=follower, stdout=follower, stderr=follower, env=farm.env,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540e, 0))
        os.close(follower)
        seen = b""
        for prompt, answer in zip((b"New password: ", b"Again: "), answers):
            while not seen.endswith(prompt):
                seen += os.read(leader, 100)
            os.write(leader, answer.encode() + b"\n")
        assert child.wait(20) == status
        try:
            while data := os.read(leader, 1000):
                seen += data
        except OSError:
            pass
        os.close(leader)
        assert b"one" not in seen
    assert b"differ" in seen


def test_no_password_in_audit_or_log(clean):
    farm = clean
    farm.add_user("alice", "very-secret-word")
    farm.qvd("user", "passwd", "alice", "--password-file", "-",
             input="other-secret-word\n")
    rows = farm.sql("SELECT actor, action, object, arguments FROM audit "
                    "ORDER BY id")
    assert [r[:2] for r in rows] == [("root", "users.add"),
                                     ("root", "users.password")]
    assert "secret-word" not in str(rows)
    assert "secret-word" not in farm.text()


# Images


def test_an_import_waits_and_moves_tags(clean, tmp_path):
    """The test is the node: it walks the image's row through its states."""
    farm = clean
    farm.add_osf("demo")
    child = subprocess.Popen(
        [farm.programs / "qvd", "image", "import", tmp_path, "--osf", "demo",
         "--version", "1", "--message", "first", "--tag", "default", "--tag",
         "stable"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=farm.env)
    image = eventually(lambda: farm.one("SELECT id FROM images"))
    row = farm.sql("SELECT i.state, i.source, i.author, h.name FROM images i "
                   "JOIN hosts h ON h.id = i.host_id")
    assert row == [("new", str(tmp_path), "root", "node1")]
    for percent in (10, 60):
        farm.sql("UPDATE images SET state = 'importing', progress = %s",
                 percent)
        # Only what it was told can be in its output.
        next(line for line in child.stderr if f"importing {percent} %" in line)
    assert farm.sql("SELECT tag FROM image_tags") == []
    farm.sql("UPDATE images SET state = 'published', checksum = 'abc', "
             "size_bytes = 12345678, progress = 100")
    out, err = child.communicate(timeout=20)
    assert child.returncode == 0, err
    assert out == f"image {image} demo@default/1\n"
    assert farm.sql("SELECT tag FROM image_tags ORDER BY tag") == \
        [("default",), ("head",), ("stable",)]
    assert farm.one("SELECT count(*) FROM properties") == 0
    shown = farm.qvd("image", "show", "demo:stable", json=True)
    assert shown["tags"] == ["default", "head", "stable"]
    assert re.search(r"default, head, stable +published +100 +12M ",
                     farm.qvd("image", "list").out)


def test_an_import_that_fails(clean, tmp_path):
    farm = clean
    farm.add_osf("demo")
    child = subprocess.Popen(
        [farm.programs / "qvd", "image", "import", tmp_path, "--osf",
         "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=farm.env)
    eventually(lambda: farm.one("SELECT id FROM images"))
    farm.sql("UPDATE images SET state = 'failed', error_id = 'no-space', "
             "error = 'import image: no space left on node ''node1'''")
    out, err = child.communicate(timeout=20)
    assert child.returncode == 22
    assert err.endswith("qvd: import image: no space left on node 'node1' "
                        "(no-space)\n")
    assert farm.sql("SELECT tag FROM image_tags") == []
    refused(farm, "image", "import", "/no/such/file", "--osf", "demo",
            status=2, text="no file or folder '/no/such/file'")


def published(farm, version, osf="demo"):
    return farm.one(
        "INSERT INTO images (osf_id, version, source, state, checksum) "
        "SELECT id, %s, '/x', 'published', 'abc' FROM osfs WHERE name = %s "
        "RETURNING id", version, osf)


def test_tags(clean, tmp_path):
    farm = clean
    farm.add_osf("demo")
    one, two = published(farm, "1"), published(farm, "2")
    farm.qvd("image", "tag", "demo/1", "default")
    farm.qvd("image", "tag", two, "default")
    assert farm.sql("SELECT tag, image_id FROM image_tags ORDER BY tag") == \
        [("default", two), ("head", two)]
    refused(farm, "image", "untag", one, "default", status=15,
            text="has no tag 'default'")
    refused(farm, "image", "tag", one, "head", status=16, text="by itself")
    refused(farm, "image", "tag", one, "a b", status=18, text="a tag is")
    farm.add_user("alice")
    vm = farm.add_vm("alice", "demo", "desk")
    refused(farm, "image", "del", two, status=16,
            text=f"VM {vm} (alice/desk) follows its tag default")
    farm.qvd("image", "del", one)
    refused(farm, "image", "untag", two, "default", status=16,
            text="1 VMs follow the tag 'default'")
    farm.qvd("vm", "del", vm)
    farm.qvd("image", "untag", "demo:default", "default")
    farm.qvd("image", "del", two)
    # A version by itself: the date, and a number.
    for _ in range(2):
        farm.qvd("image", "import", tmp_path, "--osf", "demo", "--no-wait")
    first, second = [r[0] for r in farm.sql(
        "SELECT version FROM images ORDER BY id")]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-000", first)
    assert second == first[:-1] + "1"
    refused(farm, "image", "tag", f"demo/{first}", "x", status=16,
            text="it is new")
    refused(farm, "image", "del", f"demo/{first}", status=16,
            text="it is being imported")


# Start and stop


@pytest.fixture
def stage(clean):
    """A VM, and a host that seems to run: the test plays its node."""
    clean.add_user("alice")
    clean.add_osf("demo")
    clean.vm = clean.add_vm("alice", "demo", "desk")
    fake_host(clean)
    yield clean
    fake_host(clean, "stopped")


def runtime(farm, epoch, state, **columns):
    names = ["vm_id", "epoch", "state", "host_id", *columns]
    values = [farm.vm, epoch, state,
              farm.one("SELECT id FROM hosts"), *columns.values()]
    farm.sql(
        f"INSERT INTO vm_runtimes ({', '.join(names)}) VALUES "
        f"({', '.join(['%s'] * len(values))}) ON CONFLICT (vm_id) DO UPDATE "
        "SET (epoch, state, step, error_id, error, error_ref) = (excluded."
        "epoch, excluded.state, excluded.step, excluded.error_id, "
        "excluded.error, excluded.error_ref)", *values)


def start(farm, verb="start"):
    return subprocess.Popen(
        [farm.programs / "qvd", "vm", verb, "alice/desk"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=farm.env)


def wait_desired(farm, desired, epoch):
    farm.wait_sql("qvd_vms", "SELECT desired = %s AND epoch = %s FROM vms "
                  "WHERE id = %s", desired, epoch, farm.vm)


def test_start_waits_for_the_run(stage):
    farm = stage
    child = start(farm)
    wait_desired(farm, "running", 1)
    runtime(farm, 1, "starting", step="checking out the image")
    # Another who wants it too joins the run.
    other = start(farm)
    eventually(lambda: farm.one("SELECT count(*) FROM audit WHERE action = "
                                "'vms.start'") == 2)
    runtime(farm, 1, "running")
    for c in (child, other):
        _, err = c.communicate(timeout=20)
        assert c.returncode == 0, err
    assert "checking out the image" in err
    assert farm.sql("SELECT desired, epoch, desired_by FROM vms") == \
        [("running", 1, "administrator root")]
    assert farm.event_names(farm.vm) == ["vm.start-requested", "vm.placed"]
    child = start(farm, "stop")
    wait_desired(farm, "stopped", 1)
    runtime(farm, 1, "stopping")
    runtime(farm, 1, "stopped")
    assert child.wait(20) == 0
    # And again: a new run.
    child = start(farm)
    wait_desired(farm, "running", 2)
    runtime(farm, 2, "running")
    assert child.wait(20) == 0


def test_start_that_fails(stage):
    farm = stage
    child = start(farm)
    wait_desired(farm, "running", 1)
    runtime(farm, 1, "stopped", error_id="image-unusable",
            error="start VM: the image has no init", error_ref="ABCDEFGH")
    _, err = child.communicate(timeout=20)
    assert child.returncode == 29
    assert "the image has no init, reference ABCDEFGH (image-unusable)" in err
    assert "ABCDEFGH" in farm.qvd("why", "vm", farm.vm).out


def test_start_stopped_by_another(stage):
    farm = stage
    child = start(farm)
    wait_desired(farm, "running", 1)
    farm.qvd("vm", "stop", farm.vm)
    _, err = child.communicate(timeout=20)
    assert (child.returncode, "somebody stopped" in err) == (34, True)


def test_start_refused(stage):
    farm = stage
    farm.qvd("host", "block", "node1")
    refused(farm, "vm", "start", "alice/desk", status=20, text="1 blocked")
    farm.qvd("host", "unblock", "node1")
    fake_host(farm, "lost")
    refused(farm, "vm", "start", "alice/desk", status=20,
            text="1 not running")
    runtime(farm, 1, "zombie")
    refused(farm, "vm", "start", "alice/desk", status=16,
            text="can't be removed")
    refused(farm, "vm", "start", "99999", status=15, text="no VM 99999")
    assert farm.one("SELECT epoch FROM vms") == 0
    # A refusal is written down behind its answer.
    rows = eventually(lambda: len(found := farm.sql(
        "SELECT object, error_id FROM audit WHERE action = 'vms.start' "
        "ORDER BY id")) >= 4 and found)
    assert rows == [(str(farm.vm), "unavailable")] * 2 + \
        [(str(farm.vm), "conflict"), ("99999", "not-found")]


def test_a_client_that_leaves_while_it_waits(stage):
    farm = stage
    child = start(farm)
    wait_desired(farm, "running", 1)
    child.kill()
    child.communicate()
    runtime(farm, 1, "running")
    assert "running" in farm.qvd("vm", "list").out


def test_the_database_goes_while_a_start_waits(stage):
    """What was notified meanwhile is looked at again."""
    farm = stage
    child = start(farm)
    wait_desired(farm, "running", 1)
    farm.close_db()
    farm.kill("postgres")
    eventually(lambda: farm.text().count("database connected") >= 2, 60)
    runtime(farm, 1, "running")
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err


# Sessions, events, settings


def test_sessions(stage):
    farm = stage
    assert farm.qvd("session", "list").out == ""
    refused(farm, "session", "disconnect", "alice/desk", status=16,
            text="nobody is connected")
    farm.sql("INSERT INTO sessions (vm_id, generation, state, host_id, "
             "user_id, client_address, client, key_hash) SELECT v.id, 7, "
             "'connected', h.id, v.user_id, '192.0.2.7', 'a \x1b[2J client',"
             " 'key' FROM vms v, hosts h")
    out = farm.qvd("session", "list").out
    assert "alice@default/desk  connected" in out and "192.0.2.7" in out
    assert "\x1b" not in out
    farm.qvd("session", "disconnect", "alice/desk")
    assert farm.sql("SELECT generation, state, key_hash FROM sessions") == \
        [(8, "disconnected", None)]
    assert farm.qvd("session", "list").out == ""
    assert farm.qvd("session", "list", "--all", "-q").out == f"{farm.vm}\n"


def test_settings(clean):
    farm = clean
    assert farm.qvd("config", "get", "vm.network.nat").out == "yes\n"
    farm.qvd("config", "set", "vm.network.nat", "no")
    assert farm.qvd("config", "get", "vm.network.nat").out == "no\n"
    row = next(s for s in farm.qvd("config", "list", json=True)
               if s["key"] == "vm.network.nat")
    assert (row["set"], row["default"], row["type"]) == \
        (True, "yes", "yes/no")
    farm.qvd("config", "unset", "vm.network.nat")
    assert farm.qvd("config", "get", "vm.network.nat").out == "yes\n"
    refused(farm, "config", "set", "vm.netwrok.nat", "no", status=15,
            text="there is no setting 'vm.netwrok.nat'")
    refused(farm, "config", "set", "vm.network.nat", "maybe", status=18,
            text="vm.network.nat is yes or no")
    refused(farm, "config", "set", "vm.network.nat", "no", "--tenant",
            "default", status=18, text="the same for all tenants")


def test_addresses_follow_the_settings(clean):
    farm = clean
    farm.add_user("alice")
    farm.add_osf("demo")
    farm.qvd("config", "set", "vm.network.gateway", "192.168.7.1/29")
    farm.qvd("config", "set", "vm.network.ip.start", "192.168.7.4")
    for name, address in (("a", ".4"), ("b", ".5"), ("c", ".6")):
        farm.add_vm("alice", "demo", name)
        shown = farm.qvd("vm", "show", f"alice/{name}", json=True)
        assert shown["address"] == "192.168.7" + address
    refused(farm, "vm", "add", "alice/d", "--osf", "demo", status=20,
            text="")
    farm.qvd("vm", "del", "alice/b")
    farm.add_vm("alice", "demo", "e")
    assert farm.qvd("vm", "show", "alice/e",
                    json=True)["address"] == "192.168.7.5"


def test_why_tells_a_story(stage):
    farm = stage
    times = "2026-01-02 03:04:05.678+00", "2026-01-02 03:04:06.9+00", \
        "2026-01-02 03:14:07+00"
    farm.sql("DELETE FROM events")
    for at, name, text, ms, error, ref in (
            (times[0], "vm.start-requested", "user alice@default", None,
             None, None),
            (times[1], "vm.running", "running on 'node1'", 1222, None, None),
            (times[2], "session.failed", "the X session ended",
             None, "session-failed", "ABCDEF27")):
        farm.sql("INSERT INTO events (at, name, vm_id, text, duration_ms, "
                 "error_id, ref) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                 at, name, farm.vm, text, ms, error, ref)
    farm.env["TZ"] = "UTC"
    story = """\
2026-01-02
  03:04:05.678    start asked for by user alice@default
  03:04:06.900    running on 'node1' (took 1.2 s)
                ... 10 min 0 s later ...
  03:14:07.000  ! a connection failed: the X session ended
                [error session-failed, reference ABCDEF27]
"""
    out = farm.qvd("why", "vm", "alice/desk").out
    assert out == (f"VM {farm.vm}, alice@default/desk, is stopped; its "
                   f"session is stopped.\n\n{story}")
    out = farm.qvd("why", "ref", "ABCDEF27").out
    assert out.startswith("Incident ABCDEF27\n\n2026-01-02\n"
                          "  03:14:07.000  ! alice/desk: a connection failed")
    assert story in out
    refused(farm, "why", "ref", "ABCDEFGH", status=15, text="no event has")
    assert len(farm.qvd("why", "vm", farm.vm, json=True)["events"]) == 3
    assert len(farm.qvd("event", "list", "--vm", farm.vm, "--limit", "2",
                        json=True)) == 2


# The API itself


def http(farm, request, user=None):
    """What the API answers to this request, until it closes."""
    request = request.replace("\r\n", "\r\nConnection: close\r\n", 1)
    if user is not None:
        return run("setpriv", f"--reuid={user}", f"--regid={user}",
                   "--clear-groups", "/usr/bin/python3", "-c",
                   "import socket, sys; s = socket.socket(socket.AF_UNIX); "
                   "s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode());"
                   "print(s.makefile().read())",
                   farm.run / "api.sock", request)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(str(farm.run / "api.sock"))
        s.sendall(request.encode())
        return s.makefile().read()


def test_others_may_not(clean):
    get = "GET {} HTTP/1.1\r\nHost: qvd\r\n\r\n"
    answer = http(clean, get.format("/v1/users"), user=65534)
    assert " 403 " in answer and "only root may" in answer
    assert " 200 " in http(clean, get.format("/v1"), user=65534)
    post = ("POST /v1/tenants HTTP/1.1\r\nHost: qvd\r\n"
            "Content-Type: application/json\r\nContent-Length: 12\r\n\r\n"
            '{"name":"x"}')
    assert " 403 " in http(clean, post, user=65534)
    assert clean.one("SELECT count(*) FROM tenants") == 1


def test_odd_requests(clean):
    def ask(method, path, body=None):
        head = f"{method} {path} HTTP/1.1\r\nHost: qvd\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        answer = http(clean, head + "\r\n" + (body or ""))
        return int(answer.split()[1]), answer.rsplit("\n", 1)[-1]
    assert ask("GET", "/v2/users")[0] == 404
    assert ask("GET", "/v1/users/0")[0] == 404
    assert ask("GET", "/v1/users/99999999999")[0] == 404
    assert ask("GET", "/v1/users/1/x")[0] == 404
    assert ask("PUT", "/v1/users")[0] == 400
    assert ask("GET", "/v1/users?x=1")[0] == 422
    assert ask("GET", "/v1/events?limit=0")[0] == 422
    assert ask("GET", "/v1/events?limit=99999999999999999999")[0] == 422
    assert ask("POST", "/v1/users", "{")[0] == 400
    assert ask("POST", "/v1/users", "[]")[0] == 400
    assert ask("POST", "/v1/users", "{}")[0] == 422
    assert ask("POST", "/v1/users", '{"login": 5}')[0] == 422
    assert ask("POST", "/v1/users", '{"login": "a", "password": 5}')[0] == 422
    status, text = ask("POST", "/v1/users", '{"login": "a", "root": true}')
    assert status == 422 and "root" in text
    assert ask("PATCH", "/v1/users/1", "{}")[0] == 422
    assert ask("PATCH", "/v1/users/99", '{"blocked": true}')[0] == 404
    assert ask("PATCH", "/v1/users/1", '{"uid": 0}')[0] == 422
    assert ask("POST", "/v1/images", '{"osf_id": 1, "source": "x"}')[0] == 422
    assert ask("POST", "/v1/vms", '{"user_id": 9, "osf_id": 9}')[0] == 404
    assert ask("PUT", "/v1/users/1/password", "{}")[0] == 422
    assert ask("PUT", "/v1/configs/vm.network.nat", '{"value": 1}')[0] == 422
    assert ask("GET", "/v1/users")[0] == 200


def test_many_at_once(clean):
    """Names are unique whoever asks first; addresses, too."""
    farm = clean
    farm.add_user("alice")
    farm.add_osf("demo")
    children = [subprocess.Popen(
        [farm.programs / "qvd", "-q", "vm", "add", f"alice/d{n % 8}",
         "--osf", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=farm.env) for n in range(16)]
    codes = sorted([c.wait(30) for c in children])
    for c in children:
        c.communicate()
    assert codes == [0] * 8 + [16] * 8
    assert farm.one("SELECT count(DISTINCT address) FROM vms") == 8


def test_without_an_api(api):
    farm = api
    with pytest.raises(Failed) as failed:
        farm.qvd("--socket", "/nowhere/api.sock", "vm", "list")
    assert failed.value.result.status == 20
    assert "no API answers on '/nowhere/api.sock'" in \
        failed.value.result.err


def test_without_a_database(clean):
    """Said at once, and good again when it is back."""
    farm = clean
    farm.close_db()
    farm.kill("postgres")
    eventually(lambda: farm.qvd("tenant", "list", "-q",
                                check=False).status == 0, 60)


def test_schema(api):
    conf = ("--conf", api.data / "node.conf")
    newest = len(list((TOP / "sql").glob("0*.sql")))
    assert f"the database has schema {newest}; this program knows {newest}" \
        in api.qvd("db", "status", *conf).out
    assert api.qvd("db", "migrate", *conf).out == \
        f"the database has schema {newest}\n"
    assert api.qvd("db", "status", *conf, json=True)["schema"] == newest
    refused(api, "db", "status", "--conf", "/nowhere.conf", status=36,
            text="/nowhere.conf")


def test_ranges_of_ids_are_not_reused(farm):
    """Files of a tenant that is gone may still lie on a node."""
    def slot(name):
        return farm.one("SELECT idmap_slot FROM tenants WHERE name = %s", name)
    farm.qvd("tenant", "add", "first")
    gone = slot("first")
    farm.qvd("tenant", "del", "first")
    farm.qvd("tenant", "add", "second")
    assert slot("second") not in (gone, slot("default"))
    # All were given once: none is free, until one has been for a month.
    farm.sql("INSERT INTO idmap_slots (slot, freed_at) SELECT s, now() FROM "
             "generate_series(0, 999) s ON CONFLICT DO NOTHING")
    done = farm.qvd("tenant", "add", "third", check=False)
    assert done.status == 20 and "ranges of user ids" in done.err
    farm.sql("UPDATE idmap_slots SET freed_at = now() - interval '31 days' "
             "WHERE slot = %s", gone)
    farm.qvd("tenant", "add", "third")
    assert slot("third") == gone
    assert farm.one("SELECT freed_at FROM idmap_slots WHERE slot = %s",
                    gone) is None
