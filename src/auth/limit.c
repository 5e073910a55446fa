/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/limit.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define SETS 4096 /* a power of two */
#define WAYS 8
#define SEED 32

struct entry {
	uint64_t key; /* 0: free */
	int64_t last_ms;
	uint16_t failures;
	uint16_t pending;
};

struct auth_limit {
	char seed[SEED + 1];
	struct entry sets[SETS][WAYS];
};

struct auth_limit *
auth_limit_new(void)
{
	struct auth_limit *limit = new0(struct auth_limit);

	str_random(limit->seed, SEED);
	return limit;
}

void
auth_limit_free(struct auth_limit *limit)
{
	free(limit);
}

/* Seeded, so that nobody can choose a login that slows another one down. */
static uint64_t
key_of(const struct auth_limit *limit, const char *login, const char *address)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint64_t key;

	if (md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestUpdate(md, limit->seed, SEED) != 1 ||
	    EVP_DigestUpdate(md, login, strlen(login) + 1) != 1 ||
	    EVP_DigestUpdate(md, address, strlen(address)) != 1 ||
	    EVP_DigestFinal_ex(md, digest, NULL) != 1)
		abort();
	EVP_MD_CTX_free(md);
	memcpy(&key, digest, sizeof(key));
	return key | 1;
}

static bool
forgotten(const struct entry *e, int64_t now_ms)
{
	return e->pending == 0 && now_ms - e->last_ms > AUTH_LIMIT_FORGET_MS;
}

static struct entry *
find(struct auth_limit *limit, uint64_t key)
{
	struct entry *set = limit->sets[(key >> 8) & (SETS - 1)];
	int i;

	for (i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return &set[i];
	return NULL;
}

/* A free place, else the oldest of those that are not under way, else NULL
 * (then this attempt is not counted). */
static struct entry *
claim(struct auth_limit *limit, uint64_t key, int64_t now_ms)
{
	struct entry *set = limit->sets[(key >> 8) & (SETS - 1)];
	struct entry *oldest = NULL;
	int i;

	for (i = 0; i < WAYS; i++) {
		if (set[i].pending > 0)
			continue;
		if (set[i].key == 0 || forgotten(&set[i], now_ms)) {
			oldest = &set[i];
			break;
		}
		if (oldest == NULL || set[i].last_ms < oldest->last_ms)
			oldest = &set[i];
	}
	if (oldest != NULL)
		*oldest = (struct entry){ .key = key, .last_ms = now_ms };
	return oldest;
}

static int64_t
delay_ms(int failures)
{
	int64_t ms = AUTH_LIMIT_FIRST_MS;

	if (failures <= AUTH_LIMIT_FREE)
		return 0;
	for (failures -= AUTH_LIMIT_FREE + 1;
	     failures > 0 && ms < AUTH_LIMIT_LONGEST_MS; failures--)
		ms *= 2;
	return ms < AUTH_LIMIT_LONGEST_MS ? ms : AUTH_LIMIT_LONGEST_MS;
}

int64_t
auth_limit_begin(struct auth_limit *limit, const char *login,
    const char *address, int64_t now_ms)
{
	uint64_t key = key_of(limit, login, address);
	struct entry *e = find(limit, key);
	int64_t wait;

	if (e != NULL && forgotten(e, now_ms))
		e->failures = 0;
	if (e == NULL && (e = claim(limit, key, now_ms)) == NULL)
		return 0;
	/* Guessing in parallel must not be faster than one after the other;
	 * but a user's programs may log in at the same moment. */
	if (e->pending >=
	    (e->failures > AUTH_LIMIT_FREE ? 1 : AUTH_LIMIT_PENDING))
		return AUTH_LIMIT_BUSY;
	wait = delay_ms(e->failures) - (now_ms - e->last_ms);
	e->pending++;
	return wait > 0 ? wait : 0;
}

void
auth_limit_end(struct auth_limit *limit, const char *login, const char *address,
    enum auth_limit_end how, int64_t now_ms)
{
	struct entry *e = find(limit, key_of(limit, login, address));

	if (e == NULL)
		return;
	if (e->pending > 0)
		e->pending--;
	if (how == AUTH_LIMIT_FAILED) {
		e->last_ms = now_ms;
		if (e->failures < UINT16_MAX)
			e->failures++;
	} else if (how == AUTH_LIMIT_OK) {
		e->failures = 0;
	}
}
