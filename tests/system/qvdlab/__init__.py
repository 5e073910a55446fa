# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory for system tests: real farms, each in a box of its own.

A Farm is `qvd up` with a private data and run directory, network namespace
and cgroup, so that many can run at once on one machine. Nothing here sleeps
for readiness: it waits for a byte on --ready-fd, for NOTIFY, or for the end
of a process; what has no event is looked at by eventually().
"""

from .build import BUILD, TOP, image, programs
from .desk import Desk
from .display import Display
from .farm import Failed, Farm, Result
from .util import eventually, need, run

__all__ = ["BUILD", "TOP", "Desk", "Display", "Failed", "Farm", "Result",
           "eventually", "image", "need", "programs", "run"]
