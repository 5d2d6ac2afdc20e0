/*
 * http_request.c
 *		overten_handle_request(): one HTTP exchange in one call.
 *
 * We check a request in the order of the contract: the length of its path, its
 * route, its method, its headers, the type and size of its body, its
 * credential; then its endpoint runs.  Each step can end the request with a
 * problem.  We return the whole response, even for an error, so that the HTTP
 * layer only has to pass it on.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "http/http.h"
#include "server/server.h"

#define BASE_PATH		"/api/v1"
#define SEGMENTS_MAX	5
#define METHOD_MAX		32		/* bytes; no method of ours is longer */

enum
{
	ARGUMENT_METHOD, ARGUMENT_PATH, ARGUMENT_HEADERS, ARGUMENT_BODY
};

typedef struct Method
{
	const char *name;
	OaEndpoint	endpoint;
	bool		takes_body;
} Method;

typedef struct Route
{
	const char *segments[SEGMENTS_MAX]; /* "" stands for an id */
	const char *allow;
	Method		methods[4];
	int			features;		/* the route is there if one of them is on; 0
								 * for always */
} Route;

/*
 * A route can have at most SEGMENTS_MAX segments and two ids, the first an
 * org's and the second a key's (see route_matches()).
 */
static const Route routes[] = {
	{
		{"verify"},
		"GET, HEAD",
		{{"GET", oa_endpoint_verify}, {"HEAD", oa_endpoint_verify}}
	},
	{
		{"features"},
		"GET, HEAD",
		{{"GET", oa_endpoint_features}, {"HEAD", oa_endpoint_features}}
	},
	{
		{"signup"},
		"POST",
		{{"POST", oa_endpoint_signup, true}}
	},
	{
		{"invitations", "accept"},
		"POST",
		{{"POST", oa_endpoint_accept_invitation, true}}
	},
	{
		{"organizations"},
		"GET, HEAD",
		{{"GET", oa_endpoint_list_orgs}, {"HEAD", oa_endpoint_list_orgs}}
	},
	{
		{"organizations", ""},
		"DELETE, PATCH",
		{
			{"DELETE", oa_endpoint_close_org},
			{"PATCH", oa_endpoint_rename_org, true}
		}
	},
	{
		{"organizations", "", "members"},
		"GET, HEAD",
		{{"GET", oa_endpoint_list_members}, {"HEAD", oa_endpoint_list_members}}
	},
	{
		{"organizations", "", "members", ""},
		"DELETE",
		{{"DELETE", oa_endpoint_remove_member}}
	},
	{
		{"organizations", "", "invitations"},
		"GET, HEAD, POST",
		{
			{"GET", oa_endpoint_list_invitations},
			{"HEAD", oa_endpoint_list_invitations},
			{"POST", oa_endpoint_invite, true}
		}
	},
	{
		{"organizations", "", "invitations", ""},
		"DELETE",
		{{"DELETE", oa_endpoint_withdraw_invitation}}
	},
	{
		{"organizations", "", "audit-log"},
		"GET, HEAD",
		{{"GET", oa_endpoint_audit_log}, {"HEAD", oa_endpoint_audit_log}}
	},
	{
		{"organizations", "", "limits"},
		"GET, HEAD",
		{{"GET", oa_endpoint_limits}, {"HEAD", oa_endpoint_limits}}
	},
	{
		{"organizations", "", "credits"},
		"GET, HEAD",
		{{"GET", oa_endpoint_credits}, {"HEAD", oa_endpoint_credits}}
	},
	{
		{"organizations", "", "usage"},
		"GET, HEAD",
		{{"GET", oa_endpoint_org_usage}, {"HEAD", oa_endpoint_org_usage}}
	},
	{
		{"organizations", "", "webhook-secret", "rotate"},
		"POST",
		{{"POST", oa_endpoint_rotate_secret, true}}
	},
	{
		{"organizations", "", "api-keys"},
		"GET, HEAD, POST",
		{
			{"GET", oa_endpoint_list_keys},
			{"HEAD", oa_endpoint_list_keys},
			{"POST", oa_endpoint_create_key, true}
		}
	},
	{
		{"organizations", "", "api-keys", ""},
		"DELETE, GET, HEAD, PATCH",
		{
			{"DELETE", oa_endpoint_revoke_key},
			{"GET", oa_endpoint_show_key},
			{"HEAD", oa_endpoint_show_key},
			{"PATCH", oa_endpoint_change_key, true}
		},
		OA_ALL_FEATURES
	},
	{
		{"organizations", "", "api-keys", ""},
		"DELETE",
		{{"DELETE", oa_endpoint_revoke_key}}
	},
	{
		{"organizations", "", "api-keys", "", "usage"},
		"GET, HEAD",
		{{"GET", oa_endpoint_key_usage}, {"HEAD", oa_endpoint_key_usage}}
	},
	{
		{"organizations", "", "api-keys", "", "rotate"},
		"POST",
		{{"POST", oa_endpoint_rotate_key, true}},
		OA_FEATURE_ROTATION
	},
	{
		{"organizations", "", "api-keys", "", "rotation"},
		"GET, HEAD",
		{
			{"GET", oa_endpoint_show_rotation},
			{"HEAD", oa_endpoint_show_rotation}
		},
		OA_FEATURE_ROTATION
	},
};

PG_FUNCTION_INFO_V1(overten_handle_request);
PG_FUNCTION_INFO_V1(overten_handle_request_bytes);

/*
 * Compare a path, from after the base path up to the query string, with a
 * route.  If they match, set the request's ids and query string.  We do not
 * decode ids: existing ones need no percent-encoding.
 */
static bool
route_matches(const char *path, const Route *route, OaRequest *request)
{
	text	   *ids[2] = {NULL, NULL};
	int			found = 0;

	for (int i = 0; i < SEGMENTS_MAX && route->segments[i] != NULL; i++)
	{
		const char *expected = route->segments[i];
		size_t		length;

		if (*path++ != '/')
			return false;
		length = strcspn(path, "/?");
		if (length == 0)
			return false;
		if (*expected == '\0')
			ids[found++] = cstring_to_text_with_len(path, (int) length);
		else if (length != strlen(expected) ||
				 strncmp(path, expected, length) != 0)
			return false;
		path += length;
	}
	if (*path != '\0' && *path != '?')
		return false;

	request->org_id = ids[0];
	request->key_id = ids[1];
	request->item_id = ids[1];
	request->query = *path == '?' ? path + 1 : "";
	return true;
}

/* Find the route of a path.  Returns NULL if there is none. */
static const Route *
find_route(const char *path, OaRequest *request)
{
	if (strncmp(path, BASE_PATH, strlen(BASE_PATH)) != 0)
		return NULL;

	for (int i = 0; i < lengthof(routes); i++)
	{
		const Route *route = &routes[i];

		if ((route->features == 0 || oa_has_feature(route->features)) &&
			route_matches(path + strlen(BASE_PATH), route, request))
			return route;
	}
	return NULL;
}

/* Find a method of a route.  Returns NULL if the route does not have it. */
static const Method *
find_method(const Route *route, const char *name)
{
	for (int i = 0; i < lengthof(route->methods); i++)
	{
		const Method *method = &route->methods[i];

		if (method->name != NULL && strcmp(method->name, name) == 0)
			return method;
	}
	return NULL;
}

/* Does a Content-Type header say JSON, with any parameters? */
static bool
is_json_type(const char *value)
{
	static const char json[] = "application/json";
	size_t		length = strlen(json);

	return value != NULL && pg_strncasecmp(value, json, length) == 0 &&
		strchr("; \t", value[length]) != NULL;
}

/*
 * Answer a request, with the arguments of overten_handle_request().  We do not
 * read an argument that is longer than a request allows.
 */
static void
handle_request(FunctionCallInfo fcinfo, bool body_is_utf8,
			   const char *method_name, OaResponse *response)
{
	OaRequest	request = {0};
	OaHeaders	headers;
	const Route *route;
	const Method *method;
	const char *bytes;
	char	   *content_type;
	int			length;
	bool		too_large;

	if (!oa_bounded_argument(fcinfo, ARGUMENT_PATH, OA_PATH_MAX, &bytes,
							 &length))
	{
		response->problem = OA_PATH_TOO_LONG;
		return;
	}
	route = find_route(pnstrdup(bytes, length), &request);
	if (route == NULL)
	{
		response->problem = OA_NOT_FOUND;
		return;
	}

	method = find_method(route, method_name);
	if (method == NULL)
	{
		response->problem = OA_METHOD_NOT_ALLOWED;
		response->allow = route->allow;
		return;
	}

	if (!oa_bounded_argument(fcinfo, ARGUMENT_HEADERS, OA_HEADERS_MAX, &bytes,
							 &length) ||
		!oa_read_headers(length > 0 ? bytes : "{}", length > 0 ? length : 2,
						 &headers) ||
		!oa_read_header(&headers, "content-type", &content_type))
	{
		response->problem = OA_UNREADABLE_HEADERS;
		return;
	}

	too_large = !oa_bounded_argument(fcinfo, ARGUMENT_BODY, OA_BODY_MAX,
									 &bytes, &length);
	if (method->takes_body && (too_large || length > 0) &&
		!is_json_type(content_type))
	{
		response->problem = OA_UNSUPPORTED_MEDIA_TYPE;
		return;
	}
	if (too_large)
	{
		response->problem = OA_PAYLOAD_TOO_LARGE;
		return;
	}
	oa_read_body(bytes, length, body_is_utf8, &request);

	request.headers = &headers;
	request.client = oa_read_client_addr(&headers);
	response->problem = oa_read_bearer(&headers, &request);
	if (response->problem == OA_NO_PROBLEM)
		method->endpoint(&request, response);
}

/*
 * Answer a request.  The two functions below differ in the type of the body.
 */
static Datum
answer_request(FunctionCallInfo fcinfo, bool body_is_utf8)
{
	ErrorContextCallback secrecy;
	OaResponse	response;
	const char *method = "";
	const char *bytes;
	int			length;
	Datum		result;

	oa_secrecy_begin(&secrecy);
	oa_response_init(&response);
	oa_require_argument(fcinfo, ARGUMENT_METHOD, "method");
	oa_require_argument(fcinfo, ARGUMENT_PATH, "path");
	if (oa_bounded_argument(fcinfo, ARGUMENT_METHOD, METHOD_MAX, &bytes,
							&length))
		method = pnstrdup(bytes, length);
	handle_request(fcinfo, body_is_utf8, method, &response);
	oa_write_problem(&response);
	result = oa_return_response(fcinfo, &response,
								strcmp(method, "HEAD") != 0);
	oa_secrecy_end(&secrecy);
	return result;
}

/*
 * overten_handle_request(method text, path text, headers json, body bytea)
 * 		returns overten_auth.http_response (status, headers, body)
 *
 * The path begins with /api/v1 and may have a query string.  The headers are
 * an object with lower-case names.  The body is as the client sent it; NULL
 * and an empty body both mean that there is no body.  The response to HEAD has
 * no body.  Raises 22004 if method or path is NULL.
 */
Datum
overten_handle_request_bytes(PG_FUNCTION_ARGS)
{
	return answer_request(fcinfo, true);
}

/*
 * Likewise, with a body of type text.  If a client's body is not valid in the
 * database's encoding, the server rejects the call.
 */
Datum
overten_handle_request(PG_FUNCTION_ARGS)
{
	return answer_request(fcinfo, false);
}
