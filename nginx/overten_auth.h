/*
 * overten_auth.h
 *		An nginx module that asks PostgreSQL about each request whether it may
 *		go on.
 *
 * settings.c	directives and variables
 * access.c		a request: stopped until there is an answer, then let through
 * question.c	what we ask about a request
 * answer.c		what the database says, and what the client is told
 * service.c	what the service is told
 * queue.c		questions that wait for an answer
 * database.c	a worker's connections: which of them is asked
 * link.c		one connection
 * pipeline.c	what goes over it
 */
#ifndef OVERTEN_AUTH_H
#define OVERTEN_AUTH_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <libpq-fe.h>

#include "header_text.h"

/* settings.c */
typedef struct OaSettings
{
	ngx_str_t	database;		/* of libpq; ends in NUL */
	ngx_int_t	connections;	/* of each worker */
	ngx_int_t	max_waiting;	/* questions of each worker */
	ngx_msec_t	connect_timeout;
	ngx_msec_t	timeout;		/* of an answer */
	ngx_msec_t	connection_life;	/* how long a session is asked */
	ngx_flag_t	prepare;		/* have a prepared statement in each session? */
	ngx_str_t	schema;			/* of the extension's functions */
} OaSettings;

typedef struct OaLocation
{
	ngx_flag_t	enabled;
	ngx_http_complex_value_t *cost;
	ngx_http_complex_value_t *scope;
	ngx_str_t	api_key_header; /* in which keys come, too; empty: none */
} OaLocation;

extern ngx_module_t ngx_http_overten_auth_module;

/* What the service is told of a request that may go on. */
enum
{
	OA_TOLD_KEY_ID, OA_TOLD_ORG_ID, OA_TOLD_TIER, OA_TOLD_KEY_PREFIX,
	OA_TOLD
};

typedef struct OaPlace OaPlace;

/* What is known of a request; in its pool. */
typedef struct OaQuestion
{
	ngx_http_request_t *request;
	OaPlace    *place;			/* while there is no answer */
	ngx_str_t	query;			/* what it takes; ends in NUL */
	ngx_str_t	headers;		/* what it has, as JSON; ends in NUL */
	ngx_uint_t	status;			/* the answer; 0 while there is none */
	ngx_array_t refusal;		/* ngx_keyval_t: headers for the client */
	ngx_str_t	body;			/* likewise */
	ngx_str_t	told[OA_TOLD];	/* percent-encoded */
	ngx_str_t	limit;			/* RateLimit; empty if there is no limit */
	ngx_str_t	policy;			/* RateLimit-Policy, likewise */
} OaQuestion;

/* access.c */
extern OaQuestion *oa_question_of(ngx_http_request_t *request);
extern ngx_int_t oa_install_handlers(ngx_conf_t *cf);

/* question.c */
extern ngx_int_t oa_read_demand(ngx_http_request_t *request, ngx_str_t *query);
extern ngx_int_t oa_read_request(OaQuestion *question);

/* answer.c */
extern void oa_read_answer(OaQuestion *question, const PGresult *result);
extern ngx_int_t oa_add_header(ngx_http_request_t *request, ngx_str_t name,
							   ngx_str_t value);
extern ngx_int_t oa_refuse(OaQuestion *question);
extern ngx_int_t oa_refuse_malformed(ngx_http_request_t *request);
extern ngx_int_t oa_refuse_outage(ngx_http_request_t *request);

/* service.c */
extern const ngx_str_t oa_told_names[OA_TOLD];

extern ngx_int_t oa_remove_forged(ngx_http_request_t *request);
extern ngx_int_t oa_tell_service(OaQuestion *question);

/* queue.c */
struct OaPlace
{
	ngx_queue_t queue;			/* that it is in */
	ngx_queue_t age;			/* in by_age, if it has a question */
	OaQuestion *question;		/* NULL: answered, or its client has gone */
	ngx_flag_t	asked;			/* has the database been asked? */
	ngx_msec_t	deadline;		/* of an answer */
};

typedef struct OaPlaces
{
	ngx_queue_t unused;
	ngx_queue_t waiting;		/* to be asked */
	ngx_queue_t by_age;			/* all that have a question */
	ngx_event_t timer;			/* until the first deadline, or earlier */
	ngx_msec_t	timeout;
	ngx_int_t	taken;
} OaPlaces;

extern void oa_places_init(OaPlaces *places, ngx_msec_t timeout,
						   ngx_log_t *log);
extern ngx_int_t oa_wait(OaPlaces *places, OaQuestion *question);
extern void oa_stop_waiting(OaPlaces *places, OaQuestion *question);
extern void oa_leave(OaPlaces *places, OaPlace *place);
extern void oa_resume(OaPlaces *places, OaPlace *place);
extern void oa_fail_all(OaPlaces *places, ngx_queue_t *queue);

/* database.c */
typedef struct OaLink OaLink;

extern ngx_int_t oa_init_process(ngx_cycle_t *cycle);
extern void oa_exit_process(ngx_cycle_t *cycle);
extern OaPlaces *oa_places(void);
extern ngx_flag_t oa_can_ask(void);
extern ngx_flag_t oa_is_away(void);
extern void oa_ask_soon(void);
extern void oa_give_up_waiting(void);
extern void oa_has_session(OaLink *link);
extern void oa_plan_renewal(void);

/* link.c */
typedef enum OaLinkState
{
	OA_DOWN, OA_CONNECTING, OA_PREPARING, OA_READY
} OaLinkState;

struct OaLink
{
	const OaSettings *settings;
	const char *statement;
	ngx_log_t  *log;
	PGconn	   *session;
	ngx_connection_t *connection;	/* its socket, as nginx has it */
	OaLinkState state;
	ngx_queue_t asked;			/* places, in the order of their questions */
	ngx_flag_t	broken;			/* give it up as soon as that is possible */
	ngx_event_t timer;			/* until an answer, a connection, or the next
								 * attempt */
	ngx_msec_t	pause;			/* before that */
	ngx_msec_t	old_at;			/* when another session takes its place */
	ngx_flag_t	retired;		/* that is so: close it when it owes no answer */
};

extern void oa_link_init(OaLink *link, const OaSettings *settings,
						 const char *statement, ngx_log_t *log);
extern void oa_link_open(OaLink *link);
extern void oa_link_close(OaLink *link);
extern void oa_link_flush(OaLink *link);
extern void oa_link_retire(OaLink *link);

/* pipeline.c */
extern ngx_int_t oa_send_statement(OaLink *link);
extern void oa_link_ask(OaLink *link, OaPlace *place);
extern ngx_flag_t oa_take_answers(OaLink *link);

#endif							/* OVERTEN_AUTH_H */
