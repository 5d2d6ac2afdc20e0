/*
 * usage_endpoint.c
 *		GET /organizations/{org_id}/api-keys/{key_id}/usage
 *
 * Returns the history of a key, and the anomalies in it that a person should
 * look at.  We check in the order of the contract: who asks, then the times,
 * then the org, then the key.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "http/http.h"
#include "keys/keys.h"
#include "server/server.h"
#include "text/text.h"

#define PERIOD_MAX (31 * USECS_PER_DAY)

/* Read the period that the request asks about. */
static bool
read_period(const OaRequest *request, OaResponse *response, OaPeriod *period)
{
	bool		has_since;

	if (!oa_read_period(request, response, &has_since, period))
		return false;
	return period->until - period->since <= PERIOD_MAX ||
		oa_refuse_parameter(response, "since",
							"must not be more than 31 days before until, which is now unless given");
}

/* Append one hour and address. */
static void
append_usage(const OaUsageHour *usage, void *json)
{
	oa_begin_object(json);
	oa_write_time(json, "hour", usage->hour, false);
	oa_write_string(json, "client_addr", usage->client_addr);
	oa_write_integer(json, "accepted", usage->accepted);
	oa_write_integer(json, "refused", usage->refused);
	if (oa_has_feature(OA_ALL_FEATURES))
		oa_write_integer(json, "limited", usage->limited);
	oa_write_time(json, "first_used_at", usage->first_used_at, false);
	oa_write_time(json, "last_used_at", usage->last_used_at, false);
	appendStringInfoChar(json, '}');
}

/* Append one anomaly. */
static void
append_anomaly(const OaAnomaly *anomaly, void *json)
{
	oa_begin_object(json);
	oa_write_text(json, "kind", anomaly->kind);
	oa_write_string(json, "client_addr", anomaly->client_addr);
	oa_write_time(json, "first_at", anomaly->first_at, false);
	oa_write_time(json, "last_at", anomaly->last_at, false);
	oa_write_integer(json, "observed", anomaly->observed);
	oa_write_name(json, "expected");
	appendStringInfoString(json, anomaly->expected);
	oa_write_time(json, "reference_at", anomaly->reference_at,
				  anomaly->has_no_reference);
	oa_write_text(json, "detail", anomaly->detail);
	appendStringInfoChar(json, '}');
}

void
oa_endpoint_key_usage(const OaRequest *request, OaResponse *response)
{
	StringInfo	json = &response->body;
	OaPeriod	period;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!read_period(request, response, &period) ||
		!oa_check_member(request, response, uid))
		return;

	response->status = 200;
	appendStringInfoString(json, "{\"items\":[");
	if (!oa_key_usage(request->org_id, request->key_id, &period, append_usage,
					  json))
	{
		oa_refuse(response, OA_KEY_NOT_FOUND);
		return;
	}
	appendStringInfoString(json, "],\"anomalies\":[");
	oa_key_anomalies(request->key_id, append_anomaly, json);
	appendStringInfoString(json, "]}");
}
