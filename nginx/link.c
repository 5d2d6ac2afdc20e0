/*
 * link.c
 *		One connection to the database, in libpq's pipeline mode.
 *
 * Each question is followed by a Sync, and so is a transaction of its own: an
 * error of one has nothing to do with the others.  For each there come a result and
 * what ends it, in the order of the questions.
 *
 * A question is never asked twice, for it may have been answered, and counted
 * against the limits of a key, when a connection breaks.
 *
 * libpq's socket is level-triggered, because PQconsumeInput() does not read until
 * there is nothing left.
 */
#include "overten_auth.h"

#define STATEMENT_NAME	"overten_auth"
#define PARAMETERS		2
#define FIRST_PAUSE		50		/* milliseconds */
#define LONGEST_PAUSE	1000

/* text, json */
static const Oid parameter_types[PARAMETERS] = {25, 114};

static void link_fail(OaLink *link, const char *what);
static void link_readable(ngx_event_t *event);
static void link_writable(ngx_event_t *event);

/* Have a timer, which holds a worker that is to leave only if it must. */
static void
set_timer(OaLink *link, ngx_msec_t time, ngx_flag_t holds_worker)
{
	link->timer.cancelable = !holds_worker;
	ngx_add_timer(&link->timer, time);
}

static void
stop_timer(OaLink *link)
{
	if (link->timer.timer_set)
		ngx_del_timer(&link->timer);
}

/*
 * Let nginx forget the socket.  libpq may close it and open another one with the
 * same number, so this comes before each of libpq's calls that may do that.
 */
static void
leave_events(OaLink *link)
{
	ngx_connection_t *connection = link->connection;

	if (connection == NULL)
		return;
	link->connection = NULL;
	if (connection->read->active)
		ngx_del_event(connection->read, NGX_READ_EVENT, 0);
	if (connection->write->active)
		ngx_del_event(connection->write, NGX_WRITE_EVENT, 0);
	/* nginx's macros are several statements. */
	if (connection->read->posted)
	{
		ngx_delete_posted_event(connection->read);
	}
	if (connection->write->posted)
	{
		ngx_delete_posted_event(connection->write);
	}
	connection->fd = (ngx_socket_t) -1;
	ngx_free_connection(connection);
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
}

/*
 * Give a connection up, and try again after a pause.  Whoever waits for its answers
 * hears of an outage.
 */
static void
link_fail(OaLink *link, const char *what)
{
	ngx_log_error(NGX_LOG_ERR, link->log, 0, "overten_auth: %s: %s", what,
				  link->session != NULL ? PQerrorMessage(link->session) :
				  "out of memory");
	oa_link_close(link);
	link->pause = link->pause == 0 ? FIRST_PAUSE :
		ngx_min(2 * link->pause, LONGEST_PAUSE);
	set_timer(link, link->pause, 0);
	oa_fail_all(oa_places(), &link->asked);
	if (!oa_can_ask())
		oa_give_up_waiting();
}

static ngx_int_t
send_sync(OaLink *link)
{
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
	return PQsendPipelineSync(link->session) == 1 ? NGX_OK : NGX_ERROR;
#else
	return PQpipelineSync(link->session) == 1 ? NGX_OK : NGX_ERROR;
#endif
}

/* The session has begun. */
static void
become_ready(OaLink *link)
{
	link->state = OA_READY;
	link->pause = 0;
	stop_timer(link);
	ngx_log_error(NGX_LOG_NOTICE, link->log, 0, "overten_auth: connected");
	oa_ask_soon();
}

static void
prepare(OaLink *link)
{
	link->state = OA_PREPARING;
	/* The context of an error can have what was asked in it, and we log errors. */
	PQsetErrorVerbosity(link->session, PQERRORS_TERSE);
	if (PQsetnonblocking(link->session, 1) != 0 ||
		PQenterPipelineMode(link->session) != 1)
		link->broken = 1;
	else if (!link->settings->prepare)
		become_ready(link);
	else if (PQsendPrepare(link->session, STATEMENT_NAME, link->statement,
						   PARAMETERS, parameter_types) != 1 ||
			 send_sync(link) != NGX_OK)
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
	set_timer(link, link->settings->connect_timeout, 0);
	if (enter_events(link) != NGX_OK || want_to_write(link, 1) != NGX_OK)
		link_fail(link, "no event");
}

/* The timer has run out. */
static void
link_timeout(ngx_event_t *event)
{
	OaLink	   *link = event->data;

	if (link->state != OA_DOWN)
		link_fail(link, link->state == OA_READY ? "no answer in time" :
				  "no connection in time");
	else if (!ngx_exiting)
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
	ngx_queue_init(&link->asked);
}

/* Ask a question.  What was asked is sent by oa_link_flush(). */
void
oa_link_ask(OaLink *link, OaPlace *place)
{
	const OaQuestion *question = place->question;
	const char *values[PARAMETERS] = {
		(const char *) question->query.data,
		(const char *) question->headers.data,
	};
	int			sent;

	ngx_queue_remove(&place->queue);
	ngx_queue_insert_tail(&link->asked, &place->queue);
	place->asked = 1;
	if (!link->timer.timer_set)
		set_timer(link, link->settings->timeout, 1);
	if (link->settings->prepare)
		sent = PQsendQueryPrepared(link->session, STATEMENT_NAME, PARAMETERS,
								   values, NULL, NULL, 0);
	else
		sent = PQsendQueryParams(link->session, link->statement, PARAMETERS,
								 parameter_types, values, NULL, NULL, 0);
	if (sent != 1 || send_sync(link) != NGX_OK)
		link->broken = 1;
}

/*
 * Does this error say that the session is of no more use?  Its statement is gone, if a
 * pool has given us another session, or the server is about to end it.
 */
static ngx_flag_t
ends_session(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return state != NULL && (ngx_strcmp(state, "26000") == 0 ||
							 ngx_strncmp(state, "57P", 3) == 0);
}

/* Handle the result of a question.  The log has no more than the kind of an error. */
static void
take_result(OaLink *link, OaPlace *place, const PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		ngx_log_error(NGX_LOG_ERR, link->log, 0,
					  "overten_auth: the database answers with %s, SQLSTATE %s",
					  PQresStatus(PQresultStatus(result)),
					  state != NULL ? state : "unknown");
		if (ends_session(result))
			link->broken = 1;
	}
	if (place->question != NULL)
	{
		oa_read_answer(place->question, result);
		oa_resume(place);
	}
}

/*
 * Take what has been received.  Returns whether a question was answered.  Between a
 * result and the Sync libpq has a NULL, and it has one when nothing is left.
 */
static ngx_flag_t
take_answers(OaLink *link)
{
	ngx_flag_t	moved = 0;
	int			nulls = 0;

	while (!link->broken && nulls < 2 && !ngx_queue_empty(&link->asked) &&
		   !PQisBusy(link->session))
	{
		OaPlace    *place = ngx_queue_data(ngx_queue_head(&link->asked),
										   OaPlace, queue);
		PGresult   *result = PQgetResult(link->session);

		if (result == NULL)
		{
			nulls++;
			continue;
		}
		nulls = 0;
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
		{
			if (place->question != NULL)
				link->broken = 1;
			else
				oa_leave(oa_places(), place);
			moved = 1;
		}
		else
			take_result(link, place, result);
		PQclear(result);
	}
	return moved;
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
	moved = take_answers(link);
	if (link->broken || PQstatus(link->session) == CONNECTION_BAD)
		link_fail(link, "the session has ended");
	else if (ngx_queue_empty(&link->asked))
		stop_timer(link);
	else if (moved)
		set_timer(link, link->settings->timeout, 1);
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
