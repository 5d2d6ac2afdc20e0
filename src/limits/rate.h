/*
 * rate.h
 *		The arithmetic of rate limits, without any state of the server.
 */
#ifndef OA_RATE_H
#define OA_RATE_H

/* See rate.c for what the numbers mean. */
typedef struct OaRate
{
	int64		emission;		/* ticks that a cost of 1 takes */
	int64		scale;			/* ticks in a nanosecond */
	int64		burst;			/* the cost that a full bucket admits */
} OaRate;

/* What a bucket says about a cost. */
typedef struct OaVerdict
{
	bool		granted;
	int64		ahead;			/* ticks by which the bucket is ahead of the
								 * clock, once the cost is added if that is
								 * granted */
} OaVerdict;

#define OA_LIMIT_PERIOD_MAX	86399	/* seconds: less than a day */
#define OA_COST_MAX			1000000000

extern bool oa_make_rate(int64 quota, int32 period, int64 burst, OaRate *rate);
extern OaRate oa_share_rate(const OaRate *rate, int share);
extern int64 oa_rate_quota(const OaRate *rate, int32 period);
extern bool oa_ticks(const OaRate *rate, int64 epoch, int64 now,
					 int64 *ticks);
extern bool oa_is_past(int64 scale, int64 epoch, int64 arrival, int64 now);
extern int64 oa_move_arrival(int64 scale, int64 epoch, int64 arrival,
							 int64 now);
extern OaVerdict oa_judge(const OaRate *rate, int64 arrival, int64 now,
						  int64 cost);
extern int64 oa_add_debt(const OaRate *rate, int64 arrival, int64 now,
						 int64 cost);
extern int64 oa_remaining(const OaRate *rate, int64 ahead);
extern int64 oa_wait(const OaRate *rate, int64 ahead, int64 cost);
extern int64 oa_reset(const OaRate *rate, int64 ahead);

#endif							/* OA_RATE_H */
