/*
 * header_text.c
 *		Feeds libFuzzer's input to what nginx's module does with headers as text.
 *
 * What is read of an object of headers is visible ASCII within it, and reads the same
 * when it is written again.  A credential becomes ASCII of bounded length.  Which names
 * are ours is decided a second time, in another way.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "header_text.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
require_ascii(OaText text)
{
	for (size_t i = 0; i < text.length; i++)
		require(text.data[i] >= ' ' && text.data[i] <= '~');
}

static bool
are_equal(OaText one, OaText other)
{
	return one.length == other.length &&
		memcmp(one.data, other.data, one.length) == 0;
}

/* A header, written and read, is what it was; but tabs become spaces. */
static void
try_header(OaText name, OaText value)
{
	size_t		size = OA_STRING_MAX(name.length) + OA_STRING_MAX(value.length) + 3;
	char	   *object = malloc(size);
	char	   *spaced = malloc(value.length + 1);
	char	   *end = object;
	OaHeaderReader reader = {.at = object};
	OaText		read_name;
	OaText		read_value;

	*end++ = '{';
	end = oa_put_string(end, name);
	*end++ = ':';
	end = oa_put_string(end, value);
	*end++ = '}';
	require(end <= object + size);
	reader.end = end;
	for (size_t i = 0; i < value.length; i++)
		spaced[i] = value.data[i] == '\t' ? ' ' : value.data[i];
	require(oa_next_header(&reader, &read_name, &read_value) == OA_HEADER);
	require(are_equal(read_name, name));
	require(are_equal(read_value, (OaText) {spaced, value.length}));
	require(oa_next_header(&reader, &read_name, &read_value) == OA_NO_MORE_HEADERS);
	free(spaced);
	free(object);
}

/* Read an object of headers. */
static void
try_object(const uint8_t *data, size_t size)
{
	/* Where a byte too far is noticed. */
	char	   *object = malloc(size > 0 ? size : 1);
	OaHeaderReader reader = {.at = object,.end = object + size};
	OaText		name;
	OaText		value;

	memcpy(object, data, size);
	while (oa_next_header(&reader, &name, &value) == OA_HEADER)
	{
		require(name.length > 0);
		require(name.data > object && name.data + name.length < value.data);
		require(value.data + value.length < object + size);
		require_ascii(name);
		require_ascii(value);
		try_header(name, value);
	}
	free(object);
}

static void
try_credential(OaText value)
{
	OaText		plain = oa_plain_credential(value);

	require(plain.length <= OA_CREDENTIAL_MAX + strlen("Bearer "));
	for (size_t i = 0; i < plain.length; i++)
		require((plain.data[i] >= ' ' && plain.data[i] <= '~') ||
				plain.data[i] == '\t');
	require(are_equal(plain, value) == (plain.data == value.data) ||
			plain.length <= 8);
	try_header((OaText) {"authorization", 13}, plain);
}

static void
try_name(OaText name)
{
	char	   *plain = malloc(name.length + 1);
	bool		is_credential;

	for (size_t i = 0; i < name.length; i++)
		plain[i] = name.data[i] == '_' ? '-' :
			(char) tolower((unsigned char) name.data[i]);
	plain[name.length] = '\0';
	/* A NUL ends none of these. */
	is_credential = strlen(plain) == name.length &&
		(strcmp(plain, "authorization") == 0 ||
		 strcmp(plain, "x-overten-authorization") == 0);
	require(oa_is_credential(name) == is_credential);
	/* The two halves of it as names. */
	require(oa_are_same_name((OaText) {name.data, name.length / 2},
							 (OaText) {name.data + name.length / 2, name.length / 2}) ==
			(memcmp(plain, plain + name.length / 2, name.length / 2) == 0));
	require(oa_are_same_name(name, (OaText) {name.data, name.length / 2}) ==
			(name.length == 0));
	require(oa_is_ours(name) ==
			(is_credential || strncmp(plain, "x-overten-", 10) == 0));
	free(plain);
}

static void
try_classes(OaText text)
{
	bool		is_visible = true;
	bool		has_control = false;
	bool		has_comma = false;

	for (size_t i = 0; i < text.length; i++)
	{
		is_visible = is_visible && isgraph((unsigned char) text.data[i]);
		has_comma = has_comma || text.data[i] == ',';
		has_control = has_control ||
			(iscntrl((unsigned char) text.data[i]) && text.data[i] != '\t');
	}
	require(oa_is_visible(text) == is_visible);
	require(oa_has_control(text) == has_control);
	require(oa_has_comma(text) == has_comma);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *copy = malloc(size > 0 ? size : 1);
	OaText		text = {copy, size};

	memcpy(copy, data, size);
	try_object(data, size);
	try_credential(text);
	try_name(text);
	try_classes(text);
	free(copy);
	return 0;
}
