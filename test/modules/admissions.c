/*
 * admissions.c
 *		Asks for many admissions, notes each with the reading of the clock that
 *		decided it, and compares them with what the limits promise.
 *
 * The clock is that of test_clock.c.
 *
 * admissions(secret text, who int4, requests int4, max_cost int8, step int8,
 * pause int4, file text) asks so many times in this session, with costs of 0 to
 * max_cost, or of -max_cost each if that is negative.  It appends to a file what it asked, when, and the answer.  It is as
 * good in a transaction that is rolled back, or canceled.
 *
 * check_admissions(files text[], whose int4[], quotas int8[], periods int4[],
 * bursts int8[]) replays the requests of all files in the order of their times.
 * An element of each array is a limit: of the requests of "whose", or of all if
 * that is -1.  A limit with the quota q matters only to answers that name the
 * quota q, if several limits of the same key have different quotas and "whose"
 * is -2.  For each request we ask whether the cost that was admitted in any
 * interval that ends with it would be more than burst + length * quota /
 * period, in whole numbers of 128 bits.  The answer must have been no in these
 * cases, and yes in all others.  Returns a sentence about the first one that is
 * wrong, or how many requests there were, and how many were admitted.
 */
#include "postgres.h"

#include <dlfcn.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(admissions);
PG_FUNCTION_INFO_V1(check_admissions);

#define NS_PER_SECOND	INT64CONST(1000000000)

typedef int128 wide;				/* with the alignment of palloc() */

/* One request, and its answer. */
typedef struct Request
{
	int64		at;
	int64		cost;
	int64		quota;			/* that the answer names */
	int32		who;
	int32		admitted;
} Request;

/* The library that counts the clock. */
static int64 *clock_step;
static int *clock_pause;
static int64 *clock_reading;
static uint64 *clock_chance;
static uint64 (*clock_random) (void);

static void *
find_symbol(const char *name)
{
	void	   *symbol = dlsym(RTLD_DEFAULT, name);

	if (symbol == NULL)
		elog(ERROR, "test_clock.so is not preloaded");
	return symbol;
}

static void
find_clock(void)
{
	clock_step = find_symbol("test_clock_step");
	clock_pause = find_symbol("test_clock_pause");
	clock_reading = find_symbol("test_clock_reading");
	clock_chance = find_symbol("test_clock_chance");
	*(void **) &clock_random = find_symbol("test_clock_random");
}

static Oid
find_function(void)
{
	Oid			arguments[] = {TEXTOID, INT8OID, TEXTARRAYOID, INETOID};
	List	   *name = list_make1(makeString("overten_admission"));

	return LookupFuncName(name, lengthof(arguments), arguments, false);
}

/* Read the columns that we need of a row of overten_auth.admission. */
static void
read_answer(Datum row, Request *request)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	bool		isnull;
	Datum		outcome = GetAttributeByNum(header, 1, &isnull);
	Datum		quota = GetAttributeByNum(header, 10, &isnull);

	request->quota = isnull ? 0 : DatumGetInt64(quota);
	if (strcmp(TextDatumGetCString(outcome), "admitted") == 0)
		request->admitted = 1;
	else if (strcmp(TextDatumGetCString(outcome), "rate_limited") == 0)
		request->admitted = 0;
	else
		elog(ERROR, "unexpected outcome %s", TextDatumGetCString(outcome));
}

/* A cost: many are small, some are 0, and each size has its share. */
static int64
draw_cost(int64 max)
{
	int64		below = max + 1;

	if (max < 0)
		return -max;

	while (below > 2 && clock_random() % 2 == 0)
		below /= 2;
	return (int64) (clock_random() % (uint64) below);
}

Datum
admissions(PG_FUNCTION_ARGS)
{
	Datum		secret = PG_GETARG_DATUM(0);
	int32		requests = PG_GETARG_INT32(2);
	int64		max_cost = PG_GETARG_INT64(3);
	int64		admitted = 0;
	FILE	   *file = fopen(text_to_cstring(PG_GETARG_TEXT_PP(6)), "ab");
	FmgrInfo	function;
	LOCAL_FCINFO(call, 4);
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "each",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;

	if (file == NULL)
		elog(ERROR, "could not open the file: %m");
	find_clock();
	fmgr_info(find_function(), &function);
	InitFunctionCallInfoData(*call, &function, 4, InvalidOid, NULL, NULL);
	memset(call->args, 0, sizeof(NullableDatum) * 4);
	call->args[0].value = secret;
	call->args[2].isnull = call->args[3].isnull = true;

	caller = MemoryContextSwitchTo(each);
	*clock_chance = (uint64) MyProcPid * 1000003 + (uint64) PG_GETARG_INT32(1) + 1;
	PG_TRY();
	{
		for (int i = 0; i < requests; i++)
		{
			Request		request = {.who = PG_GETARG_INT32(1)};
			Datum		row;

			request.cost = draw_cost(max_cost);
			call->args[1].value = Int64GetDatum(request.cost);
			call->isnull = false;
			*clock_reading = 0;
			*clock_pause = PG_GETARG_INT32(5);
			*clock_step = PG_GETARG_INT64(4);
			row = FunctionCallInvoke(call);
			*clock_step = 0;
			request.at = *clock_reading;
			if (request.at == 0)
				elog(ERROR, "the monotonic clock was not read");
			read_answer(row, &request);
			admitted += request.admitted;
			if (fwrite(&request, sizeof(request), 1, file) != 1)
				elog(ERROR, "could not write: %m");
			MemoryContextReset(each);
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_FINALLY();
	{
		*clock_step = 0;
		fclose(file);
		MemoryContextSwitchTo(caller);
	}
	PG_END_TRY();
	PG_RETURN_INT64(admitted);
}

/* A limit, and what has been admitted so far. */
typedef struct Counted
{
	int32		whose;
	int64		quota;
	wide		period;			/* nanoseconds */
	int64		burst;
	wide		admitted;		/* cost * period, of all requests so far */
	wide		least;			/* of the same before a request, minus at *
								 * quota */
	bool		used;
} Counted;

static bool
concerns(const Counted *limit, const Request *request)
{
	if (limit->whose == -2)
		return limit->quota == request->quota;
	return limit->whose == -1 || limit->whose == request->who;
}

/* Could a limit admit a request? */
static bool
could_admit(const Counted *limit, const Request *request)
{
	wide		before = limit->admitted - (wide) request->at * limit->quota;
	wide		least = limit->used ? Min(limit->least, before) : before;

	return request->cost <= limit->burst &&
		before + request->cost * limit->period - least <=
		limit->burst * limit->period;
}

static void
add(Counted *limit, const Request *request)
{
	wide		before = limit->admitted - (wide) request->at * limit->quota;

	if (!limit->used || before < limit->least)
		limit->least = before;
	limit->used = true;
	limit->admitted += request->cost * limit->period;
}

static int
compare_times(const void *a, const void *b)
{
	int64		x = ((const Request *) a)->at;
	int64		y = ((const Request *) b)->at;

	return x < y ? -1 : x > y;
}

/* Read all files into one array, in the order of the times. */
static Request *
read_requests(ArrayType *files, int *count)
{
	Datum	   *names;
	int			number;
	Size		size = 1 << 20;
	Request    *requests = palloc_extended(size * sizeof(Request), MCXT_ALLOC_HUGE);

	*count = 0;
	deconstruct_array(files, TEXTOID, -1, false, TYPALIGN_INT, &names, NULL,
					  &number);
	for (int i = 0; i < number; i++)
	{
		FILE	   *file = fopen(TextDatumGetCString(names[i]), "rb");

		if (file == NULL)
			elog(ERROR, "could not open a file: %m");
		while (fread(&requests[*count], sizeof(Request), 1, file) == 1)
			if (++*count == (int) size)
			{
				size *= 2;
				requests = repalloc_huge(requests, size * sizeof(Request));
			}
		fclose(file);
	}
	qsort(requests, *count, sizeof(Request), compare_times);
	return requests;
}

static Counted *
read_limits(FunctionCallInfo fcinfo, int *count)
{
	ArrayType  *whose = PG_GETARG_ARRAYTYPE_P(1);
	ArrayType  *quotas = PG_GETARG_ARRAYTYPE_P(2);
	ArrayType  *periods = PG_GETARG_ARRAYTYPE_P(3);
	ArrayType  *bursts = PG_GETARG_ARRAYTYPE_P(4);
	Counted    *limits;

	*count = ArrayGetNItems(ARR_NDIM(whose), ARR_DIMS(whose));
	limits = palloc0(*count * sizeof(Counted));
	for (int i = 0; i < *count; i++)
	{
		limits[i].whose = ((int32 *) ARR_DATA_PTR(whose))[i];
		limits[i].quota = ((int64 *) ARR_DATA_PTR(quotas))[i];
		limits[i].period = ((int32 *) ARR_DATA_PTR(periods))[i] * NS_PER_SECOND;
		limits[i].burst = ((int64 *) ARR_DATA_PTR(bursts))[i];
	}
	return limits;
}

Datum
check_admissions(PG_FUNCTION_ARGS)
{
	int			count;
	int			limit_count;
	Request    *requests = read_requests(PG_GETARG_ARRAYTYPE_P(0), &count);
	Counted    *limits = read_limits(fcinfo, &limit_count);
	int			admitted = 0;

	for (int i = 0; i < count; i++)
	{
		const Request *request = &requests[i];
		bool		can = true;

		if (i > 0 && request->at == requests[i - 1].at)
			elog(ERROR, "two requests have the same time");
		for (int j = 0; j < limit_count; j++)
			if (concerns(&limits[j], request))
				can = can && could_admit(&limits[j], request);
		if (can != (bool) request->admitted)
			PG_RETURN_TEXT_P(cstring_to_text(psprintf(
													  "request %d of %d, of cost " INT64_FORMAT " at " INT64_FORMAT ", was %s",
													  i, count, request->cost, request->at,
													  can ? "refused" : "admitted above the limit")));
		if (!can)
			continue;
		admitted++;
		for (int j = 0; request->cost > 0 && j < limit_count; j++)
			if (concerns(&limits[j], request))
				add(&limits[j], request);
	}
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d requests, %d admitted",
											  count, admitted)));
}
