/*
 * queue.c
 *		Questions that wait for an answer.
 *
 * A question has a place, first in the queue of those that wait, and when the
 * database has been asked, in the queue of a link.  The place outlives the request
 * if its client goes away meanwhile, because the answer will come nevertheless, and
 * must not be taken for that of the next question.
 *
 * Beside that, places are in the order of their age while somebody waits for their
 * answers.  A timer tells the oldest that there is an outage when their time is over,
 * whatever the links do.  While there are any, it holds a worker that is to leave.
 */
#include "overten_auth.h"

/* The request of a question that waits ends, or goes on. */
static void
detach(OaPlaces *places, OaQuestion *question)
{
	OaPlace    *place = question->place;

	question->place = NULL;
	place->question = NULL;
	ngx_queue_remove(&place->age);
	places->timer.cancelable = ngx_queue_empty(&places->by_age);
}

/* Go on with a request whose question has an answer. */
static void
resume(OaQuestion *question)
{
	ngx_connection_t *connection = question->request->connection;

	ngx_http_core_run_phases(question->request);
	ngx_http_run_posted_requests(connection);
}

/* Answer the questions whose time is over that there is an outage. */
static void
fail_oldest(ngx_event_t *event)
{
	OaPlaces   *places = event->data;

	while (!ngx_queue_empty(&places->by_age))
	{
		OaPlace    *place = ngx_queue_data(ngx_queue_head(&places->by_age),
										   OaPlace, age);
		OaQuestion *question = place->question;
		ngx_msec_int_t left = place->deadline - ngx_current_msec;

		if (left > 0)
		{
			ngx_add_timer(event, left);
			return;
		}
		question->status = NGX_HTTP_SERVICE_UNAVAILABLE;
		oa_stop_waiting(places, question);
		resume(question);
	}
}

/* Prepare places for questions, each of which may wait for so long. */
void
oa_places_init(OaPlaces *places, ngx_msec_t timeout, ngx_log_t *log)
{
	ngx_queue_init(&places->unused);
	ngx_queue_init(&places->waiting);
	ngx_queue_init(&places->by_age);
	places->taken = 0;
	places->timeout = timeout;
	places->timer.handler = fail_oldest;
	places->timer.data = places;
	places->timer.log = log;
	places->timer.cancelable = 1;
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
	place->deadline = ngx_current_msec + places->timeout;
	question->place = place;
	ngx_queue_insert_tail(&places->waiting, &place->queue);
	ngx_queue_insert_tail(&places->by_age, &place->age);
	places->taken++;
	places->timer.cancelable = 0;
	if (!places->timer.timer_set)
		ngx_add_timer(&places->timer, places->timeout);
	return NGX_OK;
}

/* Forget a question, whose request ends. */
void
oa_stop_waiting(OaPlaces *places, OaQuestion *question)
{
	OaPlace    *place = question->place;

	if (place == NULL)
		return;
	detach(places, question);
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
oa_resume(OaPlaces *places, OaPlace *place)
{
	OaQuestion *question = place->question;

	if (question == NULL)
		return;
	detach(places, question);
	resume(question);
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
		oa_resume(places, place);
		oa_leave(places, place);
	}
}
