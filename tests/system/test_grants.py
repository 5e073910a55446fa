# SPDX-License-Identifier: GPL-3.0-or-later
"""What each daemon's role may do in the database, and what not; how versions
are compared; whom an import's progress wakes."""

import psycopg
import pytest
from qvdlab import Farm, need

ROUTER_MAY_NOT = [
    "SELECT * FROM images", "SELECT source FROM images",
    "SELECT * FROM image_tags", "SELECT * FROM image_nodes",
    "SELECT * FROM image_users", "SELECT * FROM image_surplus",
    "SELECT * FROM image_tag_past", "SELECT * FROM rollouts",
    "SELECT * FROM uploads",
    "SELECT * FROM tokens", "SELECT params FROM tokens",
    "UPDATE tokens SET user_id = 1", "UPDATE sessions SET vm_id = 1",
    "UPDATE images SET state = 'published'", "UPDATE vms SET tag = 'x'",
    "UPDATE users SET password_hash = 'x'", "DELETE FROM events",
    "SELECT * FROM events", "SELECT * FROM audit",
    "UPDATE configs SET value = 'x'",
]
ROUTER_MAY = [
    "SELECT vm_image(1)", "SELECT * FROM rollout_members",
    "SELECT hash, used_at FROM tokens", "UPDATE tokens SET used_at = now()",
    "DELETE FROM tokens WHERE expires_at < now()", "SELECT * FROM sessions",
]


@pytest.fixture(scope="module")
def farm():
    need("root")
    with Farm() as farm:
        farm.add_osf("o")
        yield farm


def connect(farm, role):
    return psycopg.connect(host=str(farm.run / "pg"), dbname="qvd", user=role,
                           options="-c search_path=qvd", autocommit=True)


def test_the_router_reads_no_more_than_it_needs(farm):
    with connect(farm, "qvd_l7r") as db:
        for query in ROUTER_MAY_NOT:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(query)
        for query in ROUTER_MAY:
            db.execute(query)


def add_image(farm, version):
    return farm.one(
        "INSERT INTO images (osf_id, version, source, state) SELECT id, %s, "
        "'/x', 'failed' FROM osfs WHERE name = 'o' RETURNING id", version)


def happen(farm, image, name, ms, crowded=False):
    farm.sql("INSERT INTO events (name, text, image_id, duration_ms, crowded) "
             "VALUES (%s, '', %s, %s, %s) RETURNING id",
             name, image, ms, crowded)


def test_starts_in_a_crowd_say_nothing_of_time(farm):
    image = add_image(farm, "crowd")
    for i in range(10):
        happen(farm, image, "vm.running", 60000 + i, crowded=True)
    for i in range(3):
        happen(farm, image, "vm.running", 1000 + i)
    happen(farm, image, "vm.start-failed", 5, crowded=True)
    (starts, failed, ms), = farm.sql(
        "SELECT starts, start_failures, start_ms FROM image_figures(%s, 0)",
        image)
    assert (starts, failed, sorted(ms)) == (14, 1, [1000, 1001, 1002])


def test_progress_wakes_only_who_waits_for_it(farm):
    image = add_image(farm, "progress")
    with connect(farm, "qvd_owner") as db:
        db.execute("LISTEN qvd_images")
        db.execute("LISTEN qvd_image_progress")

        found = []
        db.add_notify_handler(lambda n: found.append(n.channel))

        def heard(changes):
            db.execute(f"UPDATE images SET {changes} WHERE id = %s", (image,))
            db.execute("SELECT 1")  # they come with the next answer at latest
            return [found.pop() for _ in list(found)]
        assert heard("progress = 1") == ["qvd_image_progress"]
        assert heard("progress = 2, state = state") == ["qvd_image_progress"]
        assert heard("state = 'importing', progress = 3") == ["qvd_images"]
        assert heard("state = 'failed'") == ["qvd_images"]
