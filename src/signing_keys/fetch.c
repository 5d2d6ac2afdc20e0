/*
 * fetch.c
 *		Fetches signing keys, and checks what the command printed.
 *
 * We describe every problem in a sentence that holds nothing of the answer.
 * We check a document here, before the worker connects to a database for it,
 * and again when we load it.
 */
#include "postgres.h"

#include <sys/wait.h>

#include "utils/timestamp.h"

#include "databases/databases.h"
#include "settings.h"
#include "signing_keys/fetch.h"
#include "text/text.h"

#define OUTPUT_MAX		(OA_ANSWER_HEADER_MAX + OA_SIGNING_KEY_DOCUMENT_MAX)

/* Explain an exit status that curl or the shell documents. */
static const char *
explain_status(int status)
{
	static const struct
	{
		int			status;
		const char *meaning;
	}			meanings[] =
	{
		{5, "in curl: could not resolve the proxy"},
		{6, "in curl: could not resolve the host"},
		{7, "in curl: could not connect"},
		{18, "in curl: the answer was cut off"},
		{22, "in curl: HTTP error"},
		{28, "in curl: timeout"},
		{35, "in curl: TLS handshake failed"},
		{47, "in curl: redirected"},
		{52, "in curl: empty answer"},
		{56, "in curl: connection lost"},
		{60, "in curl: certificate not trusted"},
		{63, "in curl: answer too large"},
		{77, "in curl: could not read the authorities' certificates"},
		{126, "not executable"},
		{127, "not found"},
	};

	for (int i = 0; i < lengthof(meanings); i++)
		if (meanings[i].status == status)
			return meanings[i].meaning;
	return NULL;
}

/* Describe how the command ended.  Returns false if it failed. */
static bool
check_status(int status, char *outcome)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (WIFEXITED(status))
	{
		const char *meaning = explain_status(WEXITSTATUS(status));

		snprintf(outcome, OA_OUTCOME_MAX,
				 meaning != NULL ? "The command exited with %d (%s)." :
				 "The command exited with %d.",
				 WEXITSTATUS(status), meaning);
	}
	else
		snprintf(outcome, OA_OUTCOME_MAX,
				 "The command was ended by signal %d.", WTERMSIG(status));
	return false;
}

/* Can we use this document?  If not, the outcome says why. */
static bool
check_document(const char *text, int length, char *outcome)
{
	OaSigningKeyDocument *document = palloc0(sizeof(OaSigningKeyDocument));
	OaJsonNode *nodes = palloc(OA_JSON_NODES(length) * sizeof(OaJsonNode));
	char		skipped[OA_SKIPPED_MAX];
	const char *problem;

	problem = oa_parse_signing_keys(text, length, nodes,
									timestamptz_to_time_t(GetCurrentTimestamp()),
									oa_clock_skew, document);
	if (problem != NULL)
		snprintf(outcome, OA_OUTCOME_MAX,
				 oa_describe_skipped(document, skipped, sizeof(skipped)) > 0 ?
				 "%s Skipped: %s." : "%s", problem, skipped);
	oa_free_signing_keys(document);
	pfree(document);
	pfree(nodes);
	return problem == NULL;
}

/* Check what the command printed.  The caller has put a NUL behind it. */
static bool
read_answer(char *printed, int length, OaFetch *fetch)
{
	OaFetchAnswer answer;
	const char *problem = oa_read_fetch_answer(printed, length, &answer);

	if (problem == NULL)
	{
		fetch->max_age = answer.max_age;
		fetch->length = length - answer.body;
		if (answer.status == 304)
			return true;
		if (answer.status != 200)
		{
			snprintf(fetch->outcome, OA_OUTCOME_MAX,
					 "The answer has HTTP status %d.", answer.status);
			return false;
		}
		if (fetch->length > OA_SIGNING_KEY_DOCUMENT_MAX)
			problem = "The document has more than 256 kB.";
		else if (!check_document(printed + answer.body, fetch->length,
								 fetch->outcome))
			return false;
	}
	if (problem != NULL)
	{
		strlcpy(fetch->outcome, problem, OA_OUTCOME_MAX);
		return false;
	}
	fetch->document = printed + answer.body;
	return true;
}

/*
 * Run a command that prints an HTTP answer with its header.  Returns true if
 * the answer has a usable document, palloc'd, or if its status is 304, which
 * says that the document has not changed.  Otherwise fetch->outcome says what
 * is wrong, and fetch->said what the command printed to stderr.
 *
 * See oa_run_command() for who may call this, and when it returns.
 */
bool
oa_fetch_signing_keys(const char *command, OaFetch *fetch)
{
	OaCommandRun run;
	const char *problem;

	memset(fetch, 0, sizeof(OaFetch));
	run.printed = palloc(OUTPUT_MAX + 1);
	run.capacity = OUTPUT_MAX;
	problem = oa_run_command(command, &run);
	strlcpy(fetch->said, run.said, sizeof(fetch->said));
	if (problem != NULL)
	{
		strlcpy(fetch->outcome, problem, OA_OUTCOME_MAX);
		return false;
	}
	run.printed[run.length] = '\0';
	return check_status(run.status, fetch->outcome) &&
		read_answer(run.printed, run.length, fetch);
}
