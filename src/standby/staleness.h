/*
 * staleness.h
 *		Private to src/standby.
 */
#ifndef OA_STALENESS_H
#define OA_STALENESS_H

#include <netdb.h>

#include "access/xlogdefs.h"
#include "standby/standby.h"

/* One moment, by the two clocks of this server; nanoseconds. */
typedef struct OaMoment
{
	int64		boot;			/* CLOCK_BOOTTIME, which nobody can set */
	int64		wall;			/* CLOCK_REALTIME */
} OaMoment;

/* Why the worker cannot publish anything newer. */
typedef enum OaStandbyProblem
{
	OA_STANDBY_NO_WORKER,		/* shared memory begins with this */
	OA_STANDBY_NO_RECEIVER,
	OA_STANDBY_NOT_CONNECTED,
	OA_STANDBY_OTHER_SERVER,
	OA_STANDBY_OTHER_SYSTEM,
	OA_STANDBY_CASCADING,
	OA_STANDBY_OTHER_TIMELINE,
	OA_STANDBY_OTHER_HISTORY,
	OA_STANDBY_BEHIND,
	OA_STANDBY_PROBLEMS
} OaStandbyProblem;

/* The WAL receiver, and the server that it is connected to. */
typedef struct OaReceiver
{
	pid_t		pid;
	char		host[NI_MAXHOST];
	int			port;
} OaReceiver;

/* staleness.c */
extern OaMoment oa_moment_now(void);
extern void oa_publish_moment(const OaMoment *moment);
extern void oa_set_standby_problem(OaStandbyProblem problem,
								   const char *detail);

/* primary_connection.c */
extern bool oa_find_receiver(OaReceiver *receiver);
extern bool oa_is_same_receiver(const OaReceiver *a, const OaReceiver *b);
extern bool oa_primary_is_connected(void);
extern bool oa_primary_connect(const OaReceiver *receiver);
extern void oa_primary_disconnect(void);
extern bool oa_primary_identify(XLogRecPtr *flushed, TimeLineID *timeline);
extern bool oa_primary_has_own_history(TimeLineID timeline);

/* replayed.c */
extern TimeLineID oa_replay_timeline(void);
extern bool oa_is_replayed(XLogRecPtr lsn, TimeLineID timeline);

#endif							/* OA_STALENESS_H */
