/*
 * pipeline.c
 *		What goes over a link, in libpq's pipeline mode.
 *
 * Each question is followed by a Sync, and so is a transaction of its own: an
 * error of one has nothing to do with the others.  For each there come a result and
 * what ends it, in the order of the questions.
 *
 * A question is never asked twice, for it may have been answered, and counted
 * against the limits of a key, when a connection breaks.
 */
#include "overten_auth.h"

#define STATEMENT_NAME	"overten_auth"
#define PARAMETERS		2

/* text, json */
static const Oid parameter_types[PARAMETERS] = {25, 114};

static ngx_int_t
send_sync(OaLink *link)
{
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
	return PQsendPipelineSync(link->session) == 1 ? NGX_OK : NGX_ERROR;
#else
	return PQpipelineSync(link->session) == 1 ? NGX_OK : NGX_ERROR;
#endif
}

/* Have the statement prepared that all questions are.  It is sent by oa_link_flush(). */
ngx_int_t
oa_send_statement(OaLink *link)
{
	if (PQsendPrepare(link->session, STATEMENT_NAME, link->statement,
					  PARAMETERS, parameter_types) != 1)
		return NGX_ERROR;
	return send_sync(link);
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
		ngx_add_timer(&link->timer, link->settings->timeout);
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
		oa_resume(oa_places(), place);
	}
}

/*
 * Take what has been received.  Returns whether a question was answered.  Between a
 * result and the Sync libpq has a NULL, and it has one when nothing is left.
 */
ngx_flag_t
oa_take_answers(OaLink *link)
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
