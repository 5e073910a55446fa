# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting old versions back: each time to an older one, never to one that was
taken back, and a sentence when nothing good is left."""

import pytest
from qvdlab import Farm, need


@pytest.fixture(scope="module")
def farm():
    need("root")
    with Farm() as farm:
        yield farm


@pytest.fixture
def versions(farm, tmp_path):
    """An OSF with the versions 1 to 4, which its tag has named in turn."""
    osf = "o" + tmp_path.name[-20:].strip("_-").replace("_", "")
    farm.add_osf(osf)
    for i in range(1, 5):
        tree = tmp_path / str(i)
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/version").write_text(str(i))
        farm.qvd("image", "import", tree, "--osf", osf, "--version", str(i),
                 "--tag", "default")
    assert current(farm, osf) == "4"
    return osf


def current(farm, osf):
    return farm.qvd("image", "show", f"{osf}:default", json=True)["version"]


def back(farm, osf):
    farm.qvd("image", "rollback", osf)
    return current(farm, osf)


def refused(farm, *args):
    done = farm.qvd("image", "rollback", *args, check=False)
    assert done.status == 16, done.err
    return done.err


def test_again_and_again(farm, versions):
    assert [back(farm, versions) for _ in range(3)] == ["3", "2", "1"]
    said = refused(farm, versions)
    assert "nothing good is left to go back to" in said
    assert f"'{versions}' named no version before 1" in said
    assert current(farm, versions) == "1"


def test_what_was_taken_back_stays_away(farm, versions):
    assert back(farm, versions) == "3"
    # Moved by hand, and taken back: not to 4, which nobody wants.
    farm.qvd("image", "tag", f"{versions}/1", "default")
    assert back(farm, versions) == "3"
    assert back(farm, versions) == "2"
    # There and back by hand: the way back has each version once.
    for version in ("3", "2", "3"):
        farm.qvd("image", "tag", f"{versions}/{version}", "default")
    assert back(farm, versions) == "2"
    assert "named no version before 2" in refused(farm, versions)


def test_what_is_no_good_is_passed_over(farm, versions):
    farm.qvd("image", "block", f"{versions}/3")
    farm.qvd("image", "del", f"{versions}/2")
    assert back(farm, versions) == "1"
    farm.qvd("image", "tag", f"{versions}/4", "default")
    farm.qvd("image", "retire", f"{versions}/1")
    said = refused(farm, versions)
    assert "nothing good is left" in said and "version 1 is retired" in said
    farm.qvd("image", "publish", f"{versions}/1")
    farm.qvd("image", "block", f"{versions}/1")
    assert "version 1 is blocked" in refused(farm, versions)
    farm.qvd("image", "unblock", f"{versions}/1")
    assert back(farm, versions) == "1"


def test_where_it_goes_is_kept(farm, versions):
    farm.qvd("osf", "set", versions, "--keep", "0")
    farm.qvd("image", "gc")
    assert sorted(v for v, in farm.sql(
        "SELECT version FROM images i JOIN osfs o ON o.id = i.osf_id "
        "WHERE o.name = %s", versions)) == ["3", "4"]
    assert back(farm, versions) == "3"
    assert "nothing good is left" in refused(farm, versions)


def test_head_goes_its_own_way(farm, versions):
    assert "'head' moves by itself" in refused(farm, versions, "--tag",
                                               "head")
