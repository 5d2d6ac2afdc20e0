/*
 * answer.c
 *		What the database says about a request, and what the client is told.
 *
 * A refusal is the API's own answer: its status, its body, and those of its headers
 * that are for clients.  An answer that is neither a refusal nor an admission, which
 * only a mistake in the configuration gives, is an outage to the client.
 */
#include "overten_auth.h"

static ngx_str_t json_type = ngx_string("application/json");

/* What the client gets of the headers of a refusal; the names are as they are sent. */
static const ngx_str_t relayed[] = {
	ngx_string("Cache-Control"),
	ngx_string("WWW-Authenticate"),
	ngx_string("Retry-After"),
	ngx_string("RateLimit"),
	ngx_string("RateLimit-Policy"),
};

static const ngx_str_t malformed_body =
ngx_string("{\"error\":{\"code\":\"invalid_request\",\"message\":\"The request is not valid HTTP, or has more than one Authorization header.\"}}");
static const ngx_str_t outage_body =
ngx_string("{\"error\":{\"code\":\"service_unavailable\",\"message\":\"The service is not available at the moment.\"}}");

static ngx_flag_t
is_named(OaText name, ngx_str_t wanted)
{
	return name.length == wanted.len &&
		ngx_strncasecmp((u_char *) name.data, wanted.data, wanted.len) == 0;
}

static ngx_str_t
string_of(OaText text)
{
	ngx_str_t	string;

	string.len = text.length;
	string.data = (u_char *) text.data;

	return string;
}

/* Keep a header of a refusal for the client. */
static ngx_int_t
keep_refusal(OaQuestion *question, OaText name, OaText value)
{
	for (size_t i = 0; i < sizeof(relayed) / sizeof(relayed[0]); i++)
	{
		ngx_keyval_t *kept;

		if (!is_named(name, relayed[i]))
			continue;
		kept = ngx_array_push(&question->refusal);
		if (kept == NULL)
			return NGX_ERROR;
		kept->key = relayed[i];
		kept->value = string_of(value);
	}
	return NGX_OK;
}

/* Keep a header of an admission for the service. */
static void
keep_told(OaQuestion *question, OaText name, OaText value)
{
	static const ngx_str_t limit = ngx_string("RateLimit");
	static const ngx_str_t policy = ngx_string("RateLimit-Policy");

	for (int i = 0; i < OA_TOLD; i++)
		if (is_named(name, oa_told_names[i]))
			question->told[i] = string_of(value);
	if (is_named(name, limit))
		question->limit = string_of(value);
	if (is_named(name, policy))
		question->policy = string_of(value);
}

/* Read the headers of an answer.  Returns its status, or 503 if it is not for us. */
static ngx_uint_t
read_headers(OaQuestion *question, ngx_uint_t status, ngx_str_t json)
{
	static const ngx_str_t refusal = ngx_string("X-Overten-Refusal");
	OaHeaderReader reader = {
		.at = (char *) json.data,.end = (char *) json.data + json.len,.begun = false
	};
	ngx_flag_t	is_refusal = 0;
	OaReading	reading;
	OaText		name;
	OaText		value;

	while ((reading = oa_next_header(&reader, &name, &value)) == OA_HEADER)
	{
		is_refusal = is_refusal || is_named(name, refusal);
		if (status == NGX_HTTP_OK)
			keep_told(question, name, value);
		else if (keep_refusal(question, name, value) != NGX_OK)
			return NGX_HTTP_SERVICE_UNAVAILABLE;
	}
	if (reading == OA_NOT_HEADERS || is_refusal == (status == NGX_HTTP_OK))
		return NGX_HTTP_SERVICE_UNAVAILABLE;
	for (int i = 0; i < OA_TOLD; i++)
		if (status == NGX_HTTP_OK && question->told[i].data == NULL)
			return NGX_HTTP_SERVICE_UNAVAILABLE;
	return status;
}

/* Copy a value of a result.  Returns false if there is no memory. */
static ngx_flag_t
copy_value(ngx_pool_t *pool, const PGresult *result, int column, ngx_str_t *to)
{
	to->len = PQgetlength(result, 0, column);
	to->data = ngx_pnalloc(pool, to->len + 1);
	if (to->data == NULL)
		return 0;
	ngx_memcpy(to->data, PQgetvalue(result, 0, column), to->len);
	return 1;
}

/* Read the answer to a question. */
void
oa_read_answer(OaQuestion *question, const PGresult *result)
{
	ngx_pool_t *pool = question->request->pool;
	ngx_str_t	json;
	ngx_int_t	status;

	question->status = NGX_HTTP_SERVICE_UNAVAILABLE;
	ngx_memzero(question->told, sizeof(question->told));
	ngx_str_null(&question->limit);
	ngx_str_null(&question->policy);
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 ||
		PQnfields(result) != 3 || PQgetisnull(result, 0, 0))
		return;
	status = ngx_atoi((u_char *) PQgetvalue(result, 0, 0),
					  PQgetlength(result, 0, 0));
	if (status < NGX_HTTP_OK ||
		ngx_array_init(&question->refusal, pool, 4, sizeof(ngx_keyval_t)) != NGX_OK ||
		!copy_value(pool, result, 1, &json) ||
		!copy_value(pool, result, 2, &question->body))
		return;
	question->status = read_headers(question, status, json);
	if (question->status == NGX_HTTP_SERVICE_UNAVAILABLE)
		ngx_log_error(NGX_LOG_ERR, question->request->connection->log, 0,
					  "overten_auth: the database answers with status %i, which is no refusal: look at overten_auth_cost and overten_auth_scope",
					  status);
}

/* Add a header to the answer that the client gets. */
ngx_int_t
oa_add_header(ngx_http_request_t *request, ngx_str_t name, ngx_str_t value)
{
	ngx_table_elt_t *header = ngx_list_push(&request->headers_out.headers);

	if (header == NULL)
		return NGX_ERROR;
	ngx_memzero(header, sizeof(*header));
	header->hash = 1;
	header->key = name;
	header->value = value;
	return NGX_OK;
}

/* Send an answer of ours.  Its headers have been added. */
static ngx_int_t
send_answer(ngx_http_request_t *request, ngx_uint_t status, ngx_str_t body)
{
	ngx_http_complex_value_t value;

	ngx_memzero(&value, sizeof(value));
	value.value = body;
	ngx_http_finalize_request(request, ngx_http_send_response(request, status,
															  &json_type, &value));
	return NGX_DONE;
}

static ngx_int_t
add_no_store(ngx_http_request_t *request)
{
	static const ngx_str_t name = ngx_string("Cache-Control");
	static const ngx_str_t value = ngx_string("no-store");

	return oa_add_header(request, name, value);
}

/* Refuse a request that is not as HTTP has it. */
ngx_int_t
oa_refuse_malformed(ngx_http_request_t *request)
{
	if (add_no_store(request) != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	return send_answer(request, NGX_HTTP_BAD_REQUEST, malformed_body);
}

/* Refuse a request because nobody can be asked. */
ngx_int_t
oa_refuse_outage(ngx_http_request_t *request)
{
	static const ngx_str_t name = ngx_string("Retry-After");
	static const ngx_str_t value = ngx_string("1");

	if (add_no_store(request) != NGX_OK ||
		oa_add_header(request, name, value) != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	return send_answer(request, NGX_HTTP_SERVICE_UNAVAILABLE, outage_body);
}

/* Refuse a request with what the database has said. */
ngx_int_t
oa_refuse(OaQuestion *question)
{
	ngx_http_request_t *request = question->request;
	ngx_keyval_t *headers = question->refusal.elts;

	if (question->status == NGX_HTTP_SERVICE_UNAVAILABLE)
		return oa_refuse_outage(request);
	for (ngx_uint_t i = 0; i < question->refusal.nelts; i++)
		if (oa_add_header(request, headers[i].key, headers[i].value) != NGX_OK)
			return NGX_HTTP_INTERNAL_SERVER_ERROR;
	return send_answer(request, question->status, question->body);
}
