/*
 * http.h
 *		The HTTP API: requests, responses and the endpoints.
 */
#ifndef OA_HTTP_H
#define OA_HTTP_H

#include "overten_auth.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "keys/keys.h"
#include "members/members.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "settings.h"
#include "text/text.h"

/* Requests and responses, as http_request.c and postgrest.c make them. */
#define OA_PATH_MAX		8192	/* bytes, with the query string */
#define OA_HEADERS_MAX	(256 * 1024)	/* more than HTTP layers accept */
#define OA_BODY_MAX		(16 * 1024)

/* The headers of a request, as request_headers.c reads them. */
typedef struct OaHeaders
{
	char	   *json;			/* an object, in UTF-8 */
	OaJsonNode *nodes;
} OaHeaders;

typedef struct OaRequest
{
	const OaHeaders *headers;
	const char *bearer;			/* from the Authorization header */
	int			bearer_length;
	bool		is_key_header;	/* from a header for keys alone, instead */
	const OaClientAddr *client; /* NULL if no header tells */
	text	   *org_id;			/* from the path, or NULL */
	text	   *key_id;
	text	   *item_id;		/* of a member or an invitation, as it came */
	int			features;		/* for PostgREST: the request is there if one
								 * of them is on; 0 for always */
	OaProblem	without;		/* else this is the answer */
	const char *query;			/* after the path's "?"; if NULL, see below */
	const char *since;			/* decoded parameters, if query is NULL */
	const char *until;
	const char *body;			/* in UTF-8 and NUL-terminated, or NULL */
	bool		is_json;		/* is the body JSON of any type? */
	const OaJsonNode *members;	/* of the body; NULL if not an object */
} OaRequest;

#define OA_RESPONSE_HEADERS_MAX	8

typedef struct OaHeader
{
	const char *name;			/* in lower case */
	const char *value;
} OaHeader;

typedef struct OaResponse
{
	OaProblem	problem;
	OaFault		fault;			/* for OA_INVALID_PARAMETER */
	const char *allow;			/* allowed methods, for OA_METHOD_NOT_ALLOWED */
	text	   *org_id;			/* ids that belong to the problem, or NULL */
	text	   *key_id;
	int64		retry_after;	/* seconds, in the body; 0: it is not there */
	OaHeader	headers[OA_RESPONSE_HEADERS_MAX];	/* of oa_add_header() */
	int			header_count;
	int			status;
	StringInfoData body;		/* JSON in the server's encoding, or empty */
} OaResponse;

/* The rule for what overten_auth.key_features does not have. */
#define OA_NOT_OFFERED \
	"must be left out, because the service does not offer it"

/*
 * Note what is wrong with the request.  Returns false, so that checks can
 * return it.
 */
static inline bool
oa_refuse(OaResponse *response, OaProblem problem)
{
	response->problem = problem;
	return false;
}

/* Likewise for a parameter; see OaFault for "rule". */
static inline bool
oa_refuse_parameter(OaResponse *response, const char *param, const char *rule)
{
	response->fault.param = param;
	response->fault.rule = rule;
	return oa_refuse(response, OA_INVALID_PARAMETER);
}

/* request_headers.c: the headers of a request */
extern bool oa_read_headers(const char *json, int length, OaHeaders *headers);
extern bool oa_read_header(const OaHeaders *headers, const char *name,
						   char **value);
extern OaProblem oa_read_bearer(const OaHeaders *headers, OaRequest *request);

/* http_client_addr.c */
extern const OaClientAddr *oa_read_client_addr(const OaHeaders *headers);

/* request_body.c: the members of a request's object */
extern void oa_read_body(const char *body, int length, bool is_utf8,
						 OaRequest *request);
extern bool oa_require_object(const OaRequest *request, OaResponse *response);
extern const OaJsonNode *oa_find_member(const OaRequest *request,
										const char *name);
extern bool oa_read_reference(const OaRequest *request, OaResponse *response,
							  const char *name, text **value);
extern bool oa_read_name(const OaRequest *request, OaResponse *response,
						 const char *name, int max_characters, text **value);
extern bool oa_read_integer(const OaRequest *request, OaResponse *response,
							const char *name, int min, int max, int *value);
extern bool oa_require_member(OaResponse *response, const char *name,
							  const text *value);

/* query_string.c: the parameters of a query string */
typedef enum OaQueryResult
{
	OA_QUERY_ABSENT,
	OA_QUERY_FOUND,
	OA_QUERY_TWICE,
	OA_QUERY_NOT_DECODABLE,		/* the parameter's value */
	OA_QUERY_NOT_PRINTABLE		/* the query as a whole */
} OaQueryResult;

extern OaQueryResult oa_query_parameter(const char *query, const char *name,
										char *value);
extern bool oa_percent_decode(const char *encoded, const char *end,
							  char *value);

/* parameters.c: the parameters that endpoints take */
extern bool oa_find_parameter(const OaRequest *request, OaResponse *response,
							  const char *name, const char **value);
extern bool oa_read_period(const OaRequest *request, OaResponse *response,
						   bool *has_since, OaPeriod *period);
extern bool oa_read_time(const OaRequest *request, OaResponse *response,
						 const char *name, const char *value, bool *given,
						 TimestampTz *time);
extern bool oa_read_limit(const OaRequest *request, OaResponse *response,
						  int max, int *limit);
extern bool oa_refuse_cursor(OaResponse *response);
extern bool oa_read_reason(const OaRequest *request, OaResponse *response,
						   text **reason);

/* response_headers.c: status, headers and error bodies of responses */
typedef void (*OaHeaderCallback) (const char *name, const char *value,
								  void *argument);

extern void oa_response_init(OaResponse *response);
extern void oa_add_header(OaResponse *response, const char *name,
						  const char *value);
extern void oa_write_problem(OaResponse *response);
extern void oa_each_response_header(const OaResponse *response,
									OaHeaderCallback callback, void *argument);

/* response_row.c */
extern Datum oa_return_response(FunctionCallInfo fcinfo,
								const OaResponse *response, bool with_body);

/* response_json.c: writing the JSON of responses */
extern void oa_begin_object(StringInfo json);
extern void oa_write_quoted(StringInfo json, const char *value, int length);
extern void oa_write_name(StringInfo json, const char *name);
extern void oa_write_string(StringInfo json, const char *name,
							const char *value);
extern void oa_write_text(StringInfo json, const char *name, text *value);
extern void oa_write_integer(StringInfo json, const char *name, int64 value);
extern void oa_write_boolean(StringInfo json, const char *name, bool value);
extern void oa_write_time(StringInfo json, const char *name, TimestampTz time,
						  bool isnull);

/* endpoints.c: one function for each request of the API */
typedef void (*OaEndpoint) (const OaRequest *request, OaResponse *response);

extern bool oa_identify(const OaRequest *request, OaResponse *response,
						text **uid);
extern bool oa_can_write(OaResponse *response);
extern bool oa_check_member(const OaRequest *request, OaResponse *response,
							text *uid);

extern void oa_endpoint_signup(const OaRequest *request, OaResponse *response);
extern void oa_endpoint_create_key(const OaRequest *request,
								   OaResponse *response);
extern void oa_endpoint_revoke_key(const OaRequest *request,
								   OaResponse *response);
extern OaProblem oa_verify_bearer(const OaRequest *request,
								  bool knows_restrictions,
								  OaVerifiedKey *key);
extern void oa_endpoint_verify(const OaRequest *request, OaResponse *response);

/* key_json.c: keys as JSON */
extern bool oa_has_feature(int features);
extern void oa_write_key(StringInfo json, const OaListedKey *key);
extern void oa_write_details(StringInfo json, const OaKeyDetails *details);
extern void oa_write_new_key(StringInfo json, const OaOrgKey *key);

/* key_members.c: what requests give keys */
extern bool oa_find_feature(const OaRequest *request, OaResponse *response,
							const char *name, OaKeyFeature feature,
							const OaJsonNode **node);
extern bool oa_refuse_restrictions(const OaRequest *request,
								   OaResponse *response, const char *rule);
extern bool oa_read_grant(const OaRequest *request, OaResponse *response,
						  OaKeyGrant *grant);
extern bool oa_read_key_change(const OaRequest *request, OaResponse *response,
							   OaKeyChange *change);

/* detail_members.c: how requests call and describe keys */
extern bool oa_read_details(const OaRequest *request, OaResponse *response,
							OaKeyDetails *details);
extern bool oa_read_new_name(const OaRequest *request, OaResponse *response,
							 text **name);

/* key_endpoints.c */
extern void oa_endpoint_show_key(const OaRequest *request,
								 OaResponse *response);
extern void oa_endpoint_change_key(const OaRequest *request,
								   OaResponse *response);

/* key_list_endpoint.c */
extern void oa_endpoint_list_keys(const OaRequest *request,
								  OaResponse *response);

/* idempotency_key.c: how a client names a request that it may repeat */
extern bool oa_read_request_key(const OaRequest *request,
								OaResponse *response, const char *endpoint,
								const text *org_id, const text *key_id,
								OaRequestKey *storage,
								const OaRequestKey **key);

/* rotation_endpoints.c */
extern void oa_endpoint_rotate_key(const OaRequest *request,
								   OaResponse *response);
extern void oa_endpoint_show_rotation(const OaRequest *request,
									  OaResponse *response);

/* authorization.c */
extern void oa_authorize(OaRequest *request, OaResponse *response);

/* limits_endpoint.c */
extern int64 oa_whole_seconds(int64 microseconds);
extern void oa_endpoint_limits(const OaRequest *request,
							   OaResponse *response);

/* credits_endpoint.c */
extern void oa_endpoint_credits(const OaRequest *request,
								OaResponse *response);

/* usage_endpoint.c, org_usage_endpoint.c */
extern void oa_endpoint_key_usage(const OaRequest *request,
								  OaResponse *response);
extern void oa_endpoint_org_usage(const OaRequest *request,
								  OaResponse *response);

/* features_endpoint.c */
extern void oa_endpoint_features(const OaRequest *request,
								 OaResponse *response);

/* org_endpoints.c */
extern void oa_write_org(const OaOrg *org, void *json);
extern void oa_endpoint_list_orgs(const OaRequest *request,
								  OaResponse *response);
extern void oa_endpoint_rename_org(const OaRequest *request,
								   OaResponse *response);
extern void oa_endpoint_close_org(const OaRequest *request,
								  OaResponse *response);
extern void oa_endpoint_rotate_secret(const OaRequest *request,
									  OaResponse *response);

/* member_endpoints.c */
extern void oa_endpoint_list_members(const OaRequest *request,
									 OaResponse *response);
extern void oa_endpoint_remove_member(const OaRequest *request,
									  OaResponse *response);

/* invitation_endpoints.c */
extern void oa_endpoint_list_invitations(const OaRequest *request,
										 OaResponse *response);
extern void oa_endpoint_invite(const OaRequest *request,
							   OaResponse *response);
extern void oa_endpoint_withdraw_invitation(const OaRequest *request,
											OaResponse *response);
extern void oa_endpoint_accept_invitation(const OaRequest *request,
										  OaResponse *response);

/* audit_endpoint.c */
extern void oa_endpoint_audit_log(const OaRequest *request,
								  OaResponse *response);

#endif							/* OA_HTTP_H */
