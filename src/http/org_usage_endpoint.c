/*
 * org_usage_endpoint.c
 *		GET /organizations/{org_id}/usage
 *
 * Sums of the uses of an org's keys, as they are billed: each hour counts that
 * begins in the period.  The parameter "by" says what the sums are about, as in
 * by=key,day.  So that an answer stays of a size that a client can read at
 * once, sums by hour are about two days at most, and others about the time that
 * the history is kept unless told otherwise.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "http/http.h"
#include "keys/keys.h"

#define DAYS_MAX		92
#define HOURLY_DAYS_MAX	2
#define DEFAULT_DAYS	30		/* unless by hour */

/* What the sums are about. */
typedef struct Grouping
{
	bool		by_key;
	const char *unit;			/* "hour", "day", or NULL */
} Grouping;

/* Does a word stand at this place, up to a comma or the end? */
static bool
is_word(const char *at, size_t length, const char *word)
{
	return length == strlen(word) && strncmp(at, word, length) == 0;
}

/* Read "by".  The default is by key and day. */
static bool
read_grouping(const OaRequest *request, OaResponse *response,
			  Grouping *grouping)
{
	static const char rule[] =
	"must be key, hour, day, or key and one of the others, as in key,day";
	const char *at;

	if (!oa_find_parameter(request, response, "by", &at))
		return false;
	if (at == NULL)
		at = "key,day";

	grouping->by_key = false;
	grouping->unit = NULL;
	for (;;)
	{
		size_t		length = strcspn(at, ",");

		if (is_word(at, length, "key") && !grouping->by_key)
			grouping->by_key = true;
		else if (is_word(at, length, "hour") && grouping->unit == NULL)
			grouping->unit = "hour";
		else if (is_word(at, length, "day") && grouping->unit == NULL)
			grouping->unit = "day";
		else
			return oa_refuse_parameter(response, "by", rule);
		if (at[length] == '\0')
			return true;
		at += length + 1;
	}
}

/* Read the period, which depends on the grouping. */
static bool
read_period(const OaRequest *request, OaResponse *response,
			const Grouping *grouping, OaPeriod *period)
{
	bool		hourly = grouping->unit != NULL &&
	strcmp(grouping->unit, "hour") == 0;
	bool		has_since;

	if (!oa_read_period(request, response, &has_since, period))
		return false;
	if (!has_since && !hourly)
		period->since = period->until - DEFAULT_DAYS * USECS_PER_DAY;
	if (hourly && period->until - period->since > HOURLY_DAYS_MAX * USECS_PER_DAY)
		return oa_refuse_parameter(response, "since",
								   "must not be more than 2 days before until, which is now unless given, for sums by hour");
	return period->until - period->since <= DAYS_MAX * USECS_PER_DAY ||
		oa_refuse_parameter(response, "since",
							"must not be more than 92 days before until, which is now unless given");
}

/* What append_sum() needs to know. */
typedef struct Sums
{
	const Grouping *grouping;
	StringInfo	json;
} Sums;

/* Append one sum. */
static void
append_sum(const OaOrgUsage *usage, void *argument)
{
	const Sums *sums = argument;
	StringInfo	json = sums->json;

	oa_begin_object(json);
	if (sums->grouping->by_key)
	{
		oa_write_text(json, "key_id", usage->key_id);
		oa_write_text(json, "name", usage->name);
		oa_write_text(json, "prefix", usage->prefix);
	}
	if (sums->grouping->unit != NULL)
		oa_write_time(json, sums->grouping->unit, usage->start, false);
	oa_write_integer(json, "accepted", usage->accepted);
	oa_write_integer(json, "refused", usage->refused);
	oa_write_integer(json, "limited", usage->limited);
	if (sums->grouping->by_key && sums->grouping->unit == NULL)
		oa_write_integer(json, "addresses", usage->addresses);
	appendStringInfoChar(json, '}');
}

void
oa_endpoint_org_usage(const OaRequest *request, OaResponse *response)
{
	Grouping	grouping;
	Sums		sums = {&grouping, &response->body};
	OaPeriod	period;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!read_grouping(request, response, &grouping) ||
		!read_period(request, response, &grouping, &period) ||
		!oa_check_member(request, response, uid))
		return;

	response->status = 200;
	appendStringInfoString(&response->body, "{\"items\":[");
	oa_org_usage(request->org_id, &period, grouping.unit, grouping.by_key,
				 append_sum, &sums);
	appendStringInfoString(&response->body, "]}");
}
