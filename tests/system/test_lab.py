# SPDX-License-Identifier: GPL-3.0-or-later
"""The laboratory itself: a test that passes for the wrong reason is worse
than none."""

import pytest
from qvdlab import Display, eventually, image, need, run


def test_eventually_gives_up():
    with pytest.raises(AssertionError, match="not within 0 s: the moon"):
        eventually(lambda: False, 0, "the moon")

    def asserts():
        assert 1 == 2, "one is two"
    with pytest.raises(AssertionError, match="one is two"):
        eventually(asserts, 0)


def test_a_screen_shows_what_is_typed(tmp_path):
    need("Xvfb", "xdotool", "import", "xterm")
    with Display(size="640x400") as screen:
        assert screen.colors() == 1
        screen.do("bash", "-c", f"xterm -e 'read a; echo $a >{tmp_path}/out'"
                  " </dev/null >/dev/null 2>&1 &")
        window = screen.wait_window()
        screen.do("xdotool", "windowfocus", "--sync", window)
        screen.type("hello")
        screen.key("Return")
        eventually(lambda: (tmp_path / "out").exists() and
                   (tmp_path / "out").read_text() == "hello\n")


def test_images_are_built_once():
    need("root")
    first = image("busybox")
    before = first.stat().st_mtime_ns
    image.cache_clear()
    assert image("busybox") == first
    assert first.stat().st_mtime_ns == before
    names = run("tar", "tf", first).splitlines()
    assert "./bin/sh" in names and "./dev/" in names
