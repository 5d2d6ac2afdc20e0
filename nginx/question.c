/*
 * question.c
 *		What we ask about a request: what the location says that it takes, and the
 *		headers with the credential of the client.
 *
 * The extension decides about the credential; here it becomes a text that every
 * database can take.
 */
#include "overten_auth.h"

static const ngx_str_t cost_name = ngx_string("cost=");
static const ngx_str_t scope_name = ngx_string("&scope=");
static const ngx_str_t one = ngx_string("1");

/* Append a string. */
static u_char *
put(u_char *to, ngx_str_t text)
{
	return ngx_cpymem(to, text.data, text.len);
}

static u_char *
put_encoded(u_char *to, ngx_str_t text)
{
	return (u_char *) ngx_escape_uri(to, text.data, text.len,
									 NGX_ESCAPE_URI_COMPONENT);
}

static ngx_int_t
evaluate(ngx_http_request_t *request, ngx_http_complex_value_t *value,
		 ngx_str_t *result)
{
	ngx_str_null(result);
	return value == NULL ? NGX_OK :
		ngx_http_complex_value(request, value, result);
}

/* Read what the location of a request says that it takes: the query of a question. */
ngx_int_t
oa_read_demand(ngx_http_request_t *request, ngx_str_t *query)
{
	OaLocation *location = ngx_http_get_module_loc_conf(request,
														ngx_http_overten_auth_module);
	ngx_str_t	cost;
	ngx_str_t	scope;
	u_char	   *end;

	if (evaluate(request, location->cost, &cost) != NGX_OK ||
		evaluate(request, location->scope, &scope) != NGX_OK)
		return NGX_ERROR;
	if (cost.len == 0)
		cost = one;
	query->data = ngx_pnalloc(request->pool, cost_name.len + scope_name.len +
							  3 * (cost.len + scope.len) + 1);
	if (query->data == NULL)
		return NGX_ERROR;
	end = put_encoded(put(query->data, cost_name), cost);
	end = put_encoded(put(end, scope_name), scope);
	*end = '\0';
	query->len = end - query->data;
	return NGX_OK;
}

static OaText
text_of(ngx_str_t string)
{
	return oa_text((const char *) string.data, string.len);
}

/* The credentials of a request. */
typedef struct Credentials
{
	ngx_flag_t	is_given;		/* is there an Authorization? */
	ngx_str_t	given;			/* nginx lets no second one pass */
	ngx_int_t	moved_count;	/* headers X-Overten-Authorization */
	ngx_str_t	moved;			/* the first one */
	ngx_int_t	key_count;		/* headers for keys alone */
	ngx_str_t	key;			/* the first one */
} Credentials;

static ngx_flag_t
is_named(const ngx_table_elt_t *header, ngx_str_t name)
{
	return header->key.len == name.len &&
		ngx_strncasecmp(header->key.data, name.data, name.len) == 0;
}

static void
find_credentials(ngx_http_request_t *request, Credentials *credentials)
{
	static const ngx_str_t given = ngx_string("authorization");
	static const ngx_str_t moved = ngx_string("x-overten-authorization");
	OaLocation *location = ngx_http_get_module_loc_conf(request,
														ngx_http_overten_auth_module);

	ngx_memzero(credentials, sizeof(*credentials));
	for (ngx_list_part_t *part = &request->headers_in.headers.part;
		 part != NULL; part = part->next)
	{
		ngx_table_elt_t *headers = part->elts;

		for (ngx_uint_t i = 0; i < part->nelts; i++)
		{
			if (is_named(&headers[i], given))
			{
				credentials->is_given = 1;
				credentials->given = headers[i].value;
			}
			if (is_named(&headers[i], moved) &&
				credentials->moved_count++ == 0)
				credentials->moved = headers[i].value;
			if (is_named(&headers[i], location->api_key_header) &&
				credentials->key_count++ == 0)
				credentials->key = headers[i].value;
		}
	}
}

/* Does the client contradict itself?  Empty headers count as none. */
static ngx_flag_t
are_two(const Credentials *credentials)
{
	const ngx_str_t *given = &credentials->given;
	const ngx_str_t *moved = &credentials->moved;

	return given->len > 0 &&
		(credentials->moved_count > 1 ||
		 (moved->len > 0 &&
		  (given->len != moved->len ||
		   ngx_memcmp(given->data, moved->data, given->len) != 0)));
}

/*
 * What we ask with in the place of a header for keys alone.  The extension refuses a
 * comma, which no key has, as more than one credential.
 */
static OaText
plain_key(const Credentials *credentials)
{
	OaText		key = text_of(credentials->key);

	return credentials->key_count > 1 || oa_has_comma(key) ?
		oa_text(",", 1) : oa_plain_credential(key);
}

/* Append a header to a JSON object, with a comma before it. */
static char *
put_header(char *to, const char *name, OaText value)
{
	*to++ = ',';
	to = oa_put_string(to, oa_text(name, ngx_strlen(name)));
	*to++ = ':';
	return oa_put_string(to, value);
}

/*
 * Read the headers that a question has.  Returns NGX_DECLINED if HTTP does not allow
 * the request, though nginx does.
 */
ngx_int_t
oa_read_request(OaQuestion *question)
{
	static const char client[] = "x-overten-client-addr";
	static const char authorization[] = "authorization";
	static const char moved[] = "x-overten-authorization";
	static const char contradiction[] = "another";
	static const char api_key[] = "x-overten-api-key";
	ngx_http_request_t *request = question->request;
	OaText		address = text_of(request->connection->addr_text);
	Credentials credentials;
	OaText		given;
	OaText		key;
	char	   *end;

	find_credentials(request, &credentials);
	given = text_of(credentials.given);
	if (oa_has_control(given) ||
		oa_has_control(text_of(credentials.moved)) ||
		oa_has_control(text_of(credentials.key)) ||
		!oa_is_visible(text_of(request->unparsed_uri)))
		return NGX_DECLINED;

	given = oa_plain_credential(given);
	key = plain_key(&credentials);
	question->headers.data =
		ngx_pnalloc(request->pool, sizeof(client) + sizeof(authorization) +
					sizeof(moved) + sizeof(contradiction) + sizeof(api_key) +
					OA_STRING_MAX(address.length) +
					OA_STRING_MAX(given.length) + OA_STRING_MAX(key.length) + 32);
	if (question->headers.data == NULL)
		return NGX_ERROR;
	end = put_header((char *) question->headers.data, client, address);
	if (credentials.is_given)
		end = put_header(end, authorization, given);
	if (are_two(&credentials))
		end = put_header(end, moved,
						 oa_text(contradiction, sizeof(contradiction) - 1));
	if (credentials.key_count > 0)
		end = put_header(end, api_key, key);
	question->headers.data[0] = '{';
	*end++ = '}';
	*end = '\0';
	question->headers.len = end - (char *) question->headers.data;
	return NGX_OK;
}
