# SPDX-License-Identifier: GPL-3.0-or-later
"""Which folder of src/ may include which: the exact table.

A folder may always include itself. Programs never include each other; what
two of them need goes into a library.
"""

LIBRARIES = {
    "base": (),
    "json": ("base",),
    "loop": ("base", "json"),
    "net": ("base", "json", "loop"),
    "db": ("base", "json", "loop", "net"),
    "model": ("base",),
    "image": ("base", "json"),
    "auth": ("base", "json", "model"),
    "storage": ("base", "json", "model"),
    "confine": ("base", "json", "model"),
    "hypervisor": ("base", "json", "model", "storage", "confine"),
}

_ALL = tuple(LIBRARIES)
# What runs at the user's or inside a desktop has no database.
_NO_DATABASE = tuple(f for f in _ALL if f != "db")

PROGRAMS = {
    "l7r": _ALL,
    "hkd": _ALL,
    "api": _ALL,
    "cli": _ALL,
    "sim": _ALL,
    "boot": (),
    "vma": _NO_DATABASE,
    "client": _NO_DATABASE,
}

ALLOWED = {**LIBRARIES, **PROGRAMS}

# System headers that a folder must not use. model: no descriptor, no SQL, no
# clock of its own, so that every rule of the farm is tested in microseconds.
FORBIDDEN_SYSTEM = {
    "model": ("fcntl.h", "sys/socket.h", "libpq-fe.h", "uv.h", "time.h",
              "sys/time.h", "jansson.h"),
    "vma": ("libpq-fe.h",),
    "client": ("libpq-fe.h",),
}

# Libraries that only one folder knows; the others use its interface.
ONLY_IN = {
    "uv.h": ("loop",),
    "libpq-fe.h": ("db",),
    "ini.h": ("base",),
    # The client is a blocking library without our loop, so without net/.
    "llhttp.h": ("net", "client"),
    "wslay/wslay.h": ("net",),
    "lxc/lxccontainer.h": ("hypervisor",),
    "ostree.h": ("image",),
    "zstd.h": ("image",),
    "nftables/libnftables.h": ("confine",),
}
