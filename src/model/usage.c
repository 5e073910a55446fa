/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/usage.h"

#define X(name, word) [USAGE_##name] = word,
ENUM_DEFINE(usage, USAGE_TABLE(X));
#undef X
