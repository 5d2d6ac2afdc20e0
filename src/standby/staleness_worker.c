/*
 * staleness_worker.c
 *		The background worker on a standby that asks the primary how far it is.
 *
 * staleness.c has the protocol.  The worker asks five times in
 * overten_auth.max_standby_lag, and does not wait for the replay of one answer
 * before it asks again.
 *
 * It starts with the hot standby.  While there is nothing to ask it idles
 * without a connection to a database.  The functions that send a question read
 * the catalogs to form the answer, so then it is connected to template1, which
 * every cluster has, though it may have been made anew.  After the promotion it
 * ends for good.  It ends with 1 otherwise, because the postmaster does not
 * restart a worker that has ended with 0.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"
#include "standby/staleness.h"

#define RESTART_SECONDS		1
#define IDLE_MS				(10 * 1000) /* to notice a promotion */
#define LOOK_MS				1000	/* likewise, while connected */
#define RETRY_MS			1000	/* after we could not connect */
#define ASK_MIN_MS			10
#define POLL_MAX_MS			100
#define QUESTIONS			16

PGDLLEXPORT void oa_standby_worker_main(Datum argument);

/* A question that was answered, and whose answer is not yet replayed. */
typedef struct Question
{
	OaMoment	asked_at;		/* before it was sent */
	XLogRecPtr	flushed;
} Question;

static Question questions[QUESTIONS];	/* a ring; the oldest is the first */
static int	first = 0;
static int	count = 0;

static OaReceiver receiver;		/* as the connection was made */
static TimeLineID timeline;		/* of the primary */
static bool history_checked;	/* is its history ours? */
static int64 next_question = 0; /* monotonic ms */
static bool has_database = false;

/* Register the worker, so that the postmaster starts it on a standby. */
void
oa_register_standby_worker(void)
{
	BackgroundWorker worker = {
		.bgw_name = "overten_auth standby worker",
		.bgw_type = "overten_auth standby worker",
		.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_ConsistentState,
		.bgw_restart_time = RESTART_SECONDS,
		.bgw_library_name = "overten_auth",
		.bgw_function_name = "oa_standby_worker_main",
	};

	RegisterBackgroundWorker(&worker);
}

static bool
has_work(void)
{
	return oa_max_standby_lag > 0 && oa_verify_on_standby;
}

static int
question_ms(void)
{
	return Max(oa_max_standby_lag / 5, ASK_MIN_MS);
}

/* Forget the primary, and what it has answered. */
static void
leave_primary(void)
{
	oa_primary_disconnect();
	count = 0;
	history_checked = false;
}

/*
 * Make sure that we are connected to the primary of the WAL receiver that is
 * streaming.  When there is a new one, connect anew, so that a host name means
 * the same server to both.
 */
static bool
find_primary(void)
{
	OaReceiver	current;

	if (!oa_find_receiver(&current))
	{
		oa_set_standby_problem(OA_STANDBY_NO_RECEIVER, NULL);
		leave_primary();
		return false;
	}
	if (oa_primary_is_connected() && !oa_is_same_receiver(&current, &receiver))
		leave_primary();
	if (oa_primary_is_connected())
		return true;

	receiver = current;
	if (oa_primary_connect(&receiver))
		return true;
	next_question = oa_monotonic_ms() + RETRY_MS;
	return false;
}

/* Ask the primary, if there is room for another answer. */
static void
ask_primary(void)
{
	Question   *question;

	next_question = oa_monotonic_ms() + question_ms();
	if (count == QUESTIONS || !find_primary())
		return;

	/*
	 * Perhaps that has emptied the ring.  Read the clocks before the question
	 * is sent: rule 2 of staleness.c.
	 */
	question = &questions[(first + count) % QUESTIONS];
	question->asked_at = oa_moment_now();
	if (!oa_primary_identify(&question->flushed, &timeline))
	{
		leave_primary();
		return;
	}
	count++;
}

/*
 * Does this standby replay the timeline that the primary has answered with?  If
 * not, leave the primary: at once if it is the same timeline by number only,
 * and otherwise when a question has waited for max_standby_lag, because
 * primary_conninfo may lead to another server by now.
 */
static bool
is_on_timeline(void)
{
	int64		waited;

	if (oa_replay_timeline() == timeline)
	{
		if (!history_checked && !oa_primary_has_own_history(timeline))
			leave_primary();
		else
			history_checked = true;
		return history_checked;
	}

	waited = oa_moment_now().boot - questions[first].asked_at.boot;
	if (waited > oa_max_standby_lag * INT64CONST(1000000))
	{
		oa_set_standby_problem(OA_STANDBY_OTHER_TIMELINE, NULL);
		leave_primary();
	}
	return false;
}

/*
 * Publish what has been replayed.  Only while the WAL receiver is still the one
 * that we have connected for.
 */
static void
publish(void)
{
	OaReceiver	current;

	if (count == 0)
		return;
	if (!oa_find_receiver(&current) ||
		!oa_is_same_receiver(&current, &receiver))
	{
		leave_primary();
		return;
	}
	if (!is_on_timeline())
		return;

	while (count > 0 && oa_is_replayed(questions[first].flushed, timeline))
	{
		oa_publish_moment(&questions[first].asked_at);
		first = (first + 1) % QUESTIONS;
		count--;
	}
	oa_set_standby_problem(OA_STANDBY_BEHIND, NULL);
}

/* Do what is due.  Returns how long there is nothing to do, in ms. */
static int64
work(void)
{
	int64		left;

	if (!has_database)
	{
		BackgroundWorkerInitializeConnection("template1", NULL,
											 BGWORKER_BYPASS_ALLOWCONN);
		oa_prepare_worker_session();
		has_database = true;
	}

	if (oa_monotonic_ms() >= next_question)
		ask_primary();
	publish();

	left = Min(Max(next_question - oa_monotonic_ms(), 0), LOOK_MS);
	if (count > 0)
		left = Min(left, Min(Max(oa_max_standby_lag / 50, 1), POLL_MAX_MS));
	return left;
}

static void
reload_settings(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	if (has_database)
		leave_primary();
	next_question = 0;

	/* A worker that idles does not hold a connection to a database. */
	if (has_database && !has_work())
		proc_exit(1);
}

static void
leave_worker(int code, Datum argument)
{
	oa_set_standby_problem(OA_STANDBY_NO_WORKER, NULL);
}

void
oa_standby_worker_main(Datum argument)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(leave_worker, (Datum) 0);

	while (RecoveryInProgress())
	{
		int64		left;

		ResetLatch(MyLatch);
		if (ProcDiePending)
			proc_exit(1);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload_settings();

		left = has_work() ? work() : IDLE_MS;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
						 oa_wait_event(OA_WAIT_STANDBY));
	}
	proc_exit(0);
}
