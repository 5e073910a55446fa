/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/egress.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define X(name, word) [EGRESS_PROTOCOL_##name] = word,
ENUM_DEFINE(egress_protocol, EGRESS_PROTOCOL_TABLE(X));
#undef X

#define WORD_MAX 64
#define SPACES   " \t"
#define ENDS     ",\n\r"

/* The next word of the rule, "" at its end. False if it is too long. */
static bool
next_word(const char **p, char ret[static WORD_MAX])
{
	size_t n;

	*p += strspn(*p, SPACES);
	n = strcspn(*p, SPACES ENDS);
	if (n >= WORD_MAX)
		return false;
	memcpy(ret, *p, n);
	ret[n] = '\0';
	*p += n;
	return true;
}

/* Clears the bits after the prefix; false if one of them was set. */
static bool
mask_address(unsigned char *address, int bytes, int prefix)
{
	bool clean = true;
	int i;

	for (i = 0; i < bytes; i++) {
		int bits = prefix - 8 * i;
		unsigned char mask = bits >= 8 ? 0xff
				     : bits <= 0
					 ? 0
					 : (unsigned char)(0xff00 >> bits);

		clean = clean && (address[i] & ~mask) == 0;
		address[i] &= mask;
	}
	return clean;
}

static int
parse_net(const char *word, struct egress_rule *rule, struct err *err)
{
	unsigned char address[16];
	char text[WORD_MAX], canonical[INET6_ADDRSTRLEN];
	char *slash;
	bool v6 = strchr(word, ':') != NULL;
	int family = v6 ? AF_INET6 : AF_INET, max = v6 ? 128 : 32;
	int prefix = max;
	bool clean;

	str_copy(text, sizeof(text), word);
	if ((slash = strchr(text, '/')) != NULL)
		*slash = '\0';
	if (inet_pton(family, text, address) != 1 ||
	    (slash != NULL && !str_to_int(slash + 1, 0, max, &prefix)))
		return err_set(err, ERR_PARAMETER,
		    "'%s' is neither 'any', 'private', an address nor a "
		    "prefix like 10.1.0.0/16",
		    word);
	clean = mask_address(address, max / 8, prefix);
	inet_ntop(family, address, canonical, sizeof(canonical));
	if (!clean)
		return err_set(err, ERR_PARAMETER,
		    "'%s' has bits beyond its prefix; %s/%d is meant, or a "
		    "longer prefix",
		    word, canonical, prefix);
	rule->target = v6 ? EGRESS_TARGET_NET6 : EGRESS_TARGET_NET4;
	snprintf(rule->net, sizeof(rule->net), "%s/%d", canonical, prefix);
	return 0;
}

static int
parse_target(const char *word, struct egress_rule *rule, struct err *err)
{
	if (word[0] == '\0')
		return err_set(err, ERR_PARAMETER,
		    "it names no target: 'any', 'private', an address or a "
		    "prefix");
	if (str_eq(word, "any"))
		rule->target = EGRESS_TARGET_ANY;
	else if (str_eq(word, "private"))
		rule->target = EGRESS_TARGET_PRIVATE;
	else
		return parse_net(word, rule, err);
	return 0;
}

/* "tcp", "udp/53", "tcp/8000-8080" */
static int
parse_service(char *word, struct egress_rule *rule, struct err *err)
{
	char *slash = strchr(word, '/'), *dash = NULL;
	int first = 0, last = 0;
	bool ok;

	if (slash != NULL) {
		*slash = '\0';
		dash = strchr(slash + 1, '-');
	}
	if (dash != NULL)
		*dash = '\0';
	ok = egress_protocol_from_str(word, &rule->protocol) &&
	     rule->protocol != EGRESS_PROTOCOL_ANY &&
	     (slash == NULL || rule->protocol != EGRESS_PROTOCOL_ICMP);
	if (ok && slash != NULL) {
		ok = str_to_int(slash + 1, 1, 65535, &first);
		last = first;
	}
	if (ok && dash != NULL)
		ok = str_to_int(dash + 1, first, 65535, &last);
	if (!ok)
		return err_set(err, ERR_PARAMETER,
		    "services are tcp, udp or icmp, with ports like tcp/443 "
		    "or udp/5000-5100");
	rule->first = (uint16_t)first;
	rule->last = (uint16_t)last;
	return 0;
}

static int
add_rule(struct egress *egress, const struct egress_rule *rule, struct err *err)
{
	if (egress->n == EGRESS_RULES_MAX)
		return err_set(err, ERR_PARAMETER,
		    "there are more than %d rules", EGRESS_RULES_MAX);
	egress->rules[egress->n++] = *rule;
	return 0;
}

/* One rule, up to its end; each of its services becomes one of its own. */
static int
parse_rule(const char **p, struct egress *egress, struct err *err)
{
	struct egress_rule rule = { 0 };
	char word[WORD_MAX];
	int r, words = 0;

	if (!next_word(p, word))
		word[0] = '\0';
	rule.allow = str_eq(word, "allow");
	if (!rule.allow && !str_eq(word, "deny"))
		return err_set(
		    err, ERR_PARAMETER, "it must begin with 'allow' or 'deny'");
	for (;;) {
		if (!next_word(p, word))
			return err_set(
			    err, ERR_PARAMETER, "it has a word too long");
		if (word[0] == '\0' && words > 0)
			break;
		r = words == 0 ? parse_target(word, &rule, err)
			       : parse_service(word, &rule, err);
		if (r == 0 && words > 0)
			r = add_rule(egress, &rule, err);
		if (r < 0)
			return r;
		words++;
	}
	return words == 1 ? add_rule(egress, &rule, err) : 0;
}

int
egress_parse(const char *text, struct egress *ret, struct err *err)
{
	struct egress egress = { .n = 0 };
	const char *p = text;
	int r, number = 0;

	for (;;) {
		p += strspn(p, SPACES ENDS);
		if (*p == '\0')
			break;
		number++;
		if ((r = parse_rule(&p, &egress, err)) < 0)
			return err_wrap(
			    err, r, "egress policy, rule %d", number);
	}
	if (number == 0)
		return err_set(err, ERR_PARAMETER,
		    "egress policy: it has no rule; '%s' is usual, 'deny any' "
		    "forbids everything",
		    EGRESS_DEFAULT);
	*ret = egress;
	return 0;
}

int
egress_check(const char *text, struct err *err)
{
	struct egress egress;

	return text[0] == '\0' ? 0 : egress_parse(text, &egress, err);
}
