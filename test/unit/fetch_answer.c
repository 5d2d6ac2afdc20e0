/*
 * fetch_answer.c
 *		Tries the reader of HTTP answers and the schedule of fetches.
 *
 * Prints the results in the form of the Test Anything Protocol.
 */
#include "postgres.h"

#undef printf
#undef snprintf
#undef sprintf
#include <stdio.h>

#include "signing_keys/fetch.h"

#define HOUR	3600
#define LEAST	OA_MAX_AGE_LEAST
#define MOST	OA_MAX_AGE_MOST

static int	count = 0;
static int	failed = 0;

static void
ok(bool good, const char *name)
{
	count++;
	if (!good)
		failed++;
	printf("%sok %d - %s\n", good ? "" : "not ", count, name);
}

/* What an answer says; status 0 stands for one that is refused. */
static void
expect(const char *name, const char *text, int length, int status,
	   int max_age, const char *body)
{
	OaFetchAnswer answer = {-1, -1, -1};

	/* A copy without a NUL, so that a byte too far is noticed by tools. */
	char	   *copy = malloc(length > 0 ? length : 1);
	const char *problem;

	memcpy(copy, text, length);
	problem = oa_read_fetch_answer(copy, length, &answer);
	if (status == 0)
		ok(problem != NULL && answer.status == -1, name);
	else
		ok(problem == NULL && answer.status == status &&
		   answer.max_age == max_age && answer.body <= length &&
		   length - answer.body == strlen(body) &&
		   memcmp(copy + answer.body, body, strlen(body)) == 0, name);
	free(copy);
}

/* What an answer with these header lines says of its age. */
static void
expect_age(const char *fields, int max_age)
{
	char		text[2048];

	snprintf(text, sizeof(text), "HTTP/2 200 \r\n%s\r\n{}", fields);
	for (char *at = text; (at = strchr(at, '|')) != NULL;)
		memcpy(at, "\r\n", 2);
	expect(fields, text, strlen(text), 200, max_age, "{}");
}

static void
expect_text(const char *name, const char *text, int status, const char *body)
{
	expect(name, text, strlen(text), status, HOUR, body);
}

static void
try_ages(void)
{
	/* A "|" and the character behind it become the end of a line. */
	expect_age("", HOUR);
	expect_age("Cache-Control: public, max-age=19302, must-revalidate, no-transform|.", 19302);
	expect_age("CACHE-CONTROL:MAX-AGE=1000|.", 1000);
	expect_age("cache-control: \t max-age=1000 \t |.", 1000);
	expect_age("cache-control: max-age=\"1000\"|.", 1000);
	expect_age("cache-control: max-age=1000|.age: 100|.", 900);
	expect_age("Age: 100|.Cache-Control: max-age=1000|.", 900);
	expect_age("cache-control: max-age=1000|.age: 100|.age: 200|.", 800);
	expect_age("cache-control: max-age=1000|.age: 5000|.", LEAST);
	expect_age("cache-control: max-age=1000|.age: 99999999999999999999|.", LEAST);
	expect_age("cache-control: max-age=1000|.age: -100|.", 1000);
	expect_age("cache-control: max-age=1000|.age: soon|.", 1000);
	expect_age("age: 600|.", HOUR - 600);

	/* Limits. */
	expect_age("cache-control: max-age=0|.", LEAST);
	expect_age("cache-control: max-age=299|.", LEAST);
	expect_age("cache-control: max-age=301|.", 301);
	expect_age("cache-control: max-age=86399|.", 86399);
	expect_age("cache-control: max-age=86401|.", MOST);
	expect_age("cache-control: max-age=2147483648|.", MOST);
	expect_age("cache-control: max-age=99999999999999999999999999|.", MOST);

	/* What cannot be read is stale. */
	expect_age("cache-control: max-age=-1|.", LEAST);
	expect_age("cache-control: max-age=+1000|.", LEAST);
	expect_age("cache-control: max-age=1e9|.", LEAST);
	expect_age("cache-control: max-age=10.5|.", LEAST);
	expect_age("cache-control: max-age=0x100000|.", LEAST);
	expect_age("cache-control: max-age=garbage|.", LEAST);
	expect_age("cache-control: max-age=|.", LEAST);
	expect_age("cache-control: max-age|.", LEAST);
	expect_age("cache-control: max-age= 1000|.", LEAST);
	expect_age("cache-control: max-age=\"1000|.", 1000);
	expect_age("cache-control: max-age=1000;x|.", LEAST);

	/* The most careful reading of several. */
	expect_age("cache-control: max-age=1000|.cache-control: max-age=2000|.", 1000);
	expect_age("cache-control: max-age=2000|.cache-control: max-age=1000|.", 1000);
	expect_age("cache-control: max-age=2000, max-age=1000|.", 1000);
	expect_age("cache-control: max-age=2000|.cache-control: max-age=x|.", LEAST);
	expect_age("cache-control: max-age=2000, no-store|.", LEAST);
	expect_age("cache-control: No-Cache, max-age=2000|.", LEAST);
	expect_age("cache-control: no-cache=\"a, b\", max-age=2000|.", LEAST);
	expect_age("cache-control: max-age=2000|.x: y|.expires: 0|.", 2000);

	/* Other things. */
	expect_age("cache-control: s-maxage=5000|.", HOUR);
	expect_age("cache-control: public|.", HOUR);
	expect_age("cache-control:|.", HOUR);
	expect_age("cache-control: ,,, ,max-age=1000,,|.", 1000);
	expect_age("cache-control: x=\"max-age=5, no-store\", max-age=1000|.", 1000);
	expect_age("cache-control: xmax-age=5, max-agex=5, max-age=1000|.", 1000);
	expect_age("x-cache-control: max-age=5000|.", HOUR);
	expect_age("cache-control2: max-age=5000|.", HOUR);
	expect_age("x: cache-control: max-age=5000|.", HOUR);
	expect_age("date: now|.cache-control: max-age=1000|.etag: \"x\"|.", 1000);
}

static void
try_forms(void)
{
	char	   *large = malloc(400000);

	expect_text("HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\n{}", 200, "{}");
	expect_text("HTTP/1.0 without a reason", "HTTP/1.0 200\r\n\r\n{}", 200, "{}");
	expect_text("HTTP/2", "HTTP/2 404 \r\nx: y\r\n\r\nno", 404, "no");
	expect_text("HTTP/3", "HTTP/3 500\r\n\r\n", 500, "");
	expect_text("unix line ends", "HTTP/1.1 200 OK\nx: y\n\nbody", 200, "body");
	expect_text("an empty line in the body", "HTTP/2 200\r\n\r\na\r\n\r\nb", 200, "a\r\n\r\nb");
	expect_text("interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\ncache-control: no-store\r\nage: 9999\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}",
				200, "{}");
	expect_text("not modified", "HTTP/2 304 \r\n\r\n", 304, "");
	expect_text("a redirect, and what curl -L prints then",
				"HTTP/2 302 \r\nlocation: https://x/\r\n\r\nHTTP/2 200 \r\n\r\n{}", 302, "HTTP/2 200 \r\n\r\n{}");

	expect_text("nothing", "", 0, NULL);
	expect_text("no header", "{\"a\":1}", 0, NULL);
	expect_text("HTML", "<html>\n\n</html>", 0, NULL);
	expect_text("half a status line", "HTTP/1.1 200", 0, NULL);
	expect_text("a status line alone", "HTTP/1.1 200 OK\r\n", 0, NULL);
	expect_text("a header without an end", "HTTP/1.1 200 OK\r\nx: y\r\n", 0, NULL);
	expect_text("an interim answer alone", "HTTP/1.1 100 Continue\r\n\r\n", 0, NULL);
	expect_text("small letters", "http/1.1 200 OK\r\n\r\n", 0, NULL);
	expect_text("another protocol", "ICY 200 OK\r\n\r\n", 0, NULL);
	expect_text("a space in front", " HTTP/1.1 200 OK\r\n\r\n", 0, NULL);
	expect_text("no version", "HTTP/ 200 OK\r\n\r\n", 0, NULL);
	expect_text("a long version", "HTTP/1.11 200 OK\r\n\r\n", 0, NULL);
	expect_text("status of two digits", "HTTP/1.1 20 OK\r\n\r\n", 0, NULL);
	expect_text("status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", 0, NULL);
	expect_text("status 099", "HTTP/1.1 099 OK\r\n\r\n", 0, NULL);
	expect_text("status 600", "HTTP/1.1 600 OK\r\n\r\n", 0, NULL);
	expect_text("status -20", "HTTP/1.1 -20 OK\r\n\r\n", 0, NULL);
	expect_text("a line without a colon", "HTTP/1.1 200 OK\r\nxy\r\n\r\n", 0, NULL);
	expect_text("a line without a name", "HTTP/1.1 200 OK\r\n: y\r\n\r\n", 0, NULL);
	expect_text("a folded line", "HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n", 0, NULL);
	expect_text("a space before the colon", "HTTP/1.1 200 OK\r\nx : y\r\n\r\n", 0, NULL);
	expect_text("a carriage return alone", "HTTP/1.1 200 OK\r\nx: y\rz\r\n\r\n", 0, NULL);
	expect("a NUL", "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n", 25, 0, 0, NULL);

	memset(large, 'x', 400000);
	memcpy(large, "HTTP/1.1 200 OK\r\nx:", 19);
	memcpy(large + OA_ANSWER_HEADER_MAX - 4, "\r\n\r\n", 4);
	large[OA_ANSWER_HEADER_MAX] = '\0';
	expect("a header of 16 kB", large, OA_ANSWER_HEADER_MAX, 200, HOUR, "");
	memset(large + OA_ANSWER_HEADER_MAX - 4, 'x', 5);
	memcpy(large + OA_ANSWER_HEADER_MAX - 3, "\r\n\r\n", 4);
	expect("a byte more", large, 400000, 0, 0, NULL);
	free(large);
}

static void
try_schedule(void)
{
	const TimestampTz now = INT64CONST(860000000) * USECS_PER_SEC;
	const uint32 randoms[] = {0, 1, 12345, PG_UINT32_MAX / 2, PG_UINT32_MAX};
	bool		early = true;
	bool		late = true;
	bool		steps = true;
	int			longest = 0;

	for (int i = 0; i < lengthof(randoms); i++)
	{
		TimestampTz next = oa_next_fetch_at(now, 20000, 0, randoms[i]) - now;

		early = early && next >= 14000 * USECS_PER_SEC;
		late = late && next <= 16000 * USECS_PER_SEC;
		for (int failures = 1; failures < 2000; failures++)
		{
			TimestampTz pause = oa_next_fetch_at(now, 20000, failures,
												 randoms[i]) - now;
			int			full = failures < 7 ? 10 << (failures - 1) :
				failures == 7 ? 640 : 900;

			steps = steps && pause <= full * USECS_PER_SEC &&
				pause >= full * USECS_PER_SEC / 4 * 3;
			longest = Max(longest, pause / USECS_PER_SEC);
		}
	}
	ok(early, "not before 70 % of max-age");
	ok(late, "not after 80 % of it");
	ok(steps, "pauses double from 10 seconds to 15 minutes");
	ok(longest == 900, "and are not longer");
	ok(oa_next_fetch_at(now, 20000, INT_MAX, 0) > now, "however many failures");
	ok(oa_next_fetch_at(now, 20000, 0, 0) !=
	   oa_next_fetch_at(now, 20000, 0, PG_UINT32_MAX), "at random");

	ok(oa_fetch_is_due(now, 0, 0), "due at first");
	ok(!oa_fetch_is_due(now, now - 1, now + 1), "not due before its time");
	ok(oa_fetch_is_due(now, now - 2, now), "due at its time");
	ok(oa_fetch_is_due(now + 365 * USECS_PER_DAY, now, now + USECS_PER_HOUR),
	   "due when the clock has jumped ahead");
	ok(oa_fetch_is_due(now - USECS_PER_DAY, now, now + USECS_PER_HOUR),
	   "due when it was put back");
	ok(!oa_fetch_is_due(now - USECS_PER_SEC, now, now + USECS_PER_HOUR),
	   "not because of a second");
}

int
main(void)
{
	try_ages();
	try_forms();
	try_schedule();
	printf("1..%d\n", count);
	return failed > 0;
}
