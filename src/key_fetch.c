/*
 * key_fetch.c
 *		Runs the command that fetches signing keys, and judges what it prints.
 *
 * The command is run by the shell, as archive_command is, so that no HTTP or
 * TLS library, thread or resolver lives in a process of the server.  Unlike
 * archive_command it is not trusted to end: it has a deadline, what it may
 * print has a limit, and it gets a process group of its own, which is killed
 * as a whole whatever becomes of the worker: an error, SIGTERM, SIGQUIT, the
 * death of the postmaster.  Only SIGKILL leaves no time for that; then Linux
 * kills the shell.  A process that leaves the group escapes.
 *
 * The end is when the shell ends.  Children that it leaves behind are not
 * waited for, even if they hold the pipes open.  The dead shell stays a zombie
 * until its group has been killed, lest another get its process id before.
 *
 * The worker's latch wakes it for everything: SIGCHLD sets it, too.  No
 * transaction may be open meanwhile.  The command's text is not logged, for it
 * may hold a proxy's password, nor is what it prints on stdout.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "overten_auth.h"

#define DEADLINE		15000	/* milliseconds, for all that a command does */
#define GRACE			1000	/* between SIGTERM and SIGKILL */

#define OUTPUT_MAX		(OA_ANSWER_HEADER_MAX + OA_KEY_DOCUMENT_MAX)

/* A pipe from the command. */
typedef struct Output
{
	int			fd;				/* -1 at its end */
	char	   *bytes;
	int			length;
	int			capacity;
} Output;

/* The process group of the command; 0 if none runs. */
static volatile pid_t command_group = 0;

/* SIGCHLD: have a look. */
static void
wake_up(SIGNAL_ARGS)
{
	int			saved_errno = errno;

	SetLatch(MyLatch);
	errno = saved_errno;
}

/* SIGQUIT: the server stops at once, and so must the command. */
static void
crash_exit(SIGNAL_ARGS)
{
	if (command_group != 0)
		kill(-command_group, SIGKILL);
	SignalHandlerForCrashExit(postgres_signal_arg);
}

/* Close what the server has open; its sockets are not for the command. */
static void
close_descriptors(void)
{
#if defined(__FreeBSD__) || \
	(defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 34))
	closefrom(STDERR_FILENO + 1);
#else
	/* The limit may be a thousand million; the server does not use those. */
	int			limit = Min(sysconf(_SC_OPEN_MAX), 65536);

	for (int fd = STDERR_FILENO + 1; fd < limit; fd++)
		close(fd);
#endif
}

/* In the new process: become the command. */
static void
become_command(const char *command, int out, int err)
{
	sigset_t	none;
	int			null;

	setpgid(0, 0);
#ifdef __linux__
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != MyProcPid)
		_exit(126);
#endif
	null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
		dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
		_exit(126);
	close_descriptors();

	/* Handlers do not outlive exec, but what is ignored stays ignored. */
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	execl("/bin/sh", "sh", "-c", "--", command, (char *) NULL);
	_exit(127);
}

/* Make a pipe whose end at "reader" does not block; false with errno. */
static bool
make_pipe(Output *reader, int *writer)
{
	int			ends[2];

	if (pipe(ends) < 0)
		return false;
	reader->fd = ends[0];
	*writer = ends[1];
	return pg_set_noblock(reader->fd);
}

static void
close_output(Output *output)
{
	if (output->fd >= 0)
		close(output->fd);
	output->fd = -1;
}

/* Start the command; false, with errno, if that is not possible. */
static bool
start_command(const char *command, Output *out, Output *err)
{
	sigset_t	all;
	sigset_t	before;
	int			out_writer = -1;
	int			err_writer = -1;
	pid_t		pid = -1;

	if (make_pipe(out, &out_writer) && make_pipe(err, &err_writer))
	{
		/* The server's signal handlers must not run in the child. */
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, &before);
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			become_command(command, out_writer, err_writer);
		if (pid > 0)
		{
			setpgid(pid, pid);	/* whoever comes first */
			command_group = pid;
		}
		sigprocmask(SIG_SETMASK, &before, NULL);
	}
	if (out_writer >= 0)
		close(out_writer);
	if (err_writer >= 0)
		close(err_writer);
	return pid > 0;
}

/* Has the shell ended?  It stays a zombie. */
static bool
has_ended(void)
{
	siginfo_t	info;

	info.si_pid = 0;
	return waitid(P_PID, command_group, &info,
				  WEXITED | WNOHANG | WNOWAIT) == 0 &&
		info.si_pid == command_group;
}

/* Kill what is left of the command, and take its status. */
static int
finish_command(void)
{
	int			status = -1;

	kill(-command_group, SIGKILL);
	while (waitpid(command_group, &status, 0) < 0 && errno == EINTR)
		;
	command_group = 0;
	return status;
}

/* The same when the worker exits or fails. */
static void
abandon_command(int code, Datum arg)
{
	if (command_group != 0)
		(void) finish_command();
}

/*
 * Read what is there, at most a buffer full, and keep what there is room for.
 * False if there was nothing.
 */
static bool
read_output(Output *output)
{
	char		buffer[16 * 1024];
	ssize_t		count;

	if (output->fd < 0)
		return false;
	count = read(output->fd, buffer, sizeof(buffer));
	if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK ||
					  errno == EINTR))
		return false;
	if (count <= 0)
	{
		close_output(output);
		return false;
	}
	count = Min(count, output->capacity - output->length);
	memcpy(output->bytes + output->length, buffer, count);
	output->length += count;
	return true;
}

/* Sleep until there is something to do, at most so many milliseconds. */
static void
wait_for_command(const Output *out, const Output *err, long timeout)
{
	WaitEventSet *set;
	WaitEvent	event;

#if PG_VERSION_NUM >= 170000
	set = CreateWaitEventSet(NULL, 4);
#else
	set = CreateWaitEventSet(CurrentMemoryContext, 4);
#endif
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (out->fd >= 0)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, out->fd, NULL, NULL);
	if (err->fd >= 0)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, err->fd, NULL, NULL);
	(void) WaitEventSetWait(set, timeout, &event, 1, PG_WAIT_EXTENSION);
	FreeWaitEventSet(set);

	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static long
milliseconds_since(const instr_time *start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, *start);
	return (long) INSTR_TIME_GET_MILLISEC(now);
}

/* Ask the command to end, which it has a moment for. */
static void
stop_command(void)
{
	const Output nothing = {.fd = -1};
	instr_time	start;

	kill(-command_group, SIGTERM);
	INSTR_TIME_SET_CURRENT(start);
	while (!has_ended())
	{
		long		remaining = GRACE - milliseconds_since(&start);

		if (remaining <= 0)
			break;
		wait_for_command(&nothing, &nothing, remaining);
	}
}

/* Read until the command ends; NULL, or why it has to be stopped. */
static const char *
read_command(Output *out, Output *err)
{
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	while (!has_ended())
	{
		long		remaining = DEADLINE - milliseconds_since(&start);

		if (ShutdownRequestPending)
			return "The worker was told to end.";
		if (remaining <= 0)
			return "The command took longer than 15 seconds.";
		wait_for_command(out, err, remaining);
		(void) read_output(err);
		(void) read_output(out);
		if (out->length == out->capacity)
			return "The command printed more than 272 kB.";
	}

	/* What is in the pipes, but no more, for others may go on to write. */
	while (err->length < err->capacity && read_output(err))
		;
	while (out->length < out->capacity && read_output(out))
		;
	if (out->length == out->capacity)
		return "The command printed more than 272 kB.";
	return NULL;
}

/* What an exit status means, if it is one that curl or the shell documents. */
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

/* Describe how the command ended; false if it did not succeed. */
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

/* Put what the command said on stderr into one printable line. */
static void
quote_stderr(const Output *err, char *said)
{
	int			length = err->length;

	while (length > 0 && (unsigned char) err->bytes[length - 1] <= ' ')
		length--;
	for (int i = 0; i < length; i++)
	{
		char		c = err->bytes[i];

		if (c == '\n')
			c = ' ';
		said[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	said[length] = '\0';
}

/* Look at a document before anybody connects to a database for it. */
static const char *
check_document(const char *text, int length)
{
	OaKeyDocument *document = palloc0(sizeof(OaKeyDocument));
	OaJsonNode *nodes = palloc(OA_JSON_NODES(length) * sizeof(OaJsonNode));
	const char *problem;

	problem = oa_parse_key_document(text, length, nodes,
									timestamptz_to_time_t(GetCurrentTimestamp()),
									oa_clock_skew, document);
	oa_free_key_document(document);
	pfree(document);
	pfree(nodes);
	return problem;
}

/* Judge what the command printed, which has a NUL behind it. */
static bool
read_answer(const Output *out, OaKeyFetch *fetch)
{
	OaKeyAnswer answer;
	const char *problem = oa_read_key_answer(out->bytes, out->length, &answer);

	if (problem == NULL)
	{
		fetch->max_age = answer.max_age;
		fetch->length = out->length - answer.body;
		if (answer.status == 304)
			return true;
		if (answer.status != 200)
		{
			snprintf(fetch->outcome, OA_OUTCOME_MAX,
					 "The answer has HTTP status %d.", answer.status);
			return false;
		}
		if (fetch->length > OA_KEY_DOCUMENT_MAX)
			problem = "The document has more than 256 kB.";
		else
			problem = check_document(out->bytes + answer.body, fetch->length);
	}
	if (problem != NULL)
	{
		strlcpy(fetch->outcome, problem, OA_OUTCOME_MAX);
		return false;
	}
	fetch->document = out->bytes + answer.body;
	return true;
}

/*
 * Run a command that prints an HTTP answer with its header, and return true if
 * that has a usable document, or says (304) that the document has not changed.
 * Else fetch->outcome says what was wrong, and fetch->said what the command
 * said about it.  The document is in the current memory context.
 *
 * A worker calls this that handles SIGTERM by SignalHandlerForShutdownRequest
 * and SIGHUP by SignalHandlerForConfigReload.  SIGTERM makes it return false
 * in a second or so.
 */
bool
oa_fetch_keys(const char *command, OaKeyFetch *fetch)
{
	char		said[OA_COMMAND_SAID_MAX];
	Output		out = {-1, NULL, 0, OUTPUT_MAX + 1};
	Output		err = {-1, said, 0, sizeof(said)};
	const char *problem = NULL;
	int			status = -1;

	memset(fetch, 0, sizeof(OaKeyFetch));
	out.bytes = palloc(out.capacity + 1);
	pqsignal(SIGCHLD, wake_up);
	pqsignal(SIGQUIT, crash_exit);
	PG_ENSURE_ERROR_CLEANUP(abandon_command, (Datum) 0);
	{
		if (!start_command(command, &out, &err))
			problem = "The command could not be started.";
		else
		{
			problem = read_command(&out, &err);
			if (problem != NULL)
				stop_command();
			status = finish_command();
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_command, (Datum) 0);
	pqsignal(SIGQUIT, SignalHandlerForCrashExit);
	pqsignal(SIGCHLD, SIG_DFL);
	close_output(&out);
	close_output(&err);
	out.bytes[out.length] = '\0';
	quote_stderr(&err, fetch->said);

	if (problem == NULL)
		return check_status(status, fetch->outcome) &&
			read_answer(&out, fetch);
	strlcpy(fetch->outcome, problem, OA_OUTCOME_MAX);
	return false;
}
