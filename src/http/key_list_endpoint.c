/*
 * key_list_endpoint.c
 *		GET /organizations/{org_id}/api-keys
 *
 * Without a parameter, the answer is all keys of the org.  We check in the
 * order of the contract: who asks, then the parameters, then the org.
 *
 * The cursor of a page is the id of the last key of the page before it.  It
 * says nothing that the page has not shown, and the key of another org is
 * refused like a key that does not exist.
 */
#include "postgres.h"


#include "http/http.h"
#include "keys/keys.h"
#include "server/server.h"
#include "settings.h"
#include "text/text.h"

#define LIMIT_MAX	1000		/* keys on a page */

/* The list that is being written. */
typedef struct KeyPage
{
	StringInfo	json;
	StringInfoData last;		/* the id of the last key */
} KeyPage;

/*
 * Can keys have this status, as far as customers know?  A key that a feature
 * makes expired or disabled is not active, whether the feature is on or off.
 */
static bool
is_shown_status(const char *status)
{
	if (strcmp(status, "expired") == 0)
		return oa_has_feature(OA_FEATURE_EXPIRY);
	if (strcmp(status, "disabled") == 0)
		return oa_has_feature(OA_FEATURE_DISABLE);
	return oa_is_key_status(status);
}

/* Return the rule for a status. */
static const char *
status_rule(void)
{
	return psprintf("must be active%s%s or revoked",
					is_shown_status("expired") ? ", expired" : "",
					is_shown_status("disabled") ? ", disabled" : "");
}

/* Read the environment to list.  Nobody should take all keys for test keys. */
static bool
read_environment(const OaRequest *request, OaResponse *response,
				 OaKeyFilter *filter)
{
	const char *name;
	OaEnvironment environment;

	if (!oa_find_parameter(request, response, "environment", &name))
		return false;
	if (name == NULL)
		return true;
	if (!oa_has_feature(OA_FEATURE_ENVIRONMENTS))
		return oa_refuse_parameter(response, "environment", OA_NOT_OFFERED);
	if (!oa_parse_environment(name, (int) strlen(name), &environment,
							  &response->fault))
		return oa_refuse(response, OA_INVALID_PARAMETER);
	filter->environment = oa_environment_name(environment);
	return true;
}

/* Read the parameters that select keys. */
static bool
read_filter(const OaRequest *request, OaResponse *response,
			OaKeyFilter *filter)
{
	const char *cursor;

	if (!oa_find_parameter(request, response, "status", &filter->status))
		return false;
	if (filter->status != NULL && !is_shown_status(filter->status))
		return oa_refuse_parameter(response, "status", status_rule());
	if (!oa_read_time(request, response, "unused_since", NULL,
					  &filter->has_unused_since, &filter->unused_since) ||
		!read_environment(request, response, filter) ||
		!oa_read_limit(request, response, LIMIT_MAX, &filter->limit) ||
		!oa_find_parameter(request, response, "cursor", &cursor))
		return false;

	if (cursor != NULL)
		filter->after = oa_utf8_to_id(cursor);
	return true;
}

/* Append one key to the list. */
static void
append_key(const OaListedKey *key, void *argument)
{
	KeyPage    *page = argument;

	oa_begin_object(page->json);
	oa_write_key(page->json, key);
	appendStringInfoChar(page->json, '}');
	resetStringInfo(&page->last);
	appendBinaryStringInfo(&page->last, VARDATA_ANY(key->key_id),
						   VARSIZE_ANY_EXHDR(key->key_id));
}

void
oa_endpoint_list_keys(const OaRequest *request, OaResponse *response)
{
	OaKeyFilter filter = {0};
	OaKeyScanResult result;
	KeyPage		page = {&response->body};
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!read_filter(request, response, &filter) ||
		!oa_check_member(request, response, uid))
		return;

	initStringInfo(&page.last);
	response->status = 200;
	appendStringInfoString(page.json, "{\"items\":[");
	result = oa_list_keys(request->org_id, &filter, append_key, &page);
	if (result == OA_KEYS_NO_START)
	{
		oa_refuse_parameter(response, "cursor",
							"must be the next_cursor of a list of this organization's keys");
		return;
	}
	appendStringInfoChar(page.json, ']');
	if (filter.limit > 0)
		oa_write_string(page.json, "next_cursor",
						result == OA_KEYS_MORE ? page.last.data : NULL);
	appendStringInfoChar(page.json, '}');
}
