/*
 * link.c
 *		One connection to the database: its socket, how it begins and how it ends.
 *
 * libpq's socket is level-triggered, because PQconsumeInput() does not read until
 * there is nothing left.
 */
#include "overten_auth.h"

#define FIRST_PAUSE		50		/* milliseconds */
#define LONGEST_PAUSE	1000

static void link_fail(OaLink *link, const char *what);
static void link_readable(ngx_event_t *event);
static void link_writable(ngx_event_t *event);

static void
stop_timer(OaLink *link)
{
	if (link->timer.timer_set)
		ngx_del_timer(&link->timer);
}

/*
 * Let nginx forget the socket.  libpq may close it and open another one with the
 * same number, so this comes before each of libpq's calls that may do that.  One that
 * libpq has closed because the session has ended is not there any more for the kernel.
 */
static void
leave_events(OaLink *link)
{
	ngx_connection_t *connection = link->connection;
	ngx_uint_t	flags = 0;

	if (connection == NULL)
		return;
	link->connection = NULL;
	if (PQsocket(link->session) != connection->fd)
		flags = NGX_CLOSE_EVENT;
	if (connection->read->active)
		ngx_del_event(connection->read, NGX_READ_EVENT, flags);
	if (connection->write->active)
		ngx_del_event(connection->write, NGX_WRITE_EVENT, flags);
	/* nginx's macros are several statements. */
	if (connection->read->posted)
	{
		ngx_delete_posted_event(connection->read);
	}
	if (connection->write->posted)
	{
		ngx_delete_posted_event(connection->write);
	}
	ngx_free_connection(connection);
	connection->fd = (ngx_socket_t) -1;
}

/* Be told of what can be read, and of nothing else. */
static ngx_int_t
enter_events(OaLink *link)
{
	ngx_connection_t *connection = ngx_get_connection(PQsocket(link->session),
													  link->log);

	if (connection == NULL)
		return NGX_ERROR;
	connection->data = link;
	connection->log = link->log;
	connection->read->log = link->log;
	connection->write->log = link->log;
	connection->read->handler = link_readable;
	connection->write->handler = link_writable;
	link->connection = connection;
	return ngx_add_event(connection->read, NGX_READ_EVENT, NGX_LEVEL_EVENT);
}

static ngx_int_t
want_to_write(OaLink *link, ngx_flag_t wanted)
{
	ngx_event_t *event = link->connection->write;

	if (wanted && !event->active)
		return ngx_add_event(event, NGX_WRITE_EVENT, NGX_LEVEL_EVENT);
	if (!wanted && event->active)
		return ngx_del_event(event, NGX_WRITE_EVENT, 0);
	return NGX_OK;
}

/* Send what libpq has in its buffer. */
void
oa_link_flush(OaLink *link)
{
	int			left = PQflush(link->session);

	if (left < 0 || want_to_write(link, left == 1) != NGX_OK)
		link->broken = 1;
	if (link->broken)
		link_fail(link, "cannot write");
}

/* End the session. */
void
oa_link_close(OaLink *link)
{
	stop_timer(link);
	leave_events(link);
	PQfinish(link->session);
	link->session = NULL;
	link->state = OA_DOWN;
	link->broken = 0;
	link->retired = 0;
}

/*
 * Ask nothing more over a link, and close it: at once, or when the last question has
 * its answer.
 */
void
oa_link_retire(OaLink *link)
{
	if (ngx_queue_empty(&link->asked))
		oa_link_close(link);
	else
		link->retired = 1;
}

/*
 * Give a connection up, and try again after a pause, unless another has taken its
 * place.  Whoever waits for its answers hears of an outage.
 */
static void
link_fail(OaLink *link, const char *what)
{
	ngx_flag_t	retired;

	ngx_log_error(NGX_LOG_ERR, link->log, 0, "overten_auth: %s: %s", what,
				  link->session != NULL ? PQerrorMessage(link->session) :
				  "out of memory");
	retired = link->retired;
	oa_link_close(link);
	if (retired)
		oa_plan_renewal();
	else
	{
		link->pause = link->pause == 0 ? FIRST_PAUSE :
			ngx_min(2 * link->pause, LONGEST_PAUSE);
		ngx_add_timer(&link->timer, link->pause);
	}
	oa_fail_all(oa_places(), &link->asked);
	if (oa_is_away())
		oa_give_up_waiting();
}

/*
 * The session has begun.  Those of a worker, and of all workers, begin together, and
 * should not get old together.
 */
static void
become_ready(OaLink *link)
{
	ngx_msec_t	life = link->settings->connection_life;

	link->old_at = ngx_current_msec + life - ngx_random() % (life / 4 + 1);
	link->state = OA_READY;
	link->pause = 0;
	stop_timer(link);
	ngx_log_error(NGX_LOG_NOTICE, link->log, 0, "overten_auth: connected");
	oa_has_session(link);
}

static void
prepare(OaLink *link)
{
	link->state = OA_PREPARING;
	/* We log errors, whose context can have what was asked in it. */
	PQsetErrorVerbosity(link->session, PQERRORS_TERSE);
	if (PQsetnonblocking(link->session, 1) != 0 ||
		PQenterPipelineMode(link->session) != 1)
		link->broken = 1;
	else if (!link->settings->prepare)
		become_ready(link);
	else if (oa_send_statement(link) != NGX_OK)
		link->broken = 1;
	if (link->broken)
		link_fail(link, "cannot prepare");
	else
		oa_link_flush(link);
}

/* Take the next step of connecting. */
static void
go_on_connecting(OaLink *link)
{
	PostgresPollingStatusType status;

	leave_events(link);
	status = PQconnectPoll(link->session);
	if (status == PGRES_POLLING_FAILED)
		link_fail(link, "cannot connect");
	else if (enter_events(link) != NGX_OK ||
			 want_to_write(link, status == PGRES_POLLING_WRITING) != NGX_OK)
		link_fail(link, "no event");
	else if (status == PGRES_POLLING_OK)
		prepare(link);
}

/* Begin to connect. */
void
oa_link_open(OaLink *link)
{
	link->state = OA_CONNECTING;
	link->session = PQconnectStart((const char *) link->settings->database.data);
	if (link->session == NULL || PQstatus(link->session) == CONNECTION_BAD)
	{
		link_fail(link, "cannot connect");
		return;
	}
	ngx_add_timer(&link->timer, link->settings->connect_timeout);
	if (enter_events(link) != NGX_OK || want_to_write(link, 1) != NGX_OK)
		link_fail(link, "no event");
}

/*
 * The timer has run out.  A worker that is to leave connects again, too: it may have
 * clients for long, of HTTP/2 for example.
 */
static void
link_timeout(ngx_event_t *event)
{
	OaLink	   *link = event->data;

	if (link->state != OA_DOWN)
		link_fail(link, link->state == OA_READY ? "no answer in time" :
				  "no connection in time");
	else
		oa_link_open(link);
}

/* Prepare a link to be opened. */
void
oa_link_init(OaLink *link, const OaSettings *settings, const char *statement,
			 ngx_log_t *log)
{
	link->settings = settings;
	link->statement = statement;
	link->log = log;
	link->timer.handler = link_timeout;
	link->timer.data = link;
	link->timer.log = log;
	/* Those who wait for an answer hold a worker that is to leave: queue.c. */
	link->timer.cancelable = 1;
	ngx_queue_init(&link->asked);
}

/* Take what has been received of preparing. */
static void
take_prepared(OaLink *link)
{
	int			nulls = 0;

	while (link->state == OA_PREPARING && !link->broken && nulls < 2 &&
		   !PQisBusy(link->session))
	{
		PGresult   *result = PQgetResult(link->session);

		if (result == NULL)
			nulls++;
		else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
			become_ready(link);
		else if (PQresultStatus(result) != PGRES_COMMAND_OK)
			link->broken = 1;
		PQclear(result);
	}
	if (link->broken)
		link_fail(link, "cannot prepare");
}

static void
link_readable(ngx_event_t *event)
{
	OaLink	   *link = ((ngx_connection_t *) event->data)->data;
	ngx_flag_t	moved;

	if (link->state == OA_CONNECTING)
	{
		go_on_connecting(link);
		return;
	}
	if (PQconsumeInput(link->session) != 1)
	{
		link_fail(link, "cannot read");
		return;
	}
	if (link->state == OA_PREPARING)
	{
		take_prepared(link);
		return;
	}
	moved = oa_take_answers(link);
	if (link->broken || PQstatus(link->session) == CONNECTION_BAD)
		link_fail(link, "the session has ended");
	else if (!ngx_queue_empty(&link->asked))
	{
		if (moved)
			ngx_add_timer(&link->timer, link->settings->timeout);
	}
	else if (link->retired)
	{
		oa_link_close(link);
		oa_plan_renewal();
	}
	else
		stop_timer(link);
}

static void
link_writable(ngx_event_t *event)
{
	OaLink	   *link = ((ngx_connection_t *) event->data)->data;

	if (link->state == OA_CONNECTING)
		go_on_connecting(link);
	else
		oa_link_flush(link);
}
