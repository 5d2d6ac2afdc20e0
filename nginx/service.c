/*
 * service.c
 *		What the service is told of a request.
 */
#include "overten_auth.h"

const ngx_str_t oa_told_names[OA_TOLD] = {
	[OA_TOLD_KEY_ID] = ngx_string("X-Overten-Key-Id"),
	[OA_TOLD_ORG_ID] = ngx_string("X-Overten-Org-Id"),
	[OA_TOLD_TIER] = ngx_string("X-Overten-Tier"),
	[OA_TOLD_KEY_PREFIX] = ngx_string("X-Overten-Key-Prefix"),
};

static OaText
name_of(const ngx_table_elt_t *header)
{
	return oa_text((const char *) header->key.data, header->key.len);
}

/*
 * A header that is removed.  "key_header" is the name of the one in which keys come; it
 * is empty if there is none.
 */
typedef bool (*Removed) (OaText name, OaText key_header);

/* Is it a header that only we may send, and no credential? */
static bool
is_forged(OaText name, OaText key_header)
{
	return oa_is_ours(name) && !oa_is_credential(name);
}

/* Is it a header that the service must not see? */
static bool
is_hidden(OaText name, OaText key_header)
{
	return oa_is_ours(name) || oa_are_same_name(name, key_header);
}

static OaText
key_header_of(ngx_http_request_t *request)
{
	OaLocation *location = ngx_http_get_module_loc_conf(request,
														ngx_http_overten_auth_module);

	return oa_text((const char *) location->api_key_header.data,
				   location->api_key_header.len);
}

/* Has the request such a header? */
static ngx_flag_t
has_header(ngx_http_request_t *request, Removed is_such)
{
	OaText		key_header = key_header_of(request);

	for (ngx_list_part_t *part = &request->headers_in.headers.part;
		 part != NULL; part = part->next)
	{
		ngx_table_elt_t *headers = part->elts;

		for (ngx_uint_t i = 0; i < part->nelts; i++)
			if (is_such(name_of(&headers[i]), key_header))
				return 1;
	}
	return 0;
}

/* Remove all such headers from the request. */
static ngx_int_t
remove_headers(ngx_http_request_t *request, Removed is_such)
{
	OaText		key_header = key_header_of(request);
	ngx_list_t *headers = &request->headers_in.headers;
	ngx_list_part_t first = headers->part;

	if (ngx_list_init(headers, request->pool, 20,
					  sizeof(ngx_table_elt_t)) != NGX_OK)
		return NGX_ERROR;
	for (ngx_list_part_t *part = &first; part != NULL; part = part->next)
	{
		ngx_table_elt_t *given = part->elts;

		for (ngx_uint_t i = 0; i < part->nelts; i++)
		{
			ngx_table_elt_t *kept;

			if (is_such(name_of(&given[i]), key_header))
				continue;
			kept = ngx_list_push(headers);
			if (kept == NULL)
				return NGX_ERROR;
			*kept = given[i];
		}
	}
	return NGX_OK;
}

/*
 * Remove what a client has sent under our names.  Its credentials are left, to be
 * asked about.
 */
ngx_int_t
oa_remove_forged(ngx_http_request_t *request)
{
	if (!has_header(request, is_forged))
		return NGX_OK;
	return remove_headers(request, is_forged);
}

static ngx_int_t
tell(ngx_http_request_t *request, ngx_str_t name, ngx_str_t value)
{
	ngx_table_elt_t *header = ngx_list_push(&request->headers_in.headers);

	if (header == NULL)
		return NGX_ERROR;
	ngx_memzero(header, sizeof(*header));
	header->key = name;
	header->value = value;
	header->lowcase_key = ngx_pnalloc(request->pool, name.len);
	if (header->lowcase_key == NULL)
		return NGX_ERROR;
	header->hash = ngx_hash_strlow(header->lowcase_key, name.data, name.len);
	return NGX_OK;
}

/*
 * Change the headers of a request that may go on: whose key it is, in the place of
 * the credential, and of what we have told before a redirect.
 */
ngx_int_t
oa_tell_service(OaQuestion *question)
{
	ngx_http_request_t *request = question->request;

	if (remove_headers(request, is_hidden) != NGX_OK)
		return NGX_ERROR;
	for (int i = 0; i < OA_TOLD; i++)
		if (tell(request, oa_told_names[i], question->told[i]) != NGX_OK)
			return NGX_ERROR;
	return NGX_OK;
}
