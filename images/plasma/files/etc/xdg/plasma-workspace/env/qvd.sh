# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by startplasma. The display server has no OpenGL, and shadows and
# fading windows would only cost bytes on the way to the client.
export QT_QUICK_BACKEND=software QT_XCB_GL_INTEGRATION=none KWIN_COMPOSE=N
