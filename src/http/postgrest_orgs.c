/*
 * postgrest_orgs.c
 *		The functions of schema overten_api about orgs, people and the service.
 *
 * How they work is in postgrest.c.  The parameters of reports come in the
 * header x-overten-query alone.
 */
#include "postgres.h"

#include "http/http.h"
#include "http/postgrest.h"

PG_FUNCTION_INFO_V1(overten_api_features);
PG_FUNCTION_INFO_V1(overten_api_list_organizations);
PG_FUNCTION_INFO_V1(overten_api_rename_organization);
PG_FUNCTION_INFO_V1(overten_api_close_organization);
PG_FUNCTION_INFO_V1(overten_api_list_members);
PG_FUNCTION_INFO_V1(overten_api_remove_member);
PG_FUNCTION_INFO_V1(overten_api_list_invitations);
PG_FUNCTION_INFO_V1(overten_api_create_invitation);
PG_FUNCTION_INFO_V1(overten_api_withdraw_invitation);
PG_FUNCTION_INFO_V1(overten_api_accept_invitation);
PG_FUNCTION_INFO_V1(overten_api_audit_log);
PG_FUNCTION_INFO_V1(overten_api_organization_usage);
PG_FUNCTION_INFO_V1(overten_api_organization_limits);
PG_FUNCTION_INFO_V1(overten_api_organization_credits);
PG_FUNCTION_INFO_V1(overten_api_rotate_webhook_secret);

/* overten_api.features() returns json */
Datum
overten_api_features(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_features, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.list_organizations() returns json */
Datum
overten_api_list_organizations(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_list_orgs, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.rename_organization(json) returns json */
Datum
overten_api_rename_organization(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_rename_org, fcinfo, 0, &request);
}

/* overten_api.close_organization(json) returns void */
Datum
overten_api_close_organization(PG_FUNCTION_ARGS)
{
	return oa_answer_empty(oa_endpoint_close_org, fcinfo);
}

/* overten_api.list_members(org_id text) returns json */
Datum
overten_api_list_members(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.org_id = oa_path_argument(fcinfo, 0)};

	return oa_answer_call(oa_endpoint_list_members, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.remove_member(json) returns void */
Datum
overten_api_remove_member(PG_FUNCTION_ARGS)
{
	return oa_answer_empty(oa_endpoint_remove_member, fcinfo);
}

/* overten_api.list_invitations(org_id text) returns json */
Datum
overten_api_list_invitations(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.org_id = oa_path_argument(fcinfo, 0)};

	return oa_answer_call(oa_endpoint_list_invitations, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.create_invitation(json) returns json */
Datum
overten_api_create_invitation(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_invite, fcinfo, 0, &request);
}

/* overten_api.withdraw_invitation(json) returns void */
Datum
overten_api_withdraw_invitation(PG_FUNCTION_ARGS)
{
	return oa_answer_empty(oa_endpoint_withdraw_invitation, fcinfo);
}

/* overten_api.accept_invitation(json) returns json */
Datum
overten_api_accept_invitation(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_accept_invitation, fcinfo, 0, &request);
}

/* overten_api.audit_log(org_id text) returns json */
Datum
overten_api_audit_log(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.org_id = oa_path_argument(fcinfo, 0)};

	return oa_answer_call(oa_endpoint_audit_log, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.organization_usage(org_id text) returns json */
Datum
overten_api_organization_usage(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.org_id = oa_path_argument(fcinfo, 0)};

	return oa_answer_call(oa_endpoint_org_usage, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.organization_limits(org_id text) returns json */
Datum
overten_api_organization_limits(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.org_id = oa_path_argument(fcinfo, 0)};

	return oa_answer_call(oa_endpoint_limits, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.organization_credits(org_id text) returns json */
Datum
overten_api_organization_credits(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.org_id = oa_path_argument(fcinfo, 0)};

	return oa_answer_call(oa_endpoint_credits, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.rotate_webhook_secret(json) returns json */
Datum
overten_api_rotate_webhook_secret(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_rotate_secret, fcinfo, 0, &request);
}
