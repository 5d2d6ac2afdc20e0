/*
 * rate.c
 *		The arithmetic of rate limits: GCRA, the generic cell rate algorithm.
 *
 * A bucket is one number, its theoretical arrival time TAT.  With T = period /
 * quota, the time that a cost of 1 takes, a request of cost c at the time now is
 * granted if and only if
 *
 *		max(TAT, now) + c * T - now <= burst * T
 *
 * and then TAT becomes max(TAT, now) + c * T.  So in any interval of the length
 * w the granted cost is at most burst + w / T: TAT grows by c * T with each
 * request that is granted, was at least as late as the first of them, and is at
 * most burst * T later than the last.  And a client that leaves at least c * T
 * between its requests of cost c is never refused, because TAT is then never
 * later than now, when it comes.
 *
 * Both are exact only if T is.  Seven a second is a T of 142857142.857142... ns.
 * If we rounded it up, we would refuse clients that keep to the rate; if we
 * rounded it down, we would grant more than the quota.  So we count in ticks.  A
 * nanosecond has quota / gcd(quota, period in ns) ticks, and T is a whole number
 * of them.  A limit for which 64 bits do not suffice is refused when it is set.
 *
 * Times of a bucket are ticks since its epoch, a time of the clock.  The clock
 * is never more than CLOCK_MAX ahead of the epoch: before that, the bucket gets
 * another epoch (buckets.c), which is exact, too.  With burst * T <= BURST_MAX
 * and a debt that grows to DEBT_MAX, no sum overflows.
 *
 * Nothing here allocates, raises or reads a clock.
 */
#include "postgres.h"

#include "common/int.h"

#include "limits/limits.h"
#include "settings.h"

#define NS_PER_SECOND	INT64CONST(1000000000)
#define NS_PER_MICROSECOND	1000
#define NS_MIN			1000	/* the shortest time that a cost of 1 takes */

#define BURST_MAX		(INT64CONST(1) << 61)	/* ticks */
#define CLOCK_MAX		(INT64CONST(1) << 61)
#define DEBT_MAX		(INT64CONST(1) << 62)

static int64
greatest_common_divisor(int64 a, int64 b)
{
	while (b != 0)
	{
		int64		rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static int64
divide_up(int64 a, int64 b)
{
	return a / b + (a % b != 0);
}

/*
 * Make the rate of a limit of "quota" in "period" seconds.  Returns false if a
 * cost of 1 would take less than 1 microsecond, or if the limit cannot be
 * counted exactly.
 */
bool
oa_make_rate(int64 quota, int32 period, int64 burst, OaRate *rate)
{
	int64		ns = period * NS_PER_SECOND;
	int64		divisor;
	int64		full;

	if (quota < 1 || period < 1 || burst < 1 || quota > ns / NS_MIN)
		return false;

	divisor = greatest_common_divisor(quota, ns);
	rate->emission = ns / divisor;
	rate->scale = quota / divisor;
	rate->burst = burst;
	return !pg_mul_s64_overflow(burst, rate->emission, &full) &&
		full <= BURST_MAX;
}

/*
 * The part of a rate that one of several servers gives out, in thousandths.  A
 * T that is not whole is rounded up, so that the parts are never more than the
 * whole.  The burst is at least 1, or nothing could be granted.
 */
OaRate
oa_share_rate(const OaRate *rate, int share)
{
	OaRate		part = *rate;

	if (share == OA_SHARE_WHOLE)
		return part;
	part.emission = divide_up(rate->emission * OA_SHARE_WHOLE, share);
	part.burst = Max(1, rate->burst / OA_SHARE_WHOLE * share +
					 rate->burst % OA_SHARE_WHOLE * share / OA_SHARE_WHOLE);
	return part;
}

/* The quota that a rate was made of. */
int64
oa_rate_quota(const OaRate *rate, int32 period)
{
	return rate->scale * (period * NS_PER_SECOND / rate->emission);
}

/*
 * Convert a time of the clock to ticks since an epoch.  Returns false if the
 * bucket needs another epoch.
 */
bool
oa_ticks(const OaRate *rate, int64 epoch, int64 now, int64 *ticks)
{
	return !pg_mul_s64_overflow(now - epoch, rate->scale, ticks) &&
		*ticks <= CLOCK_MAX;
}

/* Is a bucket like one that was never used? */
bool
oa_is_past(int64 scale, int64 epoch, int64 arrival, int64 now)
{
	int64		ticks;

	return pg_mul_s64_overflow(now - epoch, scale, &ticks) || arrival <= ticks;
}

/* Convert the TAT of a bucket to ticks since "now", its next epoch. */
int64
oa_move_arrival(int64 scale, int64 epoch, int64 arrival, int64 now)
{
	return oa_is_past(scale, epoch, arrival, now) ? 0 :
		arrival - (now - epoch) * scale;
}

/* Decide about a cost.  The new TAT is "now" and what the bucket is ahead. */
OaVerdict
oa_judge(const OaRate *rate, int64 arrival, int64 now, int64 cost)
{
	OaVerdict	verdict = {.ahead = Max(arrival - now, 0)};

	/* Now the product cannot overflow. */
	if (cost > rate->burst)
		return verdict;
	verdict.granted = cost * rate->emission <=
		rate->burst * rate->emission - verdict.ahead;
	if (verdict.granted)
		verdict.ahead += cost * rate->emission;
	return verdict;
}

/*
 * Add a cost without asking.  Returns what the bucket is ahead then, which stops
 * growing at DEBT_MAX.
 */
int64
oa_add_debt(const OaRate *rate, int64 arrival, int64 now, int64 cost)
{
	int64		ahead = Max(arrival - now, 0);
	int64		more;

	if (pg_mul_s64_overflow(cost, rate->emission, &more))
		return DEBT_MAX;
	return more > DEBT_MAX - ahead ? DEBT_MAX : ahead + more;
}

/* The cost that would be granted at once. */
int64
oa_remaining(const OaRate *rate, int64 ahead)
{
	return Max(rate->burst - divide_up(ahead, rate->emission), 0);
}

/* The microseconds that ticks take, rounded up. */
static int64
microseconds(const OaRate *rate, int64 ticks)
{
	return divide_up(divide_up(ticks, rate->scale), NS_PER_MICROSECOND);
}

/*
 * How many microseconds until a cost, which is at most the burst, would be
 * granted?
 */
int64
oa_wait(const OaRate *rate, int64 ahead, int64 cost)
{
	int64		too_much = ahead - (rate->burst - cost) * rate->emission;

	return too_much <= 0 ? 0 : microseconds(rate, too_much);
}

/* How many microseconds until the bucket is full again? */
int64
oa_reset(const OaRate *rate, int64 ahead)
{
	return microseconds(rate, ahead);
}
