# SPDX-License-Identifier: GPL-3.0-or-later
"""Roll-outs on real containers: a good version that finishes, a broken one
that halts by itself and says why, and the way back."""

import contextlib

import pytest
from qvdlab import Failed, Farm, build, eventually, need, run

DESKTOPS = 20


def tree(farm, name, broken=False):
    """A version of the busybox image as a folder; in a broken one a file is
    where the agent is to be mounted, so that no container starts."""
    path = farm.dir / name
    path.mkdir()
    run("tar", "-C", path, "-xf", build.image("busybox"))
    (path / "etc/version").write_text(name)
    if broken:
        (path / "usr/lib").rmdir()
        (path / "usr/lib").write_text("")
    return path


@pytest.fixture(scope="module")
def house():
    need("root", "containers")
    with Farm(images=["busybox"]) as farm:
        farm.add_user("alice", "secret")
        farm.vms = [farm.add_vm("alice", "busybox", f"desk{i:02}")
                    for i in range(DESKTOPS)]
        farm.qvd("vm", "start", *farm.vms, timeout=300)
        for version in ("2", "3"):
            farm.qvd("image", "import",
                     tree(farm, version, broken=version == "3"), "--osf",
                     "busybox", "--version", version, timeout=300)
        yield farm


def rollout(farm, which):
    return farm.qvd("rollout", "show", which, json=True)


def begin(farm, version, *options):
    return farm.qvd("image", "rollout", f"busybox/{version}", "--to",
                    "default", *options, json=True)["id"]


def members(farm, which):
    return [v for v, in farm.sql(
        "SELECT vm_id FROM rollout_members WHERE rollout_id = %s", which)]


def version_of(farm, vm):
    """What it would get if it started now."""
    return farm.one("SELECT version FROM images WHERE id = vm_image(%s)", vm)


def restart(farm, vms):
    for vm in vms:
        with contextlib.suppress(Failed):
            farm.qvd("vm", "stop", vm)
            farm.qvd("vm", "start", vm)


def wait(farm, which, condition, timeout=60):
    farm.wait_sql("qvd_rollouts",
                  f"SELECT {condition} FROM rollouts WHERE id = %s", which,
                  timeout=timeout, what=f"roll-out {which}: {condition}")


def test_a_good_version_reaches_everybody_in_waves(house):
    vms = house.vms
    which = begin(house, "2", "--canary", "5%", "--watch", "0")
    assert rollout(house, which)["members"] == 1
    canary = members(house, which)
    assert [v for v in vms if version_of(house, v) == "2"] == canary
    # Nothing that runs is touched, and nothing widens before it has started.
    wait(house, which, "step IS NOT NULL")
    assert rollout(house, which)["step"] == (
        "1 more of the wave's 1 desktops must start before it can be judged")
    assert rollout(house, which)["running"] == 0

    # The daemon that drives it ends at any moment; the rows know.
    house.kill("qvd-api")
    eventually(lambda: house.qvd("rollout", "list", check=False).status == 0,
               30)
    restart(house, canary)
    wait(house, which, "wave = 2 AND percent = 25")
    assert set(canary) < set(members(house, which))
    assert rollout(house, which)["members"] == 5
    house.wait_event("image.rollout-widened")
    seen = set(canary)
    for percent in (50, 100):
        now = set(members(house, which)) - seen
        seen |= now
        restart(house, sorted(now)[:(len(now) + 1) // 2])
        wait(house, which, f"percent >= {percent}")
    now = set(members(house, which)) - seen
    restart(house, sorted(now)[:(len(now) + 1) // 2])
    wait(house, which, "state = 'finished'")
    assert {version_of(house, v) for v in vms} == {"2"}
    assert house.qvd("image", "show", "busybox:default",
                     json=True)["version"] == "2"
    names = house.event_names(canary[0])
    assert "image.rollout-started" in names
    text = house.qvd("why", "vm", canary[0]).out
    assert "it gets version 2 instead of 1 at its next start" in text
    assert "from image busybox/2" in text
    house.wait_event("image.rollout-finished")


def test_a_broken_version_halts_by_itself_and_is_taken_back(house):
    vms = house.vms
    before = {version_of(house, v) for v in vms}
    assert len(before) == 1
    old = before.pop()
    which = begin(house, "3", "--canary", "25%", "--watch", "1h")
    canary = members(house, which)
    assert len(canary) == 5
    for vm in canary[:3]:
        house.qvd("vm", "stop", vm)
        assert house.qvd("vm", "start", vm, check=False).status == 30
    wait(house, which, "state = 'halted'")
    shown = rollout(house, which)
    assert shown["reason"].startswith("3 of 3 starts of version 3 failed "
                                      f"(version {old}: ")
    assert shown["new"]["start_failures"] == 3
    # Nobody gets it any more: who asks again has a desktop.
    assert version_of(house, canary[0]) == old
    house.qvd("vm", "start", canary[0])
    text = house.qvd("why", "vm", canary[0]).out
    assert "it gets version 3 instead of" in text
    assert "the start failed" in text
    assert f"it gets version {old} again at its next start" in text
    assert "because 3 of 3 starts of version 3 failed" in text
    assert f"from image busybox/{old}" in text
    text = house.qvd("why", "image", "busybox/3").out
    assert "halted in wave 1: 3 of 3 starts of version 3 failed" in text

    # It may go on, from zero, until it is taken back.
    house.qvd("rollout", "resume", which)
    assert version_of(house, canary[0]) == "3"
    house.qvd("rollout", "halt", which)
    assert house.qvd("rollout", "halt", which, check=False).status == 16
    refused = house.qvd("image", "del", "busybox/3", check=False)
    assert refused.status == 16 and f"roll-out {which}" in refused.err
    house.qvd("image", "rollback", "busybox")
    assert rollout(house, which)["state"] == "rolled-back"
    assert {version_of(house, v) for v in vms} == {old}
    house.wait_event("image.rolled-back", canary[0])
    assert house.qvd("image", "del", "busybox/3").status == 0


def test_a_finished_version_is_taken_back_too(house):
    now = house.qvd("image", "show", "busybox:default", json=True)["version"]
    other = "1" if now == "2" else "2"
    house.qvd("image", "tag", f"busybox/{other}", "default")
    assert version_of(house, house.vms[0]) == other
    house.qvd("image", "rollback", "busybox", "--tag", "default")
    assert version_of(house, house.vms[0]) == now
    house.wait_event("image.rolled-back", house.vms[0])


def test_a_group_or_a_host_goes_first(house):
    now = house.qvd("image", "show", "busybox:default", json=True)["version"]
    other = "1" if now == "2" else "2"
    some = house.vms[3:5]
    house.qvd("vm", "set", some[0], "--group", "testers")
    house.qvd("vm", "set", some[1], "--group", "testers")
    which = begin(house, other, "--group", "testers")
    assert sorted(members(house, which)) == some
    refused = house.qvd("image", "rollout", f"busybox/{other}", "--to",
                        "default", check=False)
    assert refused.status == 16 and "is under way" in refused.err
    house.qvd("rollout", "widen", which)
    assert len(members(house, which)) >= 5
    # Whoever moves the tag by hand ends it.
    house.qvd("image", "tag", f"busybox/{other}", "default")
    assert rollout(house, which)["state"] == "finished"

    house.qvd("image", "rollback", "busybox")
    which = begin(house, other, "--host", "node1")
    assert len(members(house, which)) == DESKTOPS
    house.qvd("image", "rollback", "busybox")


def test_what_runs_the_old_version_is_restarted(house):
    now = house.qvd("image", "show", "busybox:default", json=True)["version"]
    other = "1" if now == "2" else "2"
    vms = house.vms[:4]
    house.qvd("vm", "stop", *house.vms[4:], timeout=300)
    restart(house, vms)
    which = begin(house, other, "--canary", "100", "--watch", "0", "--hard",
                  "0")
    house.wait_event("vm.expired", vms[0])
    # Half of twenty are asked for, and only four run.
    for vm in house.vms[4:12]:
        house.qvd("vm", "start", vm)
    wait(house, which, "state = 'finished'")
    house.wait_sql("qvd_vm_runtimes", "SELECT count(*) = 12 FROM vm_runtimes r "
                   "JOIN images i ON i.id = r.image_id WHERE r.state = "
                   "'running' AND i.version = %s", other)


def test_what_a_rollout_has_told_ends_with_it(house):
    """Nothing is restarted for a version that was taken back."""
    def expiring():
        return {v for v, in house.sql(
            "SELECT id FROM vms WHERE expire_hard_at IS NOT NULL")}

    def running(version):
        return {v for v, in house.sql(
            "SELECT r.vm_id FROM vm_runtimes r JOIN images i ON i.id = "
            "r.image_id WHERE r.state = 'running' AND version = %s", version)}

    now = house.qvd("image", "show", "busybox:default", json=True)["version"]
    other = "1" if now == "2" else "2"
    restart(house, house.vms[:2])
    old = running(now)
    own = house.vms[0]
    assert own in old and len(old) >= 2
    house.qvd("vm", "expire", own, "--hard", "2h")
    which = begin(house, other, "--canary", "100", "--watch", "1h", "--hard",
                  "1h")
    assert expiring() == old
    house.qvd("rollout", "halt", which)
    # What an administrator has ordered is none of the roll-out's.
    assert expiring() == {own}
    text = house.qvd("why", "vm", house.vms[1]).out
    assert f"it does not expire any more: roll-out {which} is halted" in text
    house.qvd("rollout", "resume", which)
    assert expiring() == old
    house.qvd("image", "rollback", "busybox")
    assert expiring() == {own}
    # Finished, and taken back then.
    which = begin(house, other, "--canary", "100", "--watch", "1h", "--hard",
                  "1h")
    house.qvd("image", "tag", f"busybox/{other}", "default")
    assert rollout(house, which)["state"] == "finished"
    assert expiring() == old
    house.qvd("image", "rollback", "busybox")
    assert expiring() == {own}
    house.qvd("vm", "expire", own, "--never")
    assert expiring() == set()


def test_mistakes_are_sentences(house):
    def says(*args):
        done = house.qvd("image", "rollout", *args, check=False)
        assert done.status != 0
        return done.err

    now = house.qvd("image", "show", "busybox:default", json=True)["version"]
    other = "1" if now == "2" else "2"
    assert "names version" in says(f"busybox/{now}", "--to", "default")
    assert "has no tag 'none'" in says(f"busybox/{other}", "--to", "none")
    assert "not a percentage" in says(f"busybox/{other}", "--to", "default",
                                      "--canary", "0")
    assert "not several" in says(f"busybox/{other}", "--to", "default",
                                 "--canary", "5", "--group", "x")
    assert "in that group" in says(f"busybox/{other}", "--to", "default",
                                   "--group", "nobody")
    done = house.qvd("image", "rollback", "busybox", "--tag", "none",
                     check=False)
    assert done.status == 15 and "no tag 'none'" in done.err


def test_places_are_spread_and_stay(house):
    """The hash: about the percentage asked for, another canary each time."""
    (few, both), = house.sql(
        "SELECT count(*) FILTER (WHERE a < 107374182), "
        "count(*) FILTER (WHERE a < 107374182 AND b < 107374182) FROM "
        "(SELECT rollout_place(1, v) AS a, rollout_place(2, v) AS b "
        "FROM generate_series(1, 10000) v) p")
    assert 400 < few < 600 and both < 60
    assert house.one("SELECT rollout_place(7, 42)") == house.one(
        "SELECT hashint4extended(42, 7) & 2147483647")
