# SPDX-License-Identifier: GPL-3.0-or-later
"""`qvd up`: what it makes, what it survives, what it leaves."""

import json
import os
import signal
import stat
import subprocess

import pytest
from qvdlab import Farm, eventually, need, run


@pytest.fixture
def api_farm():
    """A farm without a node: PostgreSQL and the API."""
    need("root")
    with Farm(options=["--daemons", "api"]) as farm:
        yield farm


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def up(farm, *args):
    """Another `qvd up`, to its end."""
    return subprocess.run(
        [farm.programs / "qvd", "up", *(str(a) for a in args)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
        check=False, env=farm.env)


def alive(pid):
    """Not so if only its exit status is still there: not every PID 1 takes
    that at once."""
    try:
        text = open(f"/proc/{pid}/stat").read()
    except OSError:
        return False
    return text.rsplit(")", 1)[1].split()[0] != "Z"


def tables(farm):
    return farm.qvd("tenant", "list", "-q", check=False).status == 0


def test_what_it_makes(api_farm):
    farm = api_farm
    assert mode(farm.data) == 0o755 and mode(farm.run) == 0o755
    assert mode(farm.data / "tls/key.pem") == 0o600
    assert mode(farm.data / "pg") == 0o700
    assert mode(farm.run / "api.sock") == 0o666
    assert (farm.data / "pg").owner() == "postgres"
    names = run("openssl", "x509", "-in", farm.data / "tls/cert.pem",
                "-noout", "-ext", "subjectAltName")
    assert "DNS:node1" in names and "IP Address:127.0.0.1" in names
    conf = (farm.data / "node.conf").read_text()
    assert "name = node1\n" in conf and f"run = {farm.run}\n" in conf
    assert farm.sql("SELECT name, address FROM hosts") == \
        [("node1", "127.0.0.1")]
    assert farm.sql("SELECT name FROM tenants") == [("default",)]
    assert "ready: clients connect to *:8443" in farm.text()


def test_postgres_only_for_those_it_knows(api_farm):
    farm = api_farm

    def role(user, role):
        return subprocess.run(
            ["setpriv", f"--reuid={user}", f"--regid={user}",
             "--clear-groups", "psql", "-h", farm.run / "pg", "-U", role,
             "-d", "qvd", "-Atc", "SELECT 1"], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, check=False).stdout.strip()
    assert role("qvd-api", "qvd_api") == "1"
    assert role("qvd-l7r", "qvd_l7r") == "1"
    assert role("qvd-api", "qvd_owner") == ""
    assert role("nobody", "qvd_api") == ""
    assert run("ss", "-Hltnp").find(f"{farm.run}") == -1
    assert farm.one("SHOW listen_addresses") == ""


def test_again_after_an_orderly_end(api_farm):
    farm = api_farm
    farm.add_user("alice")
    conf = (farm.data / "node.conf").read_text()
    assert farm.stop() == 0
    assert not (farm.data / "pg/postmaster.pid").exists()
    farm.start()
    assert farm.qvd("user", "list", "-q").out != ""
    assert (farm.data / "node.conf").read_text() == conf


def test_ctrl_c_ends_it(api_farm):
    assert api_farm.stop(signal.SIGINT) == 0
    assert "[info" not in api_farm.text()


@pytest.mark.parametrize("program", ["qvd-api", "postgres"])
def test_what_ends_is_started_again(api_farm, program):
    farm = api_farm
    farm.close_db()
    old = farm.pids(program)
    farm.kill(program)
    eventually(lambda: farm.pids(program), 20, f"a new {program}")
    assert farm.pids(program) != old
    eventually(lambda: tables(farm), 30, "a farm that answers")


def test_killed_itself(api_farm):
    """Nobody outlives it; the next one starts over what it left."""
    farm = api_farm
    farm.add_user("alice")
    pids = farm.pids("qvd-api") + farm.pids("postgres")
    assert farm.stop(signal.SIGKILL) == -signal.SIGKILL
    farm.start()
    eventually(lambda: not any(alive(pid) for pid in pids), 10)
    assert farm.qvd("user", "list", "-q").out != ""


def test_everything_killed_at_once(api_farm):
    """As after a power cut: the lock file names a pid that is gone."""
    farm = api_farm
    farm.add_user("alice")
    pids = [*farm.pids("qvd-api"), *farm.pids("postgres"), farm.up.pid]
    farm.close_db()
    # Nobody may hear of another's end before its own.
    farm.up.send_signal(signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    farm.up.wait()
    farm.up = None
    assert (farm.data / "pg/postmaster.pid").exists()
    farm.start()
    assert farm.qvd("user", "list", "-q").out != ""


def test_a_lock_file_of_somebody_else(api_farm):
    """Its pid is another process of PostgreSQL's user by now, as after a
    reboot: PostgreSQL by itself would not start."""
    farm = api_farm
    farm.stop()
    other = subprocess.Popen(["setpriv", "--reuid=postgres", "--regid="
                              "postgres", "--clear-groups", "sleep", "60"])
    try:
        (farm.data / "pg/postmaster.pid").write_text(
            f"{other.pid}\n{farm.data}/pg\n1\n5432\n{farm.run}/pg\n\n1 1\n")
        farm.start()
        assert tables(farm)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_half_a_cluster_is_made_again(api_farm):
    """Killed while it made the database: nothing of it is taken for one."""
    farm = api_farm
    farm.stop()
    (farm.data / "pg").rename(farm.data / "pg.new")
    (farm.data / "pg.new/PG_VERSION").unlink()
    farm.start()
    assert tables(farm)
    assert not (farm.data / "pg.new").exists()


def test_only_one_at_a_time(api_farm):
    farm = api_farm
    second = up(farm, "--data", farm.data, "--run", farm.run)
    assert second.returncode == 16
    assert f"another 'qvd up' runs the farm in {farm.data}" in second.stderr
    assert tables(farm)


def test_options_against_the_file(api_farm):
    farm = api_farm
    farm.stop()
    wrong = up(farm, "--data", farm.data, "--run", farm.run, "--name", "b")
    assert wrong.returncode == 36
    assert f"--name says 'b', {farm.data}/node.conf says 'node1'" in \
        wrong.stderr


def test_mistakes(api_farm, tmp_path):
    farm = api_farm
    assert up(farm, "--daemons", "x").returncode == 2
    assert up(farm, "--ready-fd", "1").returncode == 2
    long = up(farm, "--data", tmp_path / "x", "--run", "/tmp/" + "x" * 90)
    assert (long.returncode, "too long for sockets" in long.stderr) == \
        (36, True)
    user = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", farm.programs / "qvd",
         "up"], stderr=subprocess.PIPE, text=True, check=False)
    assert user.returncode == 14 and "needs root" in user.stderr


def test_a_certificate_without_its_key(api_farm):
    farm = api_farm
    farm.stop()
    (farm.data / "tls/key.pem").unlink()
    wrong = up(farm, "--data", farm.data, "--run", farm.run)
    assert wrong.returncode == 36
    assert "but its key" in wrong.stderr


def test_a_program_that_is_missing(api_farm, tmp_path):
    """Told at once, instead of trying for ever."""
    farm = api_farm
    farm.stop()
    conf = farm.data / "node.conf"
    conf.write_text(conf.read_text().replace(
        f"programs = {farm.programs}", f"programs = {tmp_path}"))
    wrong = up(farm, "--data", farm.data, "--run", farm.run, "--daemons",
               "api")
    assert wrong.returncode != 0
    assert "qvd-api doesn't start" in wrong.stderr
    assert not (farm.data / "pg/postmaster.pid").exists()


def test_a_migration_that_fails(api_farm, tmp_path):
    farm = api_farm
    farm.stop()
    (tmp_path / "0001-farm.sql").write_text("SELECT 1;\n")
    conf = farm.data / "node.conf"
    lines = [f"sql = {tmp_path}" if line.startswith("sql = ") else line
             for line in conf.read_text().splitlines()]
    conf.write_text("\n".join(lines) + "\n")
    wrong = up(farm, "--data", farm.data, "--run", farm.run, "--daemons",
               "api")
    assert wrong.returncode != 0
    assert "was changed after it was applied" in wrong.stderr


# With desktops


def vm_pid(farm):
    return farm.qvd("vm", "show", farm.vm, json=True)["pid"]


@pytest.fixture
def busy_farm(busybox_farm):
    busybox_farm.vm = busybox_farm.add_vm("alice", "busybox")
    busybox_farm.qvd("vm", "start", busybox_farm.vm)
    yield busybox_farm


def test_its_end_stops_the_desktops(busy_farm):
    farm = busy_farm
    pid = vm_pid(farm)
    assert farm.stop() == 0
    assert not alive(pid)
    farm.start()
    vm = farm.qvd("vm", "show", farm.vm, json=True)
    assert (vm["state"], vm["desired"]) == ("stopped", "stopped")
    assert vm["desired_by"] == "the end of qvd up"
    farm.qvd("vm", "start", farm.vm)


def test_desktops_that_are_kept(busybox_farm):
    """They run on without a farm, and the next one finds them."""
    farm = busybox_farm
    farm.vm = farm.add_vm("alice", "busybox")
    farm.stop()
    farm.start("--keep-desktops")
    farm.qvd("vm", "start", farm.vm)
    pid = vm_pid(farm)
    assert farm.stop() == 0
    assert alive(pid)
    farm.start()
    farm.wait_vm(farm.vm, "running")
    assert vm_pid(farm) == pid
    farm.wait_event("vm.adopted", farm.vm)


def test_killed_with_desktops(busy_farm):
    """kill -9 of `qvd up` costs no desktop."""
    farm = busy_farm
    pid = vm_pid(farm)
    farm.stop(signal.SIGKILL)
    assert alive(pid)
    farm.start()
    farm.wait_vm(farm.vm, "running")
    assert vm_pid(farm) == pid


def test_each_daemon_killed_with_desktops(busy_farm):
    farm = busy_farm
    pid = vm_pid(farm)
    for program in ("qvd-hkd", "qvd-l7r", "qvd-api", "postgres"):
        farm.close_db()
        old = farm.pids(program)
        farm.kill(program)
        eventually(lambda p=program, o=old: set(farm.pids(p)) - set(o), 30)
        eventually(lambda: json.loads(
            farm.qvd("-o", "json", "host", "list", check=False).out or
            '[{"state": ""}]')[0]["state"] == "running", 60)
        farm.wait_vm(farm.vm, "running")
        assert vm_pid(farm) == pid, program
