/*
 * key_prefixes.c
 *		The prefixes that API keys begin with: reading the list of them, and
 *		finding the one of a key.
 *
 * A key is a prefix and OA_SECRET_TAIL_LEN characters of 0-9A-Za-z.  A prefix
 * ends with "_", which is not among those, so a text has only one prefix: what
 * comes before the tail.
 */
#include "postgres.h"

#include "text/text.h"

/* Is this a prefix: [a-z0-9_]{1,15}_? */
static bool
is_prefix(const char *bytes, int length)
{
	if (length < OA_KEY_PREFIX_MIN || length > OA_KEY_PREFIX_MAX ||
		bytes[length - 1] != '_')
		return false;
	for (int i = 0; i < length - 1; i++)
	{
		char		c = bytes[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

/* Are these characters of 0-9A-Za-z?  We compare bytes, in any encoding. */
static bool
is_alphanumeric(const char *bytes, int length)
{
	for (int i = 0; i < length; i++)
	{
		char		c = bytes[i];
		char		lower = c | ('a' - 'A');

		if (!((c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z')))
			return false;
	}
	return true;
}

/* Find a prefix in a list; NULL if it is not there. */
static const OaKeyPrefix *
find_prefix(const OaKeyPrefixes *prefixes, const char *bytes, int length)
{
	for (int i = 0; i < prefixes->count; i++)
	{
		const OaKeyPrefix *prefix = &prefixes->prefixes[i];

		if (prefix->length == length &&
			memcmp(prefix->bytes, bytes, length) == 0)
			return prefix;
	}
	return NULL;
}

/* Find the first prefix of an environment in a list; NULL if it has none. */
const OaKeyPrefix *
oa_minting_prefix(const OaKeyPrefixes *prefixes, OaEnvironment environment)
{
	for (int i = 0; i < prefixes->count; i++)
		if (prefixes->prefixes[i].environment == environment)
			return &prefixes->prefixes[i];
	return NULL;
}

/*
 * Find the prefix of a text that ends with "tail" more characters; NULL if the
 * text has another form, or a prefix that is not in the list.
 */
const OaKeyPrefix *
oa_find_key_prefix(const OaKeyPrefixes *prefixes, const char *bytes,
				   int length, int tail)
{
	const OaKeyPrefix *prefix = find_prefix(prefixes, bytes, length - tail);

	return prefix != NULL &&
		is_alphanumeric(bytes + prefix->length, tail) ? prefix : NULL;
}

/* Can this be a key, with whatever prefix? */
bool
oa_looks_like_secret(const char *bytes, int length)
{
	int			prefix_length = length - OA_SECRET_TAIL_LEN;

	return is_prefix(bytes, prefix_length) &&
		is_alphanumeric(bytes + prefix_length, OA_SECRET_TAIL_LEN);
}

/* Read an entry of a list.  Returns what is wrong with it, or NULL. */
static const char *
read_entry(const char *entry, int length, OaKeyPrefixes *prefixes)
{
	OaEnvironment environment = OA_LIVE;
	const char *colon = memchr(entry, ':', length);
	OaKeyPrefix *prefix;

	if (colon != NULL)
	{
		int			name_length = (int) (colon - entry);

		if (name_length != 4)
			return "Before a colon there can be \"live\" or \"test\".";
		if (memcmp(entry, "test", 4) == 0)
			environment = OA_TEST;
		else if (memcmp(entry, "live", 4) != 0)
			return "Before a colon there can be \"live\" or \"test\".";
		entry = colon + 1;
		length -= name_length + 1;
	}

	if (!is_prefix(entry, length))
		return "A prefix has 1 to 15 characters of a-z, 0-9 and _, and ends with another _.";
	if (find_prefix(prefixes, entry, length) != NULL)
		return "A prefix is in the list twice.";
	if (prefixes->count == OA_KEY_PREFIXES_MAX)
		return "There are too many prefixes.";

	prefix = &prefixes->prefixes[prefixes->count++];
	memcpy(prefix->bytes, entry, length);
	prefix->length = length;
	prefix->environment = environment;
	return NULL;
}

/*
 * Read a list of prefixes: "sk_live_, test:sk_test_".  Returns what is wrong
 * with it, a sentence, or NULL.
 */
const char *
oa_parse_key_prefixes(const char *list, OaKeyPrefixes *prefixes)
{
	const char *problem = NULL;

	memset(prefixes, 0, sizeof(*prefixes));
	for (;;)
	{
		int			length;

		list += strspn(list, " \t\r\n");
		length = (int) strcspn(list, ",");
		while (length > 0 && strchr(" \t\r\n", list[length - 1]) != NULL)
			length--;
		problem = read_entry(list, length, prefixes);
		if (problem != NULL)
			return problem;
		list += strcspn(list, ",");
		if (*list == '\0')
			break;
		list++;
	}
	return oa_minting_prefix(prefixes, OA_LIVE) != NULL ? NULL :
		"There must be a prefix for live keys.";
}
