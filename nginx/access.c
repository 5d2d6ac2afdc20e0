/*
 * access.c
 *		Stops a request until there is an answer about it, and lets it through or
 *		refuses it.
 *
 * nginx does not come to the access phase for subrequests.  What they reach is guarded
 * by the location of the main request, and if that asks nothing, they are refused
 * before.
 */
#include "overten_auth.h"

static ngx_http_output_header_filter_pt next_header_filter;

/* The request ends, with or without an answer. */
static void
forget_question(void *data)
{
	oa_stop_waiting(oa_places(), data);
}

/*
 * The question about a request, or NULL.  nginx clears the module's context at
 * internal redirects, but not what is to be cleaned up.
 */
OaQuestion *
oa_question_of(ngx_http_request_t *request)
{
	OaQuestion *question = ngx_http_get_module_ctx(request->main,
												   ngx_http_overten_auth_module);

	if (question != NULL || !request->main->internal)
		return question;
	for (ngx_pool_cleanup_t *cleanup = request->main->pool->cleanup;
		 cleanup != NULL; cleanup = cleanup->next)
		if (cleanup->handler == forget_question)
			return cleanup->data;
	return NULL;
}

/* Make the question about a request. */
static OaQuestion *
make_question(ngx_http_request_t *request)
{
	ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(request->pool,
													   sizeof(OaQuestion));
	OaQuestion *question;

	if (cleanup == NULL)
		return NULL;
	question = cleanup->data;
	ngx_memzero(question, sizeof(*question));
	question->request = request;
	cleanup->handler = forget_question;
	return question;
}

/* Ask a question that has been prepared. */
static ngx_int_t
ask(OaQuestion *question)
{
	ngx_http_request_t *request = question->request;
	ngx_event_t *client = request->connection->read;

	if (!oa_can_ask())
		return oa_refuse_outage(request);
	if (oa_wait(oa_places(), question) != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	question->status = 0;
	/* Notice a client that goes away, or has gone with its request. */
	request->read_event_handler = ngx_http_test_reading;
	if (client->ready && !client->posted)
	{
		ngx_post_event(client, &ngx_posted_events);
	}
	oa_ask_soon();
	return NGX_AGAIN;
}

/* Ask about a request for the first time. */
static ngx_int_t
ask_first(ngx_http_request_t *request, ngx_str_t query)
{
	OaQuestion *question = make_question(request);
	ngx_int_t	read;

	if (question == NULL)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	question->query = query;
	read = oa_read_request(question);
	if (read == NGX_DECLINED)
		return oa_refuse_malformed(request);
	if (read != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	ngx_http_set_ctx(request, question, ngx_http_overten_auth_module);
	return ask(question);
}

/*
 * Decide about a request whose question has been answered.  Another location, where
 * an internal redirect has led to, may take something else, so that it is asked about
 * again; but nothing is taken twice for the same.
 */
static ngx_int_t
decide(OaQuestion *question, ngx_str_t query)
{
	ngx_http_request_t *request = question->request;

	if (question->status != NGX_HTTP_OK)
		return oa_refuse(question);
	if (query.len != question->query.len ||
		ngx_memcmp(query.data, question->query.data, query.len) != 0)
	{
		question->query = query;
		return ask(question);
	}
	request->read_event_handler = ngx_http_block_reading;
	if (oa_tell_service(question) != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	return NGX_OK;
}

/* May a request go on?  Called in nginx's access phase. */
static ngx_int_t
access_handler(ngx_http_request_t *request)
{
	OaLocation *location = ngx_http_get_module_loc_conf(request,
														ngx_http_overten_auth_module);
	OaQuestion *question;
	ngx_str_t	query;

	if (!location->enabled)
		return NGX_DECLINED;
	question = oa_question_of(request);
	if (question != NULL && question->place != NULL)
		return NGX_AGAIN;
	if (question != NULL && question->status != 0 &&
		question->status != NGX_HTTP_OK)
		return oa_refuse(question);
	if (oa_read_demand(request, &query) != NGX_OK)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	return question == NULL ? ask_first(request, query) :
		decide(question, query);
}

/*
 * What comes before any decision about access.  A request that goes on without our
 * handler, because "satisfy any" has it so or because it is a subrequest, must not
 * reach a service with headers that look like ours.
 */
static ngx_int_t
preaccess_handler(ngx_http_request_t *request)
{
	OaLocation *location = ngx_http_get_module_loc_conf(request,
														ngx_http_overten_auth_module);
	OaQuestion *question;

	if (!location->enabled)
		return NGX_DECLINED;
	question = oa_question_of(request);
	if (request == request->main)
		return question != NULL || oa_remove_forged(request) == NGX_OK ?
			NGX_DECLINED : NGX_HTTP_INTERNAL_SERVER_ERROR;
	if (question != NULL && question->status == NGX_HTTP_OK)
		return NGX_DECLINED;
	ngx_log_error(NGX_LOG_ERR, request->connection->log, 0,
				  "overten_auth: a subrequest to \"%V\" is refused, because its request was not asked about",
				  &request->uri);
	return NGX_HTTP_FORBIDDEN;
}

/* Tell the client of an admitted request what its limit leaves, whatever it gets. */
static ngx_int_t
limit_filter(ngx_http_request_t *request)
{
	static const ngx_str_t limit = ngx_string("RateLimit");
	static const ngx_str_t policy = ngx_string("RateLimit-Policy");
	OaQuestion *question = oa_question_of(request);

	if (request == request->main && question != NULL && question->status == NGX_HTTP_OK &&
		question->limit.len > 0 &&
		(oa_add_header(request, limit, question->limit) != NGX_OK ||
		 oa_add_header(request, policy, question->policy) != NGX_OK))
		return NGX_ERROR;
	return next_header_filter(request);
}

/* Have a handler called in a phase after the others: nginx calls the first one last. */
static ngx_int_t
install_handler(ngx_http_core_main_conf_t *core, ngx_uint_t phase,
				ngx_http_handler_pt handler)
{
	ngx_array_t *installed = &core->phases[phase].handlers;
	ngx_http_handler_pt *handlers;

	if (ngx_array_push(installed) == NULL)
		return NGX_ERROR;
	handlers = installed->elts;
	ngx_memmove(handlers + 1, handlers,
				(installed->nelts - 1) * sizeof(ngx_http_handler_pt));
	handlers[0] = handler;
	return NGX_OK;
}

/*
 * Have the handlers called, and the filter.  What nginx refuses by itself must not take
 * anything of a limit, so we ask last.
 */
ngx_int_t
oa_install_handlers(ngx_conf_t *cf)
{
	ngx_http_core_main_conf_t *core;

	core = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
	if (install_handler(core, NGX_HTTP_PREACCESS_PHASE, preaccess_handler) != NGX_OK ||
		install_handler(core, NGX_HTTP_ACCESS_PHASE, access_handler) != NGX_OK)
		return NGX_ERROR;
	next_header_filter = ngx_http_top_header_filter;
	ngx_http_top_header_filter = limit_filter;
	return NGX_OK;
}
