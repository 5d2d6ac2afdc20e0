/*
 * postgrest_keys.c
 *		The functions of schema overten_api about single keys.
 *
 * How they work is in postgrest.c.  While overten_auth.key_features is empty,
 * there is nothing but DELETE on a key, and so they answer.
 */
#include "postgres.h"

#include "http/http.h"
#include "http/postgrest.h"

PG_FUNCTION_INFO_V1(overten_api_show_api_key);
PG_FUNCTION_INFO_V1(overten_api_change_api_key);

/* overten_api.show_api_key(org_id text, key_id text) returns json */
Datum
overten_api_show_api_key(PG_FUNCTION_ARGS)
{
	OaRequest	request = {
		.org_id = oa_path_argument(fcinfo, 0),
		.key_id = oa_path_argument(fcinfo, 1),
		.needs_feature = true,
	};

	return oa_answer_call(oa_endpoint_show_key, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.change_api_key(json) returns json */
Datum
overten_api_change_api_key(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.needs_feature = true};

	return oa_answer_call(oa_endpoint_change_key, fcinfo, 0, &request);
}
