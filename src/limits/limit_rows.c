/*
 * limit_rows.c
 *		Finds the limits of a key in their table, and packs them for the cache.
 *
 * A key has the limits of its tier, those of its org, and its own, which are
 * those of its line of rotations.  Of limits with the same name, the nearest one
 * counts: the key's, else the org's, else the tier's.  A limit that is not there
 * is no limit, so there is no way to lift a tier's limit for an org except by a
 * larger one.
 *
 * The id of a bucket is a digest of all that a rate limit is, and of whom it
 * counts for.  So a limit that is changed has new buckets, and one that is
 * dropped and set again has the old ones.
 *
 * That of a quota is a digest of its name, of its kind of period, and of whom it
 * counts for.  So an org that gets a larger quota, or another tier that has one
 * of the same name, keeps what it has used.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"

#include "limits/limits.h"
#include "server/server.h"

/* A limit, and where it comes from. */
typedef struct FoundLimit
{
	const char *scope;
	text	   *subject;
	const OaLimitRow *row;
} FoundLimit;

static bool
equals(text *a, text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* Add the limits of a subject, except those that a nearer one has, too. */
static int
add_limits(OaRead *read, const char *scope, text *subject,
		   FoundLimit *found, int count)
{
	int			nearer = count;
	ListCell   *cell;

	foreach(cell, oa_store_find_limits(read, scope, subject))
	{
		const OaLimitRow *row = lfirst(cell);
		bool		hidden = false;

		for (int i = 0; i < nearer; i++)
			hidden = hidden || equals(found[i].row->name, row->name);
		if (hidden)
			continue;
		if (count == OA_LIMITS_OF_KEY_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a key has more than %d limits",
							OA_LIMITS_OF_KEY_MAX),
					 errhint("Set and drop limits only with overten_set_limit() and overten_drop_limit().")));
		found[count].scope = scope;
		found[count].subject = subject;
		found[count].row = row;
		count++;
	}
	return count;
}

static void
add_text(StringInfo buffer, text *value)
{
	pq_sendint32(buffer, VARSIZE_ANY_EXHDR(value));
	appendBinaryStringInfo(buffer, VARDATA_ANY(value),
						   VARSIZE_ANY_EXHDR(value));
}

/* Add what is particular to a rate limit. */
static void
add_rate(StringInfo buffer, const FoundLimit *found)
{
	appendStringInfoString(buffer, found->scope);
	add_text(buffer, found->subject);
	add_text(buffer, found->row->name);
	pq_sendint64(buffer, found->row->quota);
	pq_sendint32(buffer, found->row->period);
	pq_sendint64(buffer, found->row->burst);
}

/* Make the id of a limit's bucket. */
static void
set_bucket(OaLimit *limit, const FoundLimit *found, text *counted_for)
{
	const OaLimitRow *row = found->row;
	uint8		digest[OA_DIGEST_LEN];
	StringInfoData all;

	initStringInfo(&all);
	if (row->calendar == OA_NO_CALENDAR)
		add_rate(&all, found);
	else
	{
		appendStringInfoString(&all, row->calendar == OA_DAY ?
							   "quota of a day" : "quota of a month");
		add_text(&all, row->name);
	}
	pq_sendbyte(&all, row->per_org);
	add_text(&all, counted_for);
	oa_digest(all.data, all.len, digest);
	memcpy(limit->bucket, digest, OA_BUCKET_ID_LEN);
	pfree(all.data);
}

/* Set what a limit counts.  Returns false if that cannot be counted. */
static bool
set_numbers(OaLimit *limit, const OaLimitRow *row)
{
	limit->calendar = row->calendar;
	if (row->calendar == OA_NO_CALENDAR)
	{
		limit->period = row->period;
		return oa_make_rate(row->quota, row->period, row->burst, &limit->rate);
	}
	limit->quota = row->quota;
	limit->period = row->anchor;
	return row->quota >= 1 &&
		(row->calendar == OA_DAY ||
		 (row->anchor >= 1 && row->anchor <= OA_ANCHOR_MAX));
}

/* Pack a limit.  Returns the next free byte. */
static char *
pack_limit(char *at, const FoundLimit *found, text *line, text *org_id)
{
	const OaLimitRow *row = found->row;
	int			length = VARSIZE_ANY_EXHDR(row->name);
	OaLimit    *limit = (OaLimit *) at;

	if (length > OA_LIMIT_NAME_MAX || !set_numbers(limit, row) ||
		(row->calendar != OA_NO_CALENDAR &&
		 VARSIZE_ANY_EXHDR(org_id) > OA_COUNTED_ID_MAX))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a limit of the key cannot be counted"),
				 errhint("Set and drop limits only with overten_set_limit() and overten_drop_limit().")));
	limit->per_org = row->per_org;
	limit->shadow = row->shadow;
	limit->name_length = (uint8) length;
	memcpy(limit->name, VARDATA_ANY(row->name), length);
	set_bucket(limit, found, row->per_org ? org_id : line);
	return at + OA_LIMIT_SIZE(length);
}

/*
 * Read the limits of a key: of its line of rotations, its org and its tier.
 * Returns palloc'd memory, never NULL.
 */
const OaLimits *
oa_read_limits(OaRead *read, text *line, text *org_id, text *tier)
{
	FoundLimit	found[OA_LIMITS_OF_KEY_MAX] = {0};
	OaLimits   *packed;
	char	   *at;
	int			count = 0;

	count = add_limits(read, "key", line, found, count);
	count = add_limits(read, "org", org_id, found, count);
	count = add_limits(read, "tier", tier, found, count);

	packed = palloc0(offsetof(OaLimits, data) +
					 count * OA_LIMIT_SIZE(OA_LIMIT_NAME_MAX));
	packed->count = count;
	at = packed->data;
	for (int i = 0; i < count; i++)
		at = pack_limit(at, &found[i], line, org_id);
	packed->length = (uint32) (at - (char *) packed);
	return packed;
}
