# SPDX-License-Identifier: GPL-3.0-or-later
# The front door: every target is a script in tools/ that can be read and run
# by itself. `make demo` and `make check` are all that a newcomer needs.
TARGETS = all build check check-long demo demo-stop bench fuzz format install clean
.PHONY: $(TARGETS)
all: build
build check check-long demo demo-stop bench fuzz format install clean:
	@tools/$@
