/*
 * limits.c
 *		Sets, drops and lists rate limits and quotas, as an operator does.
 *
 * A change is in force as soon as it has committed, as a revocation is: the
 * row trigger of the table sends a message for the org or the tier
 * (lookup/invalidation.c).  Calls that set limits of the same org or tier wait
 * for one another, so that a subject does not get more limits than it may have.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "limits/limits.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_set_limit);
PG_FUNCTION_INFO_V1(overten_drop_limit);
PG_FUNCTION_INFO_V1(overten_list_limits);

typedef enum Scope
{
	SCOPE_TIER, SCOPE_ORG, SCOPE_KEY
} Scope;

static const char *const scope_names[] = {
	[SCOPE_TIER] = "tier",
	[SCOPE_ORG] = "org",
	[SCOPE_KEY] = "key",
};

/* What a limit is set for. */
typedef struct Subject
{
	Scope		scope;
	text	   *id;				/* a tier, an org, or the first key of a line */
	text	   *org_id;			/* NULL for a tier */
	text	   *key_id;			/* as the caller has named it, or NULL */
} Subject;

pg_noreturn static void
refuse(const char *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg_internal("%s", rule)));
}

static bool
is_word(text *value, const char *word)
{
	return VARSIZE_ANY_EXHDR(value) == strlen(word) &&
		memcmp(VARDATA_ANY(value), word, strlen(word)) == 0;
}

static Scope
scope_argument(FunctionCallInfo fcinfo, int n)
{
	text	   *value = oa_text_argument(fcinfo, n, "scope");

	for (int scope = 0; scope < lengthof(scope_names); scope++)
		if (is_word(value, scope_names[scope]))
			return scope;
	refuse("scope must be tier, org or key");
}

/* The name of a limit, which HTTP headers can have in quotes. */
static text *
name_argument(FunctionCallInfo fcinfo, int n)
{
	text	   *name = oa_text_argument(fcinfo, n, "name");
	const char *bytes = VARDATA_ANY(name);
	int			length = VARSIZE_ANY_EXHDR(name);
	bool		good = length >= 1 && length <= OA_LIMIT_NAME_MAX;

	for (int i = 0; good && i < length; i++)
		good = (bytes[i] >= 'a' && bytes[i] <= 'z') ||
			(bytes[i] >= '0' && bytes[i] <= '9') ||
			(i > 0 && (bytes[i] == '_' || bytes[i] == '-'));
	if (!good)
		refuse("name must have 1 to 32 characters: a-z and 0-9, and after the first also _ and -");
	return name;
}

static int64
positive_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	oa_require_argument(fcinfo, n, what);
	if (PG_GETARG_INT64(n) < 1)
		refuse(psprintf("%s must be at least 1", what));
	return PG_GETARG_INT64(n);
}

/* The period of a rate limit, or the kind of period of a quota. */
static void
period_argument(FunctionCallInfo fcinfo, int n, OaLimitRow *wanted)
{
	Interval   *period;

	oa_require_argument(fcinfo, n, "period");
	period = PG_GETARG_INTERVAL_P(n);
	wanted->calendar = OA_NO_CALENDAR;
	if (period->month == 0 && period->day == 1 && period->time == 0)
		wanted->calendar = OA_DAY;
	else if (period->month == 1 && period->day == 0 && period->time == 0)
		wanted->calendar = OA_MONTH;
	else if (period->month != 0 || period->day != 0 ||
			 period->time < USECS_PER_SEC || period->time >= USECS_PER_DAY ||
			 period->time % USECS_PER_SEC != 0)
		refuse("period must be a whole number of seconds, at least 1 second and less than 1 day, or 1 day or 1 month");
	wanted->period = (int32) (period->time / USECS_PER_SEC);
}

/* The burst of a rate limit, which is the quota by default; 0 for a quota. */
static int64
burst_argument(FunctionCallInfo fcinfo, int n, const OaLimitRow *wanted)
{
	if (wanted->calendar == OA_NO_CALENDAR)
		return PG_ARGISNULL(n) ? wanted->quota :
			positive_argument(fcinfo, n, "burst");
	if (!PG_ARGISNULL(n))
		refuse("burst must be NULL if period is 1 day or 1 month");
	return 0;
}

/* The day on which months begin, which is the first by default; else 0. */
static int32
anchor_argument(FunctionCallInfo fcinfo, int n, const OaLimitRow *wanted)
{
	if (wanted->calendar != OA_MONTH)
	{
		if (!PG_ARGISNULL(n))
			refuse("anchor must be NULL unless period is 1 month");
		return 0;
	}
	if (PG_ARGISNULL(n))
		return 1;
	if (PG_GETARG_INT32(n) < 1 || PG_GETARG_INT32(n) > OA_ANCHOR_MAX)
		refuse(psprintf("anchor must be between 1 and %d", OA_ANCHOR_MAX));
	return PG_GETARG_INT32(n);
}

static bool
bool_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	oa_require_argument(fcinfo, n, what);
	return PG_GETARG_BOOL(n);
}

static bool
per_org_argument(FunctionCallInfo fcinfo, int n, Scope scope)
{
	text	   *per = oa_text_argument(fcinfo, n, "per");

	if (is_word(per, "key"))
		return false;
	if (!is_word(per, "org"))
		refuse("per must be key or org");
	if (scope == SCOPE_KEY)
		refuse("per must be key if scope is key");
	return true;
}

/* Refuse a limit that cannot be counted. */
static void
check_rate(const OaLimitRow *wanted)
{
	OaRate		rate;

	if (wanted->calendar != OA_NO_CALENDAR)
		return;
	if (wanted->quota > wanted->period * INT64CONST(1000000))
		refuse("quota must be at most 1000000 for each second of the period");
	if (!oa_make_rate(wanted->quota, wanted->period, wanted->burst, &rate))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the limit cannot be counted exactly"),
				 errdetail("The time that the burst takes must be at most 2^61 units, of which a nanosecond has as many as the quota, divided by its greatest common divisor with the period in nanoseconds."),
				 errhint("Use a rounder quota, a shorter period, or a smaller burst.")));
}

/*
 * Lock the org that a limit belongs to: it is not erased meanwhile, and others
 * that set its limits or those of its keys wait.
 */
static void
lock_org(text *org_id)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id = $1 AND erased_at IS NULL FOR NO KEY UPDATE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&lock, values, NULL) == 0)
		oa_org_missing(org_id);
}

/* The same for a tier. */
static void
lock_tier(text *tier)
{
	static OaStatement lock = {
		.table = "tiers",
		.text = "SELECT 1 FROM overten_auth.tiers "
		"WHERE name = $1 FOR NO KEY UPDATE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(tier)};

	if (oa_statement_run(&lock, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no such tier"),
				 errhint("Tiers are the rows of overten_auth.tiers.")));
}

/* Find a key, and its line.  Returns false if there is no such key. */
static bool
find_line(Subject *subject)
{
	static OaStatement find = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT COALESCE(lineage, key_id), org_id "
		"FROM overten_auth.api_keys WHERE key_id = $1 AND erased_at IS NULL",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(subject->key_id)};

	if (oa_statement_run(&find, values, NULL) == 0)
		return false;
	subject->id = oa_statement_text(0, 1);
	subject->org_id = oa_statement_text(0, 2);
	return true;
}

/* Raise 42704: there is no such key. */
void
oa_limited_key_missing(text *key_id)
{
	char	   *id = oa_id_for_message(key_id, "key_");

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 id != NULL ? errmsg("key \"%s\" does not exist", id) :
			 errmsg("there is no such key")));
}

/* Find what a limit is to be set for, and lock it. */
static void
require_subject(Subject *subject)
{
	switch (subject->scope)
	{
		case SCOPE_TIER:
			lock_tier(subject->id);
			return;
		case SCOPE_ORG:
			subject->org_id = subject->id;
			break;
		case SCOPE_KEY:
			if (!find_line(subject))
				oa_limited_key_missing(subject->key_id);
			break;
	}
	lock_org(subject->org_id);
}

/* Raise 22023 if the subject has all the limits that it may have. */
static void
check_number(const Subject *subject, text *name)
{
	static OaStatement count = {
		.table = "limits",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.limits "
		"WHERE scope = $1 AND subject = $2 AND name <> $3",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		CStringGetTextDatum(scope_names[subject->scope]),
		PointerGetDatum(subject->id),
		PointerGetDatum(name),
	};

	if (oa_statement_run(&count, values, NULL) >= OA_LIMITS_MAX)
		refuse(psprintf("a tier, an org or a key can have at most %d limits",
						OA_LIMITS_MAX));
}

/* Set the period of a quota, which stands in a field of its own. */
void
oa_set_calendar_period(Interval *period, OaCalendar calendar)
{
	period->day = calendar == OA_DAY ? 1 : 0;
	period->month = calendar == OA_MONTH ? 1 : 0;
}

/* Write the limit.  Returns false if it was there already. */
static bool
write_limit(const Subject *subject, const OaLimitRow *wanted)
{
	static OaStatement upsert = {
		.table = "limits",
		.text = "INSERT INTO overten_auth.limits AS l (scope, subject, name, "
		"org_id, quota, period, burst, per, shadow, anchor) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
		"ON CONFLICT (scope, subject, name) DO UPDATE SET quota = $5, "
		"period = $6, burst = $7, per = $8, shadow = $9, anchor = $10 "
		"WHERE (l.quota, l.period, l.burst, l.per, l.shadow, l.anchor) "
		"IS DISTINCT FROM ($5, $6, $7, $8, $9, $10)",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INTERVALOID,
		INT8OID, TEXTOID, BOOLOID, INT4OID},
	};
	Interval	period = {.time = wanted->period * USECS_PER_SEC};
	Datum		values[] = {
		CStringGetTextDatum(scope_names[subject->scope]),
		PointerGetDatum(subject->id),
		PointerGetDatum(wanted->name),
		PointerGetDatum(subject->org_id),
		Int64GetDatum(wanted->quota),
		IntervalPGetDatum(&period),
		Int64GetDatum(wanted->burst),
		CStringGetTextDatum(wanted->per_org ? "org" : "key"),
		BoolGetDatum(wanted->shadow),
		Int32GetDatum(wanted->anchor),
	};
	const bool	nulls[lengthof(values)] = {
		[3] = (subject->org_id == NULL),
		[6] = (wanted->calendar != OA_NO_CALENDAR),
		[9] = (wanted->calendar != OA_MONTH),
	};

	oa_set_calendar_period(&period, wanted->calendar);
	return oa_statement_run(&upsert, values, nulls) > 0;
}

/* Write to the audit log what was done with a limit. */
static void
audit(const char *action, const Subject *subject, const char *what)
{
	if (subject->scope == SCOPE_TIER)
		what = psprintf("tier %s: %s", text_to_cstring(subject->id), what);
	oa_audit(action, subject->org_id, subject->key_id, NULL,
			 cstring_to_text(what));
}

/* A limit in words. */
static const char *
describe(const OaLimitRow *wanted)
{
	const char *numbers = "a day";

	if (wanted->calendar == OA_MONTH)
		numbers = psprintf("a month from day %d", wanted->anchor);
	else if (wanted->calendar == OA_NO_CALENDAR)
		numbers = psprintf("in %d s, burst " INT64_FORMAT, wanted->period,
						   wanted->burst);
	return psprintf("%s: " INT64_FORMAT " %s, per %s%s",
					text_to_cstring(wanted->name), wanted->quota, numbers,
					wanted->per_org ? "org" : "key",
					wanted->shadow ? ", shadow" : "");
}

static Subject
subject_arguments(FunctionCallInfo fcinfo)
{
	Subject		subject = {
		.scope = scope_argument(fcinfo, 0),
		.id = oa_text_argument(fcinfo, 1, "subject"),
	};

	if (subject.scope == SCOPE_KEY)
		subject.key_id = subject.id;
	return subject;
}

/*
 * overten_set_limit(scope text, subject text, name text, quota bigint,
 *		period interval, burst bigint, per text, shadow boolean, anchor
 *		integer) returns boolean
 *
 * Returns true if that changed anything.  Errors: 22004; 22023; 42704 the org or
 * the key does not exist.
 */
Datum
overten_set_limit(PG_FUNCTION_ARGS)
{
	Subject		subject = subject_arguments(fcinfo);
	OaLimitRow	wanted;
	bool		changed;
	int			level;

	wanted.name = name_argument(fcinfo, 2);
	wanted.quota = positive_argument(fcinfo, 3, "quota");
	period_argument(fcinfo, 4, &wanted);
	wanted.burst = burst_argument(fcinfo, 5, &wanted);
	wanted.per_org = per_org_argument(fcinfo, 6, subject.scope);
	wanted.shadow = bool_argument(fcinfo, 7, "shadow");
	wanted.anchor = anchor_argument(fcinfo, 8, &wanted);
	check_rate(&wanted);

	level = oa_statements_begin();
	require_subject(&subject);
	check_number(&subject, wanted.name);
	changed = write_limit(&subject, &wanted);
	if (changed)
		audit("set_limit", &subject, describe(&wanted));
	oa_statements_end(level);
	PG_RETURN_BOOL(changed);
}

/*
 * overten_drop_limit(scope text, subject text, name text) returns boolean
 *
 * Returns false if there is no such limit.  Errors: 22004; 22023 the scope.
 */
Datum
overten_drop_limit(PG_FUNCTION_ARGS)
{
	static OaStatement remove = {
		.table = "limits",
		.text = "DELETE FROM overten_auth.limits "
		"WHERE scope = $1 AND subject = $2 AND name = $3 RETURNING org_id",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID},
	};
	Subject		subject = subject_arguments(fcinfo);
	text	   *name = oa_text_argument(fcinfo, 2, "name");
	Datum		values[3];
	bool		dropped;
	int			level;

	level = oa_statements_begin();
	if (subject.scope == SCOPE_KEY)
		(void) find_line(&subject);
	values[0] = CStringGetTextDatum(scope_names[subject.scope]);
	values[1] = PointerGetDatum(subject.id);
	values[2] = PointerGetDatum(name);
	dropped = oa_statement_run(&remove, values, NULL) > 0;
	if (dropped)
	{
		subject.org_id = oa_statement_text_or_null(0, 1);
		audit("drop_limit", &subject, text_to_cstring(name));
	}
	oa_statements_end(level);
	PG_RETURN_BOOL(dropped);
}

/*
 * overten_list_limits(org_id text) returns setof scope, subject, name text,
 *		quota bigint, period interval, burst bigint, per text, shadow boolean, anchor
 *		integer
 *
 * Returns the limits that can concern an org or its keys, or all limits if
 * org_id is NULL.  Errors: 42704.
 */
Datum
overten_list_limits(PG_FUNCTION_ARGS)
{
	static OaStatement list = {
		.table = "limits",
		.text = "SELECT l.scope, l.subject, l.name, l.quota, l.period, "
		"l.burst, l.per, l.shadow, l.anchor FROM overten_auth.limits l "
		"WHERE $1 IS NULL OR l.org_id = $1 "
		"OR (l.scope = 'tier' AND l.subject = (SELECT o.tier "
		"FROM overten_auth.orgs o WHERE o.org_id = $1)) "
		"ORDER BY array_position(ARRAY['tier', 'org', 'key'], l.scope::text), "
		"l.subject, l.name",
		.argtypes = {TEXTOID},
	};
	text	   *org_id = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	Datum		values[] = {PointerGetDatum(org_id)};
	const bool	nulls[lengthof(values)] = {org_id == NULL};
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	if (org_id != NULL)
		oa_require_org(org_id);
	oa_statement_run(&list, values, nulls);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
