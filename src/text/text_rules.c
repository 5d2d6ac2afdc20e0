/*
 * text_rules.c
 *		Which characters are allowed in names and user ids.
 *
 * People see names, so a name must have something visible, and must not change
 * how the text around it is shown.  We sort the code points of Unicode into
 * three kinds:
 *
 * - forbidden: control characters (C0, DEL, C1, and the line and paragraph
 *   separators), bidirectional controls, tag characters and noncharacters;
 * - invisible: spaces, and what Unicode calls default-ignorable.  Many
 *   languages need joiners and variation selectors within words, and so do
 *   emoji, so we allow them beside something visible;
 * - visible: the rest.  Which code points are assigned depends on the version
 *   of Unicode, and private ones have a meaning where they are used, so we
 *   count both as visible.
 *
 * Tag characters spell the flags of England, Scotland and Wales; they are
 * allowed in a flag of that form (Unicode Technical Standard 51, ED-14a).
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include "text/text.h"

#define BLACK_FLAG		0x1f3f4
#define CANCEL_TAG		0xe007f
#define FLAG_TAGS_MAX	6		/* a region, such as gbeng, has 3 to 6 */

typedef struct CodePoints
{
	uint32		first;
	uint32		last;
} CodePoints;

/* Each of these lists is in the order of code points. */
static const CodePoints controls[] = {
	{0x0000, 0x001f}, {0x007f, 0x009f}, {0x2028, 0x2029},
};

static const CodePoints bidirectional_controls[] = {
	{0x061c, 0x061c}, {0x200e, 0x200f}, {0x202a, 0x202e}, {0x2066, 0x2069},
};

static const CodePoints tags[] = {
	{0xe0000, CANCEL_TAG},
};

/* The last two code points of each plane are noncharacters, too. */
static const CodePoints noncharacters[] = {
	{0xfdd0, 0xfdef},
};

/* Spaces, default-ignorable characters, and some that are drawn as blanks. */
static const CodePoints invisible[] = {
	{0x0020, 0x0020}, {0x00a0, 0x00a0}, {0x00ad, 0x00ad}, {0x034f, 0x034f},
	{0x115f, 0x1160}, {0x1680, 0x1680}, {0x17b4, 0x17b5}, {0x180b, 0x180f},
	{0x2000, 0x200d}, {0x202f, 0x202f}, {0x205f, 0x2065}, {0x206a, 0x206f},
	{0x2800, 0x2800}, {0x3000, 0x3000}, {0x3164, 0x3164}, {0xfe00, 0xfe0f},
	{0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0x13430, 0x13442},
	{0x16fe4, 0x16fe4}, {0x1bca0, 0x1bca3}, {0x1d159, 0x1d159},
	{0x1d173, 0x1d17a}, {0xe0080, 0xe0fff},
};

#define IS_AMONG(c, kind) is_among(c, kind, lengthof(kind))

static bool
is_among(uint32 c, const CodePoints *kind, int count)
{
	for (int i = 0; i < count && c >= kind[i].first; i++)
		if (c <= kind[i].last)
			return true;
	return false;
}

static bool
is_noncharacter(uint32 c)
{
	return (c & 0xfffe) == 0xfffe || IS_AMONG(c, noncharacters);
}

/* Is this a tag character for a digit or a lower-case letter? */
static bool
is_flag_tag(uint32 c)
{
	return (c >= 0xe0030 && c <= 0xe0039) || (c >= 0xe0061 && c <= 0xe007a);
}

/* Decode the character here, which has "length" bytes. */
static uint32
code_point(const unsigned char *at, int length)
{
	static const unsigned char first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32		c = at[0] & first_bits[length];

	for (int i = 1; i < length; i++)
		c = c << 6 | (at[i] & 0x3f);
	return c;
}

/*
 * If a flag begins here, return the number of bytes of its tags, or else 0.
 * "at" points behind the black flag.
 */
static int
flag_length(const unsigned char *at, const unsigned char *end)
{
	const unsigned char *start = at;

	/* Each tag character has 4 bytes. */
	for (int tag_count = 0; end - at >= 4 && tag_count <= FLAG_TAGS_MAX;
		 tag_count++, at += 4)
	{
		uint32		c = oa_utf8_length(at, end) == 4 ? code_point(at, 4) : 0;

		if (c == CANCEL_TAG && tag_count > 0)
			return at + 4 - start;
		if (!is_flag_tag(c))
			break;
	}
	return 0;
}

/* Return the rule that forbids a character, or OA_TEXT_GOOD. */
static OaTextRule
check_character(uint32 c)
{
	if (IS_AMONG(c, controls))
		return OA_TEXT_CONTROL_CHARACTER;
	if (IS_AMONG(c, bidirectional_controls))
		return OA_TEXT_BIDIRECTIONAL;
	if (IS_AMONG(c, tags) || is_noncharacter(c))
		return OA_TEXT_NONCHARACTER;
	return OA_TEXT_GOOD;
}

/* What the rules ask about a whole text. */
typedef struct Characters
{
	bool		any_visible;
	bool		first_visible;
	bool		last_visible;
} Characters;

/* Scan a text.  Returns the first rule that one of its characters breaks. */
static OaTextRule
look_through(const char *utf8, int length, Characters *characters)
{
	const unsigned char *at = (const unsigned char *) utf8;
	const unsigned char *end = at + length;

	memset(characters, 0, sizeof(*characters));
	while (at < end)
	{
		int			bytes = *at < 0x80 ? 1 : oa_utf8_length(at, end);
		uint32		c;
		OaTextRule	broken;

		if (bytes == 0)
			return OA_TEXT_ENCODING;
		c = code_point(at, bytes);
		broken = check_character(c);
		if (broken != OA_TEXT_GOOD)
			return broken;

		characters->last_visible = !IS_AMONG(c, invisible);
		if (at == (const unsigned char *) utf8)
			characters->first_visible = characters->last_visible;
		characters->any_visible |= characters->last_visible;
		at += bytes;
		if (c == BLACK_FLAG)
			at += flag_length(at, end);
	}
	return OA_TEXT_GOOD;
}

/* Return the rule that a name's characters break, or OA_TEXT_GOOD. */
OaTextRule
oa_check_name_characters(const char *utf8, int length)
{
	Characters	characters;
	OaTextRule	broken = look_through(utf8, length, &characters);

	if (broken == OA_TEXT_GOOD && !characters.any_visible)
		return OA_TEXT_INVISIBLE;
	return broken;
}

/*
 * Likewise for a user id.  User ids are compared byte for byte, so an
 * invisible character at an end would make two ids that look the same differ.
 */
OaTextRule
oa_check_uid_characters(const char *utf8, int length)
{
	Characters	characters;
	OaTextRule	broken = look_through(utf8, length, &characters);

	if (broken == OA_TEXT_GOOD &&
		!(characters.first_visible && characters.last_visible))
		return OA_TEXT_ENDS;
	return broken;
}
