/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/apparmor.h"

#include <string.h>

#include "base/str.h"

#define X(name, word) [APPARMOR_##name] = word,
ENUM_DEFINE(apparmor, APPARMOR_TABLE(X));
#undef X

enum apparmor
apparmor_judge(const char *enabled, const char *profiles)
{
	const char *line = profiles;

	if (enabled == NULL || enabled[0] != 'Y')
		return APPARMOR_OFF;
	/* "name (mode)" a line. */
	while (line != NULL) {
		if (str_starts(line, APPARMOR_PROFILE " ("))
			return APPARMOR_ON;
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return APPARMOR_NOT_LOADED;
}

const char *
apparmor_says(enum apparmor apparmor)
{
	/* Containers hold without it, too; who counts on it must be told. */
	static const char *const says[] = {
		[APPARMOR_OFF] = "",
		[APPARMOR_NOT_LOADED] =
		    "; the kernel has AppArmor, but containers start without "
		    "it, because its profile " APPARMOR_PROFILE
		    " isn't loaded: 'apparmor_parser --replace "
		    "/etc/apparmor.d/" APPARMOR_PROFILE "'",
		[APPARMOR_ON] = "; containers start in AppArmor's "
				"profile " APPARMOR_PROFILE,
	};

	return says[apparmor];
}
