# SPDX-License-Identifier: GPL-3.0-or-later
"""Host hooks: the administrator's programs before, at and after a run."""

import json

import pytest
from qvdlab import Farm, eventually, need

HOOK = """#!/bin/sh
# One file a call, with what came in; `refuse` and `hang` do as they are told.
dir=%s
cat >$dir/$1.new && mv $dir/$1.new $dir/$1.$(cat /proc/sys/kernel/random/uuid)
if [ -e $dir/refuse.$1 ]; then echo first; echo "no licence is free"; exit 3; fi
if [ -e $dir/hang.$1 ]; then sleep 1000 & echo "waiting"; sleep 1000; fi
if [ -e $dir/flood.$1 ]; then yes | head -c 10000000; fi
[ ! -e /proc/self/fd/3 ] || { echo "a descriptor too many"; exit 1; }
"""
EVENTS = ("prestart", "poststart", "poststop")


@pytest.fixture(scope="module")
def house():
    need("root", "containers")
    with Farm(images=["busybox"]) as farm:
        conf = farm.data / "node.conf"
        hooks = farm.dir / "hooks"
        hooks.mkdir(mode=0o755)
        farm.calls = farm.dir / "calls"
        farm.calls.mkdir()
        (hooks / "site").write_text(HOOK % farm.calls)
        (hooks / "site").chmod(0o755)
        (hooks / "open").write_text(HOOK % farm.calls)
        (hooks / "open").chmod(0o777)
        (hooks / "plain").write_text("text")
        (hooks / "link").symlink_to("site")
        text = conf.read_text()
        conf.write_text(text.replace("[paths]", f"[paths]\nhooks = {hooks}"))
        # Until the next one has started, the row may say what the old one
        # was.
        started = farm.event_names().count("host.started")
        farm.kill("qvd-hkd")
        farm.wait_event("host.started", count=started + 1, timeout=60)
        farm.wait_sql("qvd_hosts",
                      "SELECT state = 'running' FROM host_runtimes")
        farm.add_user("alice", "secret")
        farm.vm = farm.add_vm("alice", "busybox")
        yield farm


@pytest.fixture(autouse=True)
def clean(house):
    house.hooked = set()
    yield
    for f in house.calls.glob("[rhf]*.*"):  # refuse, hang, flood
        f.unlink()
    house.qvd("vm", "stop", house.vm)
    # Each run has its poststop, but who stops it doesn't wait for that.
    if {"prestart", "poststop"} <= house.hooked:
        eventually(lambda: len(calls(house, "poststop")) >=
                   len(calls(house, "prestart")), what="each run's poststop")
    for name in EVENTS:
        house.qvd("config", "unset", f"hkd.hook.{name}")
    house.qvd("config", "unset", "hkd.hook.deadline")
    for f in house.calls.iterdir():
        f.unlink()


def use(house, program="site", *names):
    """The nodes hear of it, so a run that begins later knows it."""
    house.hooked |= set(names or EVENTS)
    for name in names or EVENTS:
        house.qvd("config", "set", f"hkd.hook.{name}", program)


def calls(house, name):
    return [json.loads(f.read_text())
            for f in house.calls.glob(f"{name}.????????-*")]


def test_off_unless_named(house):
    house.qvd("vm", "start", house.vm)
    house.qvd("vm", "stop", house.vm)
    assert list(house.calls.iterdir()) == []


def test_each_at_its_time(house):
    use(house)
    house.qvd("vm", "start", house.vm)
    [before] = calls(house, "prestart")
    vm, epoch, pid = house.sql(
        "SELECT vm_id, epoch, pid FROM vm_runtimes WHERE vm_id = %s",
        house.vm)[0]
    assert before["hook"] == "prestart" and before["vm_id"] == vm
    assert before["run"] == epoch and before["pid"] is None
    assert before["owner"] == "alice@default" and before["name"] == "desk"
    assert before["osf"] == "busybox" and before["image"] == "busybox/1"
    assert len(before["checksum"]) == 64 and before["address"]
    [running] = eventually(lambda: calls(house, "poststart"))
    assert running["pid"] == pid
    assert calls(house, "poststop") == []
    house.qvd("vm", "stop", house.vm)
    [after] = eventually(lambda: calls(house, "poststop"))
    assert after["run"] == epoch and after["error_id"] is None
    assert "vm.hook-failed" not in house.event_names(house.vm)


def refused(house):
    done = house.qvd("vm", "start", house.vm, check=False)
    assert done.status != 0
    return done.err


def test_prestart_refuses(house):
    (house.calls / "refuse.prestart").touch()
    use(house)
    said = refused(house)
    assert f"start VM {house.vm}: prestart refuses it: host hook 'site'" in \
        said and said.count("no licence is free") == 1, said
    assert "first" not in said
    house.wait_vm(house.vm, "stopped")
    house.assert_clean(house.vm)
    # It has its poststop, for it may have begun something.
    [after] = eventually(lambda: calls(house, "poststop"))
    assert "no licence is free" in after["error"]
    assert calls(house, "poststart") == []
    house.wait_event("vm.start-failed", house.vm)


def test_deadline(house):
    (house.calls / "hang.prestart").touch()
    house.qvd("config", "set", "hkd.hook.deadline", "1s")
    use(house)
    said = refused(house)
    assert "prestart refuses it" in said and "waiting" in said, said
    house.wait_vm(house.vm, "stopped")


def test_stop_while_it_runs(house):
    (house.calls / "hang.prestart").touch()
    use(house)
    house.sql("UPDATE vms SET desired = 'running', epoch = epoch + 1, "
              "host_id = (SELECT id FROM hosts) WHERE id = %s", house.vm)
    eventually(lambda: calls(house, "prestart"))
    house.qvd("vm", "stop", house.vm)
    assert calls(house, "poststart") == []
    eventually(lambda: calls(house, "poststop"))


@pytest.mark.parametrize("name", ["poststart", "poststop"])
def test_later_ones_hinder_nobody(house, name):
    (house.calls / f"refuse.{name}").touch()
    (house.calls / "flood.prestart").touch()
    use(house)
    before = house.event_names(house.vm).count("vm.hook-failed")
    house.qvd("vm", "start", house.vm)
    house.qvd("vm", "stop", house.vm)
    house.wait_event("vm.hook-failed", house.vm, before + 1)
    text = next(e[1] for e in reversed(house.events(house.vm))
                if e[0] == "vm.hook-failed")
    assert text.startswith(f"{name}: host hook 'site'")
    assert "no licence is free" in text


@pytest.mark.parametrize("program,why", [
    ("open", "nobody else may write"), ("plain", "chmod +x"),
    ("link", "no link"), ("missing", "No such file")])
def test_program_that_may_not_be_run(house, program, why):
    use(house, program, "prestart")
    said = refused(house)
    assert why in said and "configuration" in said, said
    assert calls(house, "prestart") == []


def test_names_only(house):
    for bad in ("../site", "/bin/sh", "a b", "x;y"):
        use(house, bad, "prestart")
        assert "'program' must be a name" in refused(house)
