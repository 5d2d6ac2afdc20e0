/*
 * key_prefixes.c
 *		Feeds libFuzzer's input to the reader of prefixes of keys.
 *
 * In a list that is good, each prefix is that of the keys that begin with it and
 * of no other text; the first one of an environment is for new keys; and the list
 * reads the same when it is written again.
 */
#include "postgres.h"

#include "text/text.h"

#define LIST_MAX	(OA_KEY_PREFIXES_MAX * (OA_KEY_PREFIX_MAX + 8))

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* Is a text a key with this prefix, or NULL for none?  It ends where it ends. */
static void
try_key(const OaKeyPrefixes *prefixes, const char *text, int length,
		const OaKeyPrefix *expected)
{
	char	   *copy = malloc(length);

	memcpy(copy, text, length);
	require(oa_find_key_prefix(prefixes, copy, length, OA_SECRET_TAIL_LEN) ==
			expected);
	require(expected == NULL || oa_looks_like_secret(copy, length));
	free(copy);
}

static void
try_prefix(const OaKeyPrefixes *prefixes, const OaKeyPrefix *prefix)
{
	char		key[OA_KEY_PREFIX_MAX + OA_SECRET_TAIL_LEN];
	int			length = prefix->length + OA_SECRET_TAIL_LEN;

	require(prefix->length >= OA_KEY_PREFIX_MIN &&
			prefix->length <= OA_KEY_PREFIX_MAX);
	memcpy(key, prefix->bytes, prefix->length);
	memset(key + prefix->length, 'a', OA_SECRET_TAIL_LEN);
	try_key(prefixes, key, length, prefix);
	try_key(prefixes, key, length - 1, NULL);
	key[length - 1] = '_';
	try_key(prefixes, key, length, NULL);
	key[length - 1] = 'a';
	key[prefix->length] = '_';
	try_key(prefixes, key, length, NULL);
}

static void
try_list(const OaKeyPrefixes *prefixes)
{
	OaKeyPrefixes again;
	char		written[LIST_MAX] = "";
	const OaKeyPrefix *minting[2] = {NULL, NULL};

	require(prefixes->count >= 1 && prefixes->count <= OA_KEY_PREFIXES_MAX);
	for (int i = 0; i < prefixes->count; i++)
	{
		const OaKeyPrefix *prefix = &prefixes->prefixes[i];

		require(prefix->environment == OA_LIVE ||
				prefix->environment == OA_TEST);
		if (minting[prefix->environment] == NULL)
			minting[prefix->environment] = prefix;
		try_prefix(prefixes, prefix);
		snprintf(written + strlen(written), LIST_MAX - strlen(written),
				 "%s%s%.*s", i > 0 ? ", " : "",
				 prefix->environment == OA_TEST ? "test:" : "live:",
				 prefix->length, prefix->bytes);
	}
	require(minting[OA_LIVE] != NULL);
	require(oa_minting_prefix(prefixes, OA_LIVE) == minting[OA_LIVE]);
	require(oa_minting_prefix(prefixes, OA_TEST) == minting[OA_TEST]);
	require(oa_parse_key_prefixes(written, &again) == NULL);
	require(memcmp(prefixes, &again, sizeof(again)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	char	   *list = malloc(size + 1);
	OaKeyPrefixes prefixes;

	memcpy(list, data, size);
	list[size] = '\0';
	if (oa_parse_key_prefixes(list, &prefixes) == NULL)
		try_list(&prefixes);
	/* Any text can come as a key. */
	oa_looks_like_secret((const char *) data, (int) size);
	free(list);
	return 0;
}
