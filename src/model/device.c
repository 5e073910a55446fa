/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/device.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define X(name, word, path, major, minor, count) [DEVICE_##name] = word,
ENUM_DEFINE(device, DEVICE_TABLE(X));
#undef X

#define X(name, word, path, major, minor, count) \
	[DEVICE_##name] = { path, major, minor, count },
const struct device_kind device_kinds[] = { DEVICE_TABLE(X) };
#undef X

#define WORD_MAX 32
#define SPACES   " ,"

int
device_parse(const char *text, unsigned *ret, struct err *err)
{
	unsigned found = 0;
	const char *p = text;
	size_t n;

	for (p += strspn(p, SPACES); *p != '\0'; p += strspn(p, SPACES)) {
		char word[WORD_MAX], shown[WORD_MAX * 4];
		enum device device;

		n = strcspn(p, SPACES);
		snprintf(word, sizeof(word), "%.*s",
		    n < sizeof(word) ? (int)n : (int)sizeof(word), p);
		if (n >= sizeof(word) || !device_from_str(word, &device))
			return err_set(err, ERR_PARAMETER,
			    "devices: there is no '%s' to give to a desktop; "
			    "there are kvm, tun and render",
			    str_escape(
				shown, sizeof(shown), word, strlen(word)));
		found |= 1U << device;
		p += n;
	}
	*ret = found;
	return 0;
}

int
device_check(const char *text, struct err *err)
{
	unsigned devices;

	return device_parse(text, &devices, err);
}
