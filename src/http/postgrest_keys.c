/*
 * postgrest_keys.c
 *		The functions of schema overten_api about single keys.
 *
 * How they work is in postgrest.c.  While overten_auth.key_features is empty,
 * there is nothing but DELETE on a key, and so the first two answer.  The others
 * are not there while it lacks "rotation".
 */
#include "postgres.h"

#include "http/http.h"
#include "http/postgrest.h"

PG_FUNCTION_INFO_V1(overten_api_show_api_key);
PG_FUNCTION_INFO_V1(overten_api_change_api_key);
PG_FUNCTION_INFO_V1(overten_api_rotate_api_key);
PG_FUNCTION_INFO_V1(overten_api_key_rotation);

/* overten_api.show_api_key(org_id text, key_id text) returns json */
Datum
overten_api_show_api_key(PG_FUNCTION_ARGS)
{
	OaRequest	request = {
		.org_id = oa_path_argument(fcinfo, 0),
		.key_id = oa_path_argument(fcinfo, 1),
		.features = OA_ALL_FEATURES,
		.without = OA_METHOD_NOT_ALLOWED,
	};

	return oa_answer_call(oa_endpoint_show_key, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.change_api_key(json) returns json */
Datum
overten_api_change_api_key(PG_FUNCTION_ARGS)
{
	OaRequest	request = {
		.features = OA_ALL_FEATURES,
		.without = OA_METHOD_NOT_ALLOWED,
	};

	return oa_answer_call(oa_endpoint_change_key, fcinfo, 0, &request);
}

/* overten_api.rotate_api_key(json) returns json */
Datum
overten_api_rotate_api_key(PG_FUNCTION_ARGS)
{
	OaRequest	request = {
		.features = OA_FEATURE_ROTATION,
		.without = OA_NOT_FOUND,
	};

	return oa_answer_call(oa_endpoint_rotate_key, fcinfo, 0, &request);
}

/* overten_api.key_rotation(org_id text, key_id text) returns json */
Datum
overten_api_key_rotation(PG_FUNCTION_ARGS)
{
	OaRequest	request = {
		.org_id = oa_path_argument(fcinfo, 0),
		.key_id = oa_path_argument(fcinfo, 1),
		.features = OA_FEATURE_ROTATION,
		.without = OA_NOT_FOUND,
	};

	return oa_answer_call(oa_endpoint_show_rotation, fcinfo, OA_NO_BODY,
						  &request);
}
