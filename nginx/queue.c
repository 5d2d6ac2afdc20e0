/*
 * queue.c
 *		Questions that wait for an answer.
 *
 * A question has a place, first in the queue of those that wait, and when the
 * database has been asked, in the queue of a link.  The place outlives the request
 * if its client goes away meanwhile, because the answer will come nevertheless, and
 * must not be taken for that of the next question.
 */
#include "overten_auth.h"

void
oa_places_init(OaPlaces *places)
{
	ngx_queue_init(&places->unused);
	ngx_queue_init(&places->waiting);
	places->taken = 0;
}

/* Let a question wait. */
ngx_int_t
oa_wait(OaPlaces *places, OaQuestion *question)
{
	OaPlace    *place;

	if (!ngx_queue_empty(&places->unused))
	{
		place = ngx_queue_data(ngx_queue_head(&places->unused), OaPlace, queue);
		ngx_queue_remove(&place->queue);
	}
	else
	{
		place = ngx_alloc(sizeof(OaPlace), ngx_cycle->log);
		if (place == NULL)
			return NGX_ERROR;
	}
	place->question = question;
	place->asked = 0;
	question->place = place;
	ngx_queue_insert_tail(&places->waiting, &place->queue);
	places->taken++;
	return NGX_OK;
}

/* Forget a question, whose request ends. */
void
oa_stop_waiting(OaPlaces *places, OaQuestion *question)
{
	OaPlace    *place = question->place;

	if (place == NULL)
		return;
	question->place = NULL;
	place->question = NULL;
	if (!place->asked)
		oa_leave(places, place);
}

/* Give a place back. */
void
oa_leave(OaPlaces *places, OaPlace *place)
{
	ngx_queue_remove(&place->queue);
	ngx_queue_insert_head(&places->unused, &place->queue);
	places->taken--;
}

/* Go on with the request of a place, if it is still there. */
void
oa_resume(OaPlace *place)
{
	OaQuestion *question = place->question;
	ngx_connection_t *connection;

	if (question == NULL)
		return;
	place->question = NULL;
	question->place = NULL;
	connection = question->request->connection;
	ngx_http_core_run_phases(question->request);
	ngx_http_run_posted_requests(connection);
}

/* Answer all questions of a queue that there is an outage. */
void
oa_fail_all(OaPlaces *places, ngx_queue_t *queue)
{
	ngx_queue_t failed;

	/* What these requests do may change the queue. */
	ngx_queue_init(&failed);
	if (!ngx_queue_empty(queue))
	{
		ngx_queue_add(&failed, queue);
		ngx_queue_init(queue);
	}
	while (!ngx_queue_empty(&failed))
	{
		OaPlace    *place = ngx_queue_data(ngx_queue_head(&failed), OaPlace,
										   queue);

		if (place->question != NULL)
			place->question->status = NGX_HTTP_SERVICE_UNAVAILABLE;
		place->asked = 1;
		oa_resume(place);
		oa_leave(places, place);
	}
}
