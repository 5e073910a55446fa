# SPDX-License-Identifier: GPL-3.0-or-later
"""One session, several clients: who comes last has it, at once; who comes
back by itself never takes it from somebody else."""

import base64
import threading
import time

import pytest
from l7rlab import Client, Router
from qvdlab import eventually, need


@pytest.fixture(scope="module")
def lab():
    need("root")
    with Router() as r:
        r.alice = r.add_user()
        yield r


@pytest.fixture
def vm(lab):
    n = lab.one("SELECT count(*) FROM vms")
    return lab.add_vm(lab.alice, f"desk{n}", running=True)


def test_takeover_at_once(lab, vm):
    with Client(lab) as one, Client(lab) as two:
        assert one.connect(vm).status == 101
        one.say(b"a")
        assert one.hear(1) == b"a"
        began = time.monotonic()
        r = two.connect(vm)
        took = time.monotonic() - began
        assert r.status == 101 and took < 15
        assert f"Aborting contending session for VM_ID: {vm}" in two.interims
        assert one.closed(20), "the former holder is still connected"
        two.say(b"b")
        assert two.hear(1) == b"b"
        assert lab.session(vm) == ("connected", 2)
    lab.wait_session(vm, "disconnected")
    assert "session.taken-over" in [e[0] for e in lab.events(vm)]


def test_takeover_of_one_that_never_spoke(lab, vm):
    with Client(lab) as one, Client(lab) as two:
        assert one.connect(vm).status == 101
        assert two.connect(vm).status == 101
        assert one.closed(20)
        assert lab.session(vm) == ("connected", 2)


def test_takeover_of_one_being_connected(lab, vm):
    """Held at the agent; then the same before the VM runs."""
    agent = lab.node.agent(vm)
    agent.hold = threading.Event()
    with Client(lab) as one, Client(lab) as two:
        one.connect_send(vm)
        lab.wait_session(vm, "connecting")
        while len(agent.bodies) < 1:
            time.sleep(0.01)
        two.connect_send(vm)
        r = one.read()
        assert r.status == 503
        assert f"Aborted by contending session VM VM_ID: {vm}" in r.text
        assert r.header("X-QVD-Error") == "session-taken-over"
        agent.hold.set()
        assert two.read().status == 101
        # A connection that was refused can be used again.
        assert one.get("/qvd/list_of_vm").status == 200


def test_takeover_while_the_vm_starts(lab):
    vm = lab.add_vm(lab.alice, "slow")
    lab.node.paused = True
    try:
        with Client(lab) as one, Client(lab) as two:
            one.connect_send(vm)
            lab.wait_session(vm, "connecting")
            two.connect_send(vm)
            r = one.read()
            assert r.status == 503 and "contending" in r.text
            lab.node.paused = False
            assert two.read().status == 101
            assert lab.one("SELECT epoch FROM vms WHERE id = %s", vm) == 1, \
                "both wait for the same run"
    finally:
        lab.node.paused = False


def test_resume_with_the_key(lab, vm):
    with Client(lab) as c:
        key = c.connect(vm).header("X-QVD-Slave-Key")
    lab.wait_session(vm, "disconnected")
    with Client(lab) as c:
        r = c.connect(vm, "", f"X-QVD-Resume: {key}")
        assert r.status == 101
        # It stays good, whatever happens to this connection.
        assert r.header("X-QVD-Slave-Key") == key
    with Client(lab) as c:
        assert c.connect(vm, "", f"X-QVD-Resume: {key}").status == 101


def test_resume_after_a_takeover_is_refused(lab, vm):
    with Client(lab) as one, Client(lab) as two:
        key = one.connect(vm).header("X-QVD-Slave-Key")
        assert two.connect(vm).status == 101
        assert one.closed(20)
        with Client(lab) as again:
            r = again.connect(vm, "", f"X-QVD-Resume: {key}")
            assert r.status == 409
            assert r.header("X-QVD-Error") == "session-taken-over"
            assert len(r.header("X-QVD-Ref")) == 8
        two.say(b"still here")
        assert two.hear(10) == b"still here"
        assert lab.session(vm) == ("connected", 2)


@pytest.mark.parametrize("key", ["x", "?" * 64, "A" * 64, "a b", "é"])
def test_resume_with_a_wrong_key(lab, vm, key):
    with Client(lab) as c:
        assert c.connect(vm, "", f"X-QVD-Resume: {key}").status == 409


def test_administrator_disconnects(lab, vm):
    with Client(lab) as c:
        assert c.connect(vm).status == 101
        c.say(b"x")
        lab.sql("UPDATE sessions SET generation = generation + 1, "
                "state = 'disconnected' WHERE vm_id = %s", vm)
        assert c.closed(20)
    assert lab.session(vm) == ("disconnected", 2)


def test_many_fight_for_one(lab, vm):
    """Whatever the order, one holds it at the end and the rows say so."""
    results, lock = [], threading.Lock()

    def fight(i):
        c = lab.client()
        r = c.connect(vm)
        with lock:
            results.append((c, r))

    threads = [threading.Thread(target=fight, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert len(results) == 12
    assert {r.status for _, r in results} <= {101, 503}
    alive = [c for c, r in results if r.status == 101]

    def one_is_left():
        alive[:] = [c for c in alive if not c.closed(0.2)]
        return len(alive) <= 1
    eventually(one_is_left)
    assert len(alive) == 1
    assert lab.session(vm) == ("connected", 12)
    alive[0].close()
    lab.wait_session(vm, "disconnected")


def test_session_needs_its_user(lab, vm):
    """A key is no credential: the login decides."""
    mallory = lab.add_user("mallory", "secret")
    assert mallory
    with Client(lab) as c:
        key = c.connect(vm).header("X-QVD-Slave-Key")
        c.say(b"x")
        with Client(lab, "mallory") as m:
            r = m.connect(vm, "", f"X-QVD-Resume: {key}")
            assert r.status == 503 and "not allowed" in r.text
            m.auth = "Bearer " + base64.b64encode(key.encode()).decode()
            assert m.connect(vm).status == 401
        c.say(b"y")
        assert c.hear(2) == b"xy"
