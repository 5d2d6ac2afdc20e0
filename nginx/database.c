/*
 * database.c
 *		A worker's connections to the database.
 *
 * Questions are asked once a turn of nginx's event loop, so that what has come
 * together is sent together.  They go round the links that are ready.
 */
#include "overten_auth.h"

static const OaSettings *settings;	/* NULL: this process has no links */
static OaLink *links;
static OaPlaces places;
static ngx_event_t ask_event;

/* The questions of this worker. */
OaPlaces   *
oa_places(void)
{
	return &places;
}

/* Can another question be asked, now or when a link has become ready? */
ngx_flag_t
oa_can_ask(void)
{
	if (settings == NULL || places.taken >= settings->max_waiting)
		return 0;
	for (ngx_int_t i = 0; i < settings->connections; i++)
		if (links[i].state != OA_DOWN)
			return 1;
	return 0;
}

/* Ask what waits, at the end of this turn. */
void
oa_ask_soon(void)
{
	if (!ask_event.posted)
	{
		ngx_post_event(&ask_event, &ngx_posted_events);
	}
}

/* Tell those who wait that there is an outage, unless a link may still get ready. */
void
oa_give_up_waiting(void)
{
	oa_fail_all(&places, &places.waiting);
}

/*
 * The next link that is ready, after the one that was the last time.  An old session is
 * asked nothing more, and makes room for a new one when it has answered.
 */
static OaLink *
next_ready(void)
{
	static ngx_int_t turn = 0;

	for (ngx_int_t i = 0; i < settings->connections; i++)
	{
		OaLink	   *link = &links[turn++ % settings->connections];

		if (link->state != OA_READY || link->broken)
			continue;
		if (!oa_link_is_old(link))
			return link;
		if (ngx_queue_empty(&link->asked))
			oa_link_renew(link);
	}
	return NULL;
}

/* Ask all that waits. */
static void
ask(ngx_event_t *event)
{
	OaLink	   *link;

	while (!ngx_queue_empty(&places.waiting) && (link = next_ready()) != NULL)
		oa_link_ask(link, ngx_queue_data(ngx_queue_head(&places.waiting),
										 OaPlace, queue));
	for (ngx_int_t i = 0; i < settings->connections; i++)
		if (links[i].state == OA_READY && !ngx_queue_empty(&links[i].asked))
			oa_link_flush(&links[i]);
}

/*
 * What each question asks.  The function is named with its schema, so that no
 * search_path finds another one.  An extension cannot be in a schema whose name has
 * quotes in it.
 */
static char *
make_statement(ngx_pool_t *pool, const ngx_str_t *schema)
{
	static const char form[] = "SELECT status, headers, body FROM \"%V\".overten_authorize_request($1, $2)%Z";
	u_char	   *statement = ngx_pnalloc(pool, sizeof(form) + schema->len);

	if (statement != NULL)
		ngx_sprintf(statement, form, schema);
	return (char *) statement;
}

/* Open the links of a worker.  The processes of the cache have none. */
ngx_int_t
oa_init_process(ngx_cycle_t *cycle)
{
	OaSettings *given = ngx_http_cycle_get_module_main_conf(cycle,
															ngx_http_overten_auth_module);
	char	   *statement;

	if (given == NULL || given->database.len == 0 ||
		(ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE))
		return NGX_OK;

	links = ngx_pcalloc(cycle->pool, given->connections * sizeof(OaLink));
	statement = make_statement(cycle->pool, &given->schema);
	if (links == NULL || statement == NULL)
		return NGX_ERROR;
	settings = given;
	oa_places_init(&places, settings->timeout, cycle->log);
	ask_event.handler = ask;
	ask_event.log = cycle->log;
	for (ngx_int_t i = 0; i < settings->connections; i++)
		oa_link_init(&links[i], settings, statement, cycle->log);
	for (ngx_int_t i = 0; i < settings->connections; i++)
		oa_link_open(&links[i]);
	return NGX_OK;
}

/* Close them. */
void
oa_exit_process(ngx_cycle_t *cycle)
{
	if (settings == NULL)
		return;
	for (ngx_int_t i = 0; i < settings->connections; i++)
		oa_link_close(&links[i]);
}
