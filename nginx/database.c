/*
 * database.c
 *		A worker's connections to the database.
 *
 * Questions are asked once a turn of nginx's event loop, so that what has come
 * together is sent together.  They go round the links that are ready.
 *
 * A session sees what ALTER ROLE and ALTER DATABASE have set when it begins, so none is
 * used for ever.  There is one link more than are in use, the spare.  When a session is
 * old, the spare connects, takes its place, and the old one is the spare when it has
 * given its answers.  As long as there is no new session, the old one stays in use.
 */
#include "overten_auth.h"

static const OaSettings *settings;	/* NULL: this process has no links */
static OaLink *links;
static OaPlaces places;
static ngx_event_t ask_event;
static OaLink *spare;
static ngx_event_t renewal;		/* when the next session is old */

/* The questions of this worker. */
OaPlaces   *
oa_places(void)
{
	return &places;
}

/* Is there neither a session nor one that may begin? */
ngx_flag_t
oa_is_away(void)
{
	for (ngx_int_t i = 0; i <= settings->connections; i++)
		if (links[i].state != OA_DOWN && !links[i].retired)
			return 0;
	return 1;
}

/* Can another question be asked, now or when a link has become ready? */
ngx_flag_t
oa_can_ask(void)
{
	return settings != NULL && places.taken < settings->max_waiting &&
		!oa_is_away();
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

/* The next link that is ready, after the one that was the last time. */
static OaLink *
next_ready(void)
{
	static ngx_int_t turn = 0;

	for (ngx_int_t i = 0; i <= settings->connections; i++)
	{
		OaLink	   *link = &links[turn++ % (settings->connections + 1)];

		if (link->state == OA_READY && !link->broken && !link->retired)
			return link;
	}
	return NULL;
}

/* How long it is until a session is old; 0 if it is. */
static ngx_msec_t
time_left(const OaLink *link)
{
	return ngx_max((ngx_msec_int_t) (link->old_at - ngx_current_msec), 0);
}

/* The session that is old first, or is; NULL if there is none. */
static OaLink *
oldest(void)
{
	OaLink	   *found = NULL;

	for (ngx_int_t i = 0; i <= settings->connections; i++)
		if (&links[i] != spare && links[i].state == OA_READY &&
			(found == NULL || time_left(&links[i]) < time_left(found)))
			found = &links[i];
	return found;
}

/* Wait until a session is old, unless one is being replaced. */
void
oa_plan_renewal(void)
{
	OaLink	   *old = oldest();

	if (old != NULL && spare->state == OA_DOWN && !spare->timer.timer_set)
		ngx_add_timer(&renewal, time_left(old));
}

/* Begin to replace the session that is old. */
static void
renew(ngx_event_t *event)
{
	OaLink	   *old = oldest();

	if (old != NULL && time_left(old) == 0)
		oa_link_open(spare);
	else
		oa_plan_renewal();
}

/* Which link is one too many, now that the spare has a session? */
static OaLink *
replaced(void)
{
	for (ngx_int_t i = 0; i <= settings->connections; i++)
		if (links[i].state != OA_READY)
			return &links[i];
	return oldest();
}

/* A link has a session. */
void
oa_has_session(OaLink *link)
{
	if (link == spare)
	{
		spare = replaced();
		oa_link_retire(spare);
	}
	oa_plan_renewal();
	oa_ask_soon();
}

/* Ask all that waits. */
static void
ask(ngx_event_t *event)
{
	OaLink	   *link;

	while (!ngx_queue_empty(&places.waiting) && (link = next_ready()) != NULL)
		oa_link_ask(link, ngx_queue_data(ngx_queue_head(&places.waiting),
										 OaPlace, queue));
	for (ngx_int_t i = 0; i <= settings->connections; i++)
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

	links = ngx_pcalloc(cycle->pool, (given->connections + 1) * sizeof(OaLink));
	statement = make_statement(cycle->pool, &given->schema);
	if (links == NULL || statement == NULL)
		return NGX_ERROR;
	settings = given;
	oa_places_init(&places, settings->timeout, cycle->log);
	ask_event.handler = ask;
	ask_event.log = cycle->log;
	renewal.handler = renew;
	renewal.log = cycle->log;
	renewal.cancelable = 1;
	for (ngx_int_t i = 0; i <= settings->connections; i++)
		oa_link_init(&links[i], settings, statement, cycle->log);
	spare = &links[settings->connections];
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
	for (ngx_int_t i = 0; i <= settings->connections; i++)
		oa_link_close(&links[i]);
}
