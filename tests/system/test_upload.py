# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that are sent to the API's node: in pieces that go on where they
were, compared as a whole, gone when nobody needs them."""

import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import tarfile

import pytest
from qvdlab import Farm, eventually, need
from qvdlab.farm import Failed

PIECE = 1024 * 1024


@pytest.fixture(scope="module")
def module_farm():
    need("root")
    with Farm() as farm:
        farm.add_osf("o")
        yield farm


@pytest.fixture
def farm(module_farm):
    yield module_farm
    for upload in module_farm.qvd("upload", "list", json=True):
        module_farm.qvd("upload", "del", upload["id"])
    eventually(lambda: files(module_farm) == [])


def files(farm):
    return sorted(p.name for p in (farm.data / "uploads").iterdir())


def make_archive(path, mb=3, name="home.bin"):
    """A system with one file that doesn't become smaller."""
    (path / "root").mkdir(exist_ok=True)
    (path / "root" / name).write_bytes(os.urandom(mb * PIECE + 17))
    with tarfile.open(path / "system.tar", "w") as tar:
        tar.add(path / "root", ".")
    return path / "system.tar"


def make_large(path, mb=256):
    file = path / "large.raw"
    with file.open("wb") as f:
        f.truncate(mb * PIECE - 5)
        f.write(os.urandom(64))
    return file


def sum_of(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def ask(farm, method, path, body=b"", kind="application/json"):
    """(status, JSON) of the API."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(str(farm.run / "api.sock"))
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: qvd\r\n"
                  f"Content-Type: {kind}\r\nConnection: close\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n".encode())
        try:
            s.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused by its head
        answer = b""
        while part := s.recv(65536):
            answer += part
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


def begin(farm, file, **other):
    status, upload = ask(farm, "POST", "/v1/uploads", {
        "name": file.name, "size_bytes": file.stat().st_size,
        "sha256": sum_of(file), **other})
    assert status == 200, upload
    return upload


def put(farm, upload, offset, data):
    return ask(farm, "PUT", f"/v1/uploads/{upload['id']}/data?offset={offset}",
               data, "application/octet-stream")


def refused(farm, *args):
    with pytest.raises(Failed) as caught:
        farm.qvd(*args)
    return caught.value.result.err


def test_a_sent_file_becomes_a_version(farm, tmp_path):
    archive = make_archive(tmp_path)
    done = farm.qvd("image", "import", archive, "--osf", "o", "--upload",
                    "--version", "sent")
    assert "reading system.tar" in done.err and "sending system.tar" in done.err
    shown = farm.qvd("image", "show", "o/sent", json=True)
    assert shown["state"] == "published" and shown["author"] == "root"
    assert shown["source"].endswith("-system.tar")
    tree = farm.data / "images/trees" / shown["checksum"]
    assert sum_of(tree / "home.bin") == sum_of(tmp_path / "root/home.bin")
    eventually(lambda: files(farm) == [])
    assert farm.qvd("upload", "list", json=True) == []


def test_it_goes_on_where_it_was(farm, tmp_path):
    """What has arrived isn't sent again, and is compared all the same: its
    first byte is made another on the node."""
    archive = make_archive(tmp_path)
    upload = begin(farm, archive)
    status, upload = put(farm, upload, 0, archive.read_bytes()[:PIECE])
    assert status == 200 and upload["arrived_bytes"] == PIECE
    stored = farm.data / "uploads" / f"{upload['id']}-system.tar"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert stored.stat().st_blocks * 512 >= archive.stat().st_size
    with stored.open("r+b") as f:
        f.write(bytes([archive.read_bytes()[0] ^ 1]))

    farm.qvd("upload", "add", archive)
    [listed] = farm.qvd("upload", "list", json=True)
    assert listed["id"] == upload["id"] and listed["progress"] == 100
    assert stored.read_bytes()[1:] == archive.read_bytes()[1:]
    said = refused(farm, "image", "import", archive, "--osf", "o", "--upload")
    assert "is not what was to be sent: its SHA-256 begins with" in said
    assert "send it again" in said
    # So it can only be sent anew.
    eventually(lambda: files(farm) == [])
    farm.qvd("image", "import", archive, "--osf", "o", "--upload")


def start_sending(farm, file):
    """`qvd upload add`, of which something has arrived."""
    sending = subprocess.Popen(
        [farm.programs / "qvd", "upload", "add", file], env=farm.env,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: farm.one("SELECT arrived_bytes > 0 FROM uploads"), 60)
    return sending


def test_ctrl_c_leaves_what_has_arrived(farm, tmp_path):
    large = make_large(tmp_path)
    sending = start_sending(farm, large)
    [api] = farm.pids("qvd-api")
    os.kill(api, signal.SIGSTOP)
    try:
        sending.send_signal(signal.SIGINT)
        _, said = sending.communicate(timeout=60)
    finally:
        os.kill(api, signal.SIGCONT)
    assert sending.returncode == 130
    assert "the same command goes on from there" in said
    [half] = farm.qvd("upload", "list", json=True)
    assert 0 < half["arrived_bytes"] < half["size_bytes"]
    assert farm.qvd("upload", "add", large, json=True)["id"] == half["id"]
    stored = farm.data / "uploads" / f"{half['id']}-large.raw"
    assert sum_of(stored) == sum_of(large)


def test_it_waits_for_an_api_that_ends(farm, tmp_path):
    large = make_large(tmp_path)
    sending = start_sending(farm, large)
    farm.kill("qvd-api")
    out, said = sending.communicate(timeout=120)
    assert sending.returncode == 0, said
    assert "waiting for the API to go on with large.raw" in said
    assert out.startswith("upload ") and out.endswith(" large.raw\n")
    [stored] = (farm.data / "uploads").iterdir()
    assert sum_of(stored) == sum_of(large)


def test_pieces_that_cannot_be(farm, tmp_path):
    archive = make_archive(tmp_path)
    size = archive.stat().st_size
    upload = begin(farm, archive)
    path = f"/v1/uploads/{upload['id']}/data"
    raw = "application/octet-stream"

    def fails(status, part, answer):
        assert answer[0] == status, answer
        assert part in answer[1]["error"]["message"], answer

    fails(409, "0 bytes have arrived; the next piece begins there",
          put(farm, upload, 5, b"x"))
    assert put(farm, upload, 0, b"x" * PIECE)[0] == 200
    fails(409, f"{PIECE} bytes have arrived", put(farm, upload, 0, b"x"))
    fails(422, "offset", ask(farm, "PUT", path, b"x", raw))
    fails(422, "offset", ask(farm, "PUT", path + "?offset=-1", b"x", raw))
    fails(422, "1 to 1048576 bytes",
          ask(farm, "PUT", path + f"?offset={PIECE}", b"", raw))
    assert put(farm, upload, PIECE, b"x" * (PIECE + 1))[0] == 413
    fails(404, "there is no upload 4711",
          put(farm, {"id": 4711}, 0, b"x"))
    for offset in range(PIECE, size - PIECE, PIECE):
        assert put(farm, upload, offset, b"x" * PIECE)[0] == 200
    fails(422, f"has only {size} bytes",
          put(farm, upload, size - size % PIECE, b"x" * PIECE))
    fails(409, "is not whole: ", ask(farm, "POST", "/v1/images", {
        "osf_id": farm.one("SELECT id FROM osfs"), "upload_id": upload["id"]}))
    fails(404, "there is no upload 4711", ask(farm, "POST", "/v1/images", {
        "osf_id": farm.one("SELECT id FROM osfs"), "upload_id": 4711}))
    fails(422, "either source", ask(farm, "POST", "/v1/images", {
        "osf_id": farm.one("SELECT id FROM osfs"), "upload_id": upload["id"],
        "source": "/x"}))


@pytest.mark.parametrize("wrong, part", [
    ({"sha256": "ab"}, "64 of 0-9 and a-f"),
    ({"sha256": "G" * 64}, "64 of 0-9 and a-f"),
    ({"name": "../x"}, "name"),
    ({"name": ""}, "name"),
    ({"size_bytes": 0}, "size_bytes"),
    ({"size_bytes": 1 << 41}, "size_bytes"),
])
def test_uploads_that_cannot_be(farm, wrong, part):
    status, answer = ask(farm, "POST", "/v1/uploads", {
        "name": "x.tar", "size_bytes": 5, "sha256": "a" * 64, **wrong})
    assert status == 422 and part in answer["error"]["message"], answer
    assert files(farm) == []


def test_a_disk_without_room_says_so_before(farm):
    free = os.statvfs(farm.data)
    if free.f_bavail * free.f_frsize >= 1 << 40:
        pytest.fail("this disk has room for all that can be asked")
    status, answer = ask(farm, "POST", "/v1/uploads", {
        "name": "x.tar", "size_bytes": 1 << 40, "sha256": "a" * 64})
    assert status == 507 and answer["error"]["id"] == "no-space", answer
    assert "take room for 1099511 MB" in answer["error"]["message"]
    assert farm.qvd("upload", "list", json=True) == []
    eventually(lambda: files(farm) == [])


def test_sources_that_are_no_files(farm, tmp_path):
    (tmp_path / "empty").touch()
    assert "is a folder; pack it into an archive first" in \
        refused(farm, "upload", "add", tmp_path)
    assert "no file, or an empty one" in \
        refused(farm, "upload", "add", tmp_path / "empty")
    assert "No such file" in refused(farm, "upload", "add", tmp_path / "none")


def test_names_are_made_fit(farm, tmp_path):
    strange = tmp_path / ".my desk (ä)-2.tar.zst"
    strange.write_bytes(b"x" * 10)
    farm.qvd("upload", "add", strange)
    [upload] = farm.qvd("upload", "list", json=True)
    assert upload["name"] == "_my_desk_____-2.tar.zst"
    assert files(farm) == [f"{upload['id']}-{upload['name']}"]


def test_only_root_may_send(farm, tmp_path):
    code = ("import os, subprocess, sys; os.setgroups([]); os.setgid(65534); "
            "os.setuid(65534); os.execv(sys.argv[1], sys.argv[1:])")
    file = pathlib.Path(tmp_path) / "f"
    file.write_bytes(b"x")
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, "/usr/bin/curl", "-s",
         "--unix-socket", farm.run / "api.sock", "-X", "PUT",
         "--data-binary", "x", "http://qvd/v1/uploads/1/data?offset=0"],
        text=True, stdout=subprocess.PIPE, check=True)
    assert "only root may administer" in done.stdout


def make_row(farm, upload, state, error=None):
    return farm.one(
        "INSERT INTO images (osf_id, version, source, state, upload_id, "
        "error_id) SELECT id, %s, '/x', %s, %s, %s FROM osfs RETURNING id",
        f"v{upload['id']}-{state}-{error}", state, upload["id"], error)


def test_what_is_imported_stays(farm, tmp_path):
    archive = make_archive(tmp_path, mb=1)
    farm.qvd("upload", "add", archive)
    [upload] = farm.qvd("upload", "list", json=True)
    farm.sql("UPDATE uploads SET touched_at = now() - interval '8 days' "
             "RETURNING id")
    image = make_row(farm, upload, "importing")
    assert f"upload {upload['id']} is in use: image {image} (o/v" in \
        refused(farm, "upload", "del", upload["id"])
    assert len(files(farm)) == 1
    # What was cancelled may be tried again, but not for ever.
    farm.sql("UPDATE uploads SET touched_at = now() RETURNING id")
    farm.sql("UPDATE images SET state = 'failed', error_id = 'cancelled' "
             "WHERE id = %s RETURNING id", image)
    second = make_row(farm, upload, "failed", "no-space")
    farm.qvd("image", "del", second)
    assert len(files(farm)) == 1
    farm.sql("UPDATE uploads SET touched_at = now() - interval '8 days' "
             "RETURNING id")
    farm.qvd("image", "del", image)
    eventually(lambda: files(farm) == [])
    assert farm.qvd("upload", "list", json=True) == []


def test_files_of_nobody_are_swept(farm):
    stray = farm.data / "uploads" / "4711-x.tar"
    stray.write_bytes(b"x")
    other = farm.data / "uploads" / "README"
    other.write_bytes(b"x")
    farm.kill("qvd-api")
    eventually(lambda: files(farm) == ["README"], 30)
    other.unlink()


def test_what_a_crash_lost_is_sent_again(farm, tmp_path):
    archive = make_archive(tmp_path)
    upload = begin(farm, archive)
    put(farm, upload, 0, archive.read_bytes()[:PIECE])
    stored = farm.data / "uploads" / f"{upload['id']}-system.tar"
    os.truncate(stored, 1000)
    assert begin(farm, archive)["arrived_bytes"] == 1000
    stored.unlink()
    assert begin(farm, archive)["arrived_bytes"] == 0
    farm.qvd("image", "import", archive, "--osf", "o", "--upload")
