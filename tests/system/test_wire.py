# SPDX-License-Identifier: GPL-3.0-or-later
"""QVD's wire protocol as old clients know it: statuses, texts, JSON types,
tolerances. The node and the desktops are played by l7rlab."""

import base64
import json
import re

import pytest
from l7rlab import Client, Router, sha256
from qvdlab import eventually, need

UP = ("Connection: Upgrade", "Upgrade: QVD/1.0")


@pytest.fixture(scope="module")
def lab():
    need("root")
    with Router() as r:
        r.alice = r.add_user()
        r.desk = r.add_vm(r.alice)
        yield r


def bearer(token):
    return "Bearer " + base64.b64encode(token.encode()).decode()


def test_ping(lab):
    with Client(lab) as c:
        r = c.get("/qvd/ping", auth=False)
        assert (r.status, r.reason, r.text) == (200, "OK", "I am alive!\r\n")
        assert r.header("Content-Type") == "text/plain"


def test_list_has_integers_and_is_pretty_ascii(lab):
    bob = lab.add_user("bob")
    vm = lab.add_vm(bob, "desk-1")
    lab.sql("UPDATE vms SET blocked = true WHERE id = %s", vm)
    with Client(lab, "bob") as c:
        r = c.get("/qvd/list_of_vm?")
        assert r.header("Content-Type") == "application/json"
        assert r.json == [{"id": vm, "state": "stopped", "name": "desk-1",
                           "blocked": 1, "is_application": 0}]
        assert b'"blocked": 1' in r.body and b"\n" in r.body
        assert c.get("/qvd/list_of_applications").json == []


def test_applications(lab):
    carol = lab.add_user("carol")
    vm = lab.add_vm(carol, "writer", lab.add_osf("office", "application"))
    with Client(lab, "carol") as c:
        assert [v["id"] for v in c.get("/qvd/list_of_applications").json] \
            == [vm]
        assert c.get("/qvd/list_of_applications").json[0][
            "is_application"] == 1
        assert c.get("/qvd/list_of_vm").json == []


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_bare_lf_no_host_several_requests(lab, eol):
    with Client(lab, eol=eol) as c:
        for _ in range(3):
            assert c.get("/qvd/list_of_vm").status == 200
        assert c.get("/qvd/ping").status == 200


def test_credentials(lab):
    for login, password in (("alice", "wrong"), ("nobody", "secret"),
                            ("alice", ""), ("", "secret"),
                            ("alice@nowhere", "secret")):
        with Client(lab, login, password) as c:
            r = c.get("/qvd/list_of_vm")
            assert r.status == 401, (login, password)
            assert r.header("WWW-Authenticate") == 'Basic realm="QVD"'
            assert int(r.header("Content-Length")) > 0
            assert r.header("X-QVD-Error") == "authentication-failed"
    for login in ("alice@default", "alice#default", "ALICE", " alice "):
        with Client(lab, login) as c:
            assert c.get("/qvd/list_of_vm").status == 200, login


@pytest.mark.parametrize("value", [
    "Basic", "Basic !!!!", "Basic " + base64.b64encode(b"nocolon").decode(),
    "Basic " + base64.b64encode(b"alice:sec\0ret").decode(),
    "Digest abc", "Bearer ", "Bearer " + base64.b64encode(b"no").decode()])
def test_malformed_authorization(lab, value):
    with Client(lab) as c:
        r = c.get("/qvd/list_of_vm", f"Authorization: {value}", auth=False)
        assert r.status == 401
    with Client(lab) as c:
        assert c.get("/qvd/list_of_vm", auth=False).status == 401


def test_blocked_user_and_tenant(lab):
    dave = lab.add_user("dave")
    lab.sql("UPDATE users SET blocked = true WHERE id = %s", dave)
    with Client(lab, "dave") as c:
        assert c.get("/qvd/list_of_vm").status == 401
        lab.sql("UPDATE users SET blocked = false WHERE id = %s", dave)
        assert c.get("/qvd/list_of_vm").status == 200
        # Remembered logins don't outlive the right.
        lab.sql("UPDATE users SET blocked = true WHERE id = %s", dave)
        assert c.get("/qvd/list_of_vm").status == 401
    assert lab.wait_event("user.login-failed")[2] == "authentication-failed"


def test_other_user_on_the_same_connection(lab):
    erin = lab.add_user("erin", "other")
    vm = lab.add_vm(erin)
    with Client(lab) as c:
        assert [v["id"] for v in c.get("/qvd/list_of_vm").json] == [lab.desk]
        c.auth = "Basic " + base64.b64encode(b"erin:other").decode()
        assert [v["id"] for v in c.get("/qvd/list_of_vm").json] == [vm]
        c.auth = "Basic " + base64.b64encode(b"erin:wrong").decode()
        assert c.get("/qvd/list_of_vm").status == 401


def test_host_refusals(lab):
    host = "UPDATE host_runtimes SET state = %s"
    blocked = "UPDATE hosts SET blocked = %s"
    try:
        lab.sql(host, "stopping")
        with Client(lab) as c:
            for path in ("ping", "list_of_vm"):
                r = c.get(f"/qvd/{path}")
                assert (r.status, r.text) == (503, "Server is stopping")
        lab.sql(host, "running")
        lab.sql(blocked, True)
        with Client(lab) as c:
            for path in ("ping", "list_of_vm", "connect_to_vm", "stop_vm"):
                r = c.get(f"/qvd/{path}")
                assert (r.status, r.text) == (503, "Server is blocked")
            assert c.get("/qvd/authenticate_user").status == 200
        with Client(lab, "alice", "wrong") as c:  # who comes before blocked
            assert c.get("/qvd/connect_to_vm").status == 401
        lab.sql(blocked, False)
        lab.sql("UPDATE hosts SET name = 'other'")
        with Client(lab, "alice", "wrong") as c:
            r = c.get("/qvd/connect_to_vm")
            assert (r.status, r.text) == \
                (503, "Host is not registered in the database")
    finally:
        lab.sql("UPDATE hosts SET name = 'node1', blocked = false")
        lab.sql(host, "running")


def test_unknown_path_and_method(lab):
    with Client(lab) as c:
        for target in ("/", "/qvd/", "/qvd/list_of_vms", "/qvd/PING"):
            r = c.get(target)
            assert r.status == 404
            assert r.header("Content-Type") == "text/plain"
        assert c.get("/qvd/ping", method="DELETE").status == 404


def test_version_and_malformed_head(lab):
    with Client(lab) as c:
        c.sock.sendall(b"GET /qvd/ping HTTP/1.0\n\n")
        assert c.read().status == 505
        assert c.closed()
    with Client(lab) as c:
        c.sock.sendall(b"\x16\x03nonsense\n\n")
        assert c.read().status == 400
        assert c.closed()


def test_connect_checks_in_order(lab):
    with Client(lab) as c:
        r = c.get("/qvd/connect_to_vm?bad=1")
        assert r.status == 426 and r.reason == "Upgrade Required"
        assert int(r.header("Content-Length")) > 0
        assert c.get(f"/qvd/connect_to_vm?id={lab.desk}",
                     "Connection: upgrade", UP[1]).status == 426
        assert c.get(f"/qvd/connect_to_vm?id={lab.desk}", UP[0],
                     "Upgrade: QVD/2.0").status == 426
        r = c.get("/qvd/connect_to_vm?bad=1", *UP)
        assert (r.status, r.text) == (422, "parameter id is missing")
        r = c.get("/qvd/connect_to_vm?id=999999&bad=1&qvd.client.os=linux"
                  "&custom.x=1&worse=2", *UP)
        assert (r.status, r.text) == (403, "Invalid parameters bad, worse")
        r = c.get("/qvd/connect_to_vm?id=999999", *UP)
        assert (r.status, r.text) == \
            (404, "The requested virtual machine does not exist")
        lab.sql("UPDATE vms SET blocked = true WHERE id = %s", lab.desk)
        r = c.get(f"/qvd/connect_to_vm?id={lab.desk}", *UP)
        lab.sql("UPDATE vms SET blocked = false WHERE id = %s", lab.desk)
        assert (r.status, r.text) == (
            403, "The requested virtual machine is offline for maintenance")


def test_somebody_elses_vm(lab):
    frank = lab.add_user("frank")
    vm = lab.add_vm(frank)
    with Client(lab) as c:
        r = c.connect(vm)
        assert r.status == 503
        assert re.fullmatch(
            r"The requested virtual machine is not available: You are not "
            r"allowed to access requested virtual machine, retry later\. "
            r"\(not-allowed, reference [A-Z2-7]{8}\)", r.text)
        assert r.header("X-QVD-Error") == "not-allowed"
        assert lab.wait_event("session.failed", vm)[3] == \
            r.header("X-QVD-Ref")
        r = c.get(f"/qvd/stop_vm?id={vm}")
        assert r.status == 403
    assert lab.one("SELECT desired FROM vms WHERE id = %s", vm) == "stopped"


def test_connect_from_nothing(lab):
    vm = lab.add_vm(lab.alice, "fresh")
    lab.node.agent(vm).greeting = b"NXPROXY-agent "
    with Client(lab) as c:
        r = c.connect(vm, "&qvd.client.os=linux&qvd.client.geometry=800x600"
                          "&qvd.client.link=adsl&qvd.client.keyboard=pc105/es"
                          "&qvd.client.fullscreen=&custom.colour=blue sky",
                      "User-Agent: QVD/3.1 libcurl")
        assert (r.status, r.reason) == (101, "Switching Protocols")
        assert [n for n, _ in r.headers] == ["X-QVD-Slave-Key"]
        key = r.header("X-QVD-Slave-Key")
        assert re.fullmatch("[A-Za-z0-9]{64}", key)
        texts = [t for i, t in enumerate(c.interims)
                 if not i or t != c.interims[i - 1]]
        assert texts == [
            f"Session acquired for VM_ID: {vm}",
            f"Assigning VM {vm} to host",
            "Starting virtual machine",
            "Waiting for VM to reach state 'running'",
            f"Starting X session at VM {vm}",
            f"Waiting for X session to come up on VM {vm}",
            f"Connecting X session for VM_ID: {vm}",
            "Connection established"]
        c.say(b"NXPROXY-3.5.0 ")
        assert c.hear(28) == b"NXPROXY-agent NXPROXY-3.5.0 "
        assert lab.session(vm) == ("connected", 1)
        body = lab.node.agent(vm).bodies[0]
        assert body["generation"] == 1
        assert body["user"]["name"] == "alice"
        assert body["user"]["uid"] >= 2000
        assert body["display"] == {
            "kind": "nx", "fullscreen": False, "link": "adsl",
            "keyboard": "pc105/es", "geometry": "800x600", "client": "linux"}
        assert body["params"]["custom.colour"] == "blue sky"
        assert body["params"]["qvd.slave.key"] == key
        row = lab.sql("SELECT client, client_address, key_hash FROM sessions "
                      "WHERE vm_id = %s", vm)[0]
        assert row[:2] == ("QVD/3.1 libcurl", "127.0.0.1")
        assert bytes(row[2]) == sha256(key)
    lab.wait_session(vm, "disconnected")
    names = [e[0] for e in lab.events(vm)]
    for name in ("session.connecting", "vm.start-requested", "vm.placed",
                 "session.connected", "session.disconnected"):
        assert name in names


def test_nothing_is_sent_before_the_client_speaks(lab):
    vm = lab.add_vm(lab.alice, "eager", running=True)
    lab.node.agent(vm).early = b"too early"
    with Client(lab) as c:
        assert c.connect(vm).status == 101
        c.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            c.hear(1)
        c.sock.settimeout(20)
        c.say(b"hello")
        assert c.hear(14) == b"too earlyhello"


def test_properties_win_over_the_client(lab):
    vm = lab.add_vm(lab.alice, "props", running=True)
    for kind, number, value in (("tenant", lab.tenant, "isdn"),
                                ("osf", lab.osf, "wan"), ("vm", vm, "lan")):
        lab.sql("INSERT INTO properties VALUES (%s, %s, 'qvd.client.link', "
                "%s)", kind, number, value)
    try:
        with Client(lab) as c:
            assert c.connect(vm, "&qvd.client.link=modem").status == 101
    finally:
        lab.sql("DELETE FROM properties")
    assert lab.node.agent(vm).bodies[0]["display"]["link"] == "lan"


def test_progress_of_the_start_and_of_the_agent(lab):
    vm = lab.add_vm(lab.alice, "steps")
    lab.node.steps = ["checking out image", "mounting"]
    lab.node.agent(vm).interim = [b"Creating home", b"evil\xff " * 100]
    try:
        with Client(lab) as c:
            assert c.connect(vm).status == 101
    finally:
        lab.node.steps = []
    # The steps in between may pass before the broker looks.
    assert "Waiting for VM to reach state 'running'" in c.interims
    assert "Creating home" in c.interims
    assert all(t.isascii() and t.isprintable() and len(t) < 300
               for t in c.interims)


@pytest.mark.parametrize("extra,name", [
    ("&qvd.client.keyboard=pc105/us,option=1", "qvd.client.keyboard"),
    ("&qvd.client.geometry=1x1%20-evil", "qvd.client.geometry"),
    ("&qvd.client.link=" + "a" * 65, "qvd.client.link"),
    ("&qvd.client.nxagent.extra_args=images=1,auth=0",
     "qvd.client.nxagent.extra_args"),
    ("&custom.x=a%0Ab", "custom.x")])
def test_values_that_the_agent_must_not_see(lab, extra, name):
    with Client(lab) as c:
        r = c.connect(lab.desk, extra)
        assert r.status == 503
        assert name in r.text and r.header("X-QVD-Error") == "bad-parameter"


def test_authenticate_and_tokens(lab):
    with Client(lab) as c:
        r = c.get("/qvd/authenticate_user")
        assert (r.status, r.json) == (200, {})
        r = c.get("/qvd/authenticate_user?store_auth=1")
        assert isinstance(r.json["auth_params_id"], int)
        r = c.get("/qvd/create_auth_token")
        assert sorted(r.json) == ["auth_params_id", "auth_token"]
        token = r.json["auth_token"]
        assert token == token.strip()
    row = lab.sql("SELECT multi_use, expires_at - now() > '23h', params FROM "
                  "tokens WHERE hash = %s", sha256(token))[0]
    assert row == (True, True, {"qvd.vm.user.name": "alice"})
    with Client(lab) as one, Client(lab) as two:
        one.auth = two.auth = bearer(token)
        assert one.get("/qvd/list_of_vm").status == 200
        assert two.get("/qvd/list_of_vm").status == 200
        two.auth = bearer(token + "\n")  # as tokens of the original end
        assert two.get("/qvd/list_of_vm").status == 200
        lab.sql("UPDATE tokens SET expires_at = now()")
        assert one.get("/qvd/list_of_vm").status == 401


def add_token(lab, text, **columns):
    lab.sql("INSERT INTO tokens (hash, user_id, vm_id, expires_at) VALUES "
            "(%s, %s, %s, now() + interval '5 min')", sha256(text),
            lab.alice, columns.get("vm"))


def test_single_use_token(lab):
    add_token(lab, "once")
    for _ in range(2):  # list, then connect on a second connection
        with Client(lab) as c:
            c.auth = bearer("once")
            assert c.get("/qvd/list_of_vm").status == 200
    lab.sql("UPDATE tokens SET used_at = now() - interval '61 s' WHERE "
            "hash = %s", sha256("once"))
    with Client(lab) as c:
        c.auth = bearer("once")
        assert c.get("/qvd/list_of_vm").status == 401


def test_token_for_one_vm(lab):
    mine = lab.add_vm(lab.alice, "bound", running=True)
    add_token(lab, "bound", vm=mine)
    with Client(lab) as c:
        c.auth = bearer("bound")
        assert [v["id"] for v in c.get("/qvd/list_of_vm").json] == [mine]
        r = c.connect(lab.desk)
        assert r.status == 503 and "not allowed" in r.text
        assert c.connect(mine).status == 101


def test_extra_auth_headers_are_tolerated(lab):
    name = b"REMOTE_USER".hex()
    with Client(lab) as c:
        for header in (f"Auth-{name}: YWJj", "Auth-zz: YWJj", "Auth-41: !!",
                       "Auth-: x"):
            assert c.get("/qvd/list_of_vm", header).status == 200


def test_stop(lab):
    vm = lab.add_vm(lab.alice, "stopme", running=True)
    with Client(lab) as c:
        r = c.get("/qvd/stop_vm")
        assert (r.status, r.text) == (422, "parameter id is missing")
        assert c.get("/qvd/stop_vm?id=999999").status == 404
        for _ in range(2):  # the second time it is stopped already
            r = c.get(f"/qvd/stop_vm?id={vm}", *UP)
            assert (r.status, r.text) == (200, "Machine stopped\r\n")
    assert lab.one("SELECT state FROM vm_runtimes WHERE vm_id = %s", vm) == \
        "stopped"
    assert "vm.stop-requested" in [e[0] for e in lab.events(vm)]


def test_stop_of_a_zombie(lab):
    vm = lab.add_vm(lab.alice, "undead", running=True)
    lab.sql("UPDATE vm_runtimes SET state = 'zombie' WHERE vm_id = %s", vm)
    with Client(lab) as c:
        r = c.get(f"/qvd/stop_vm?id={vm}")
        assert (r.status, r.text) == (503, "The requested virtual machine is "
                                      "in an unstoppable state (zombie)")
        r = c.connect(vm)
        assert r.status == 503 and r.header("X-QVD-Error") == "unavailable"


def test_spaces_in_the_url(lab):
    vm = lab.add_vm(lab.alice, "spaces", running=True)
    with Client(lab) as c:
        assert c.connect(vm, "&custom.file=my report.odt").status == 101
    assert lab.node.agent(vm).bodies[0]["params"]["custom.file"] == \
        "my report.odt"


def test_json_is_escaped(lab):
    with Client(lab) as c:
        r = c.get("/qvd/list_of_vm")
    assert r.body.isascii() and json.loads(r.body)


def test_a_lot_of_bytes_both_ways(lab):
    vm = lab.add_vm(lab.alice, "bulk", running=True)
    with Client(lab) as c:
        assert c.connect(vm).status == 101
        block = bytes(range(256)) * 256
        got = 0
        for _ in range(160):
            c.say(block)
            got += len(c.hear(len(block)))
        assert got == 160 * len(block)
    event = lab.wait_event("session.disconnected", vm)
    assert f"{got} bytes up, {got} down" in event[1]


def test_settings_are_followed(lab):
    """What `qvd config` sets takes effect without a restart."""
    def status(login):
        with Client(lab, login) as c:
            return c.get("/qvd/list_of_vm").status
    assert status("alice@default") == 200
    assert status("alice%default") == 401
    lab.sql("INSERT INTO configs (key, value) VALUES "
            "('l7r.auth.separators', '%%'), ('l7r.timeout.start', '1s')")
    try:
        eventually(lambda: status("alice%default") == 200)
        assert status("alice@default") == 401
        vm = lab.add_vm(lab.alice, "slow")
        lab.node.paused = True
        with Client(lab) as c:
            r = c.connect(vm)
        assert r.status == 503 and "Timeout" in r.text, r.text
    finally:
        lab.node.paused = False
        lab.sql("DELETE FROM configs")
    eventually(lambda: status("alice@default") == 200)
