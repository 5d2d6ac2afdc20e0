/*
 * slots.c
 *		Reading which slots a server has.
 *
 * Keys and orgs are spread over servers by slots.  The list is as "0-255, 300".
 *
 * Nothing in this file allocates or raises.
 */
#include "postgres.h"

#include "text/text.h"

/* Skip spaces. */
static const char *
skip_spaces(const char *from)
{
	while (*from == ' ')
		from++;
	return from;
}

/* Read the number of a slot.  Returns what follows, or NULL. */
static const char *
read_slot(const char *from, int *slot)
{
	int			digits = 0;

	*slot = 0;
	for (; *from >= '0' && *from <= '9'; from++)
	{
		*slot = 10 * *slot + (*from - '0');
		if (++digits > 4 || *slot >= OA_SLOTS)
			return NULL;
	}
	return digits > 0 ? skip_spaces(from) : NULL;
}

/* Read a slot, or two with those between.  Returns likewise. */
static const char *
read_range(const char *from, OaSlots *slots)
{
	int			first;
	int			last;

	from = read_slot(skip_spaces(from), &first);
	if (from == NULL)
		return NULL;
	last = first;
	if (*from == '-')
		from = read_slot(skip_spaces(from + 1), &last);
	if (from == NULL || last < first)
		return NULL;
	for (int slot = first; slot <= last; slot++)
	{
		slots->count += !oa_has_slot(slots, slot);
		slots->bits[slot / 8] |= 1 << slot % 8;
	}
	return from;
}

/*
 * Parse a list of slots, which may be empty.  Returns NULL, or what is wrong
 * with it.
 */
const char *
oa_parse_slots(const char *list, OaSlots *slots)
{
	const char *from = skip_spaces(list);

	memset(slots, 0, sizeof(*slots));
	while (*from != '\0')
	{
		from = read_range(from, slots);
		if (from == NULL || (*from != ',' && *from != '\0') ||
			(*from == ',' && *skip_spaces(from + 1) == '\0'))
			return "It must be a list of slots from 0 to 1023, such as \"0-255, 300\".";
		if (*from == ',')
			from++;
	}
	return NULL;
}

/* Is this one of the slots? */
bool
oa_has_slot(const OaSlots *slots, int slot)
{
	return (slots->bits[slot / 8] & 1 << slot % 8) != 0;
}
