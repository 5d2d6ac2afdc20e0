/*
 * fetch_command.c
 *		Runs the command that fetches signing keys, and takes what it prints.
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
 * transaction may be open meanwhile.
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

#include "server/server.h"
#include "signing_keys/fetch.h"

#define DEADLINE		15000	/* milliseconds, for all that a command does */
#define GRACE			1000	/* between SIGTERM and SIGKILL */

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
	(void) WaitEventSetWait(set, timeout, &event, 1,
							oa_wait_event(OA_WAIT_FETCH));
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
			return "The command printed too much.";
	}

	/* What is in the pipes, but no more, for others may go on to write. */
	while (err->length < err->capacity && read_output(err))
		;
	while (out->length < out->capacity && read_output(out))
		;
	if (out->length == out->capacity)
		return "The command printed too much.";
	return NULL;
}

/* Make what the command said on stderr one printable line. */
static void
clean_line(char *line, int length)
{
	while (length > 0 && (unsigned char) line[length - 1] <= ' ')
		length--;
	for (int i = 0; i < length; i++)
	{
		if (line[i] == '\n' || line[i] == '\r' || line[i] == '\t')
			line[i] = ' ';
		else if (line[i] < ' ' || line[i] > '~')
			line[i] = '?';
	}
	line[length] = '\0';
}

/*
 * Run a command to its end, with run->printed and run->capacity set to where
 * what it prints goes.  Returns NULL, or as a sentence why it could not be
 * started or was stopped; then run->status means nothing.
 *
 * A worker calls this that handles SIGTERM by SignalHandlerForShutdownRequest
 * and SIGHUP by SignalHandlerForConfigReload.  SIGTERM makes it return in a
 * second or so.
 */
const char *
oa_run_command(const char *command, OaCommandRun *run)
{
	Output		out = {-1, run->printed, 0, run->capacity};
	Output		err = {-1, run->said, 0, OA_COMMAND_SAID_MAX};
	const char *problem;

	pqsignal(SIGCHLD, wake_up);
	pqsignal(SIGQUIT, crash_exit);
	PG_ENSURE_ERROR_CLEANUP(abandon_command, (Datum) 0);
	{
		if (start_command(command, &out, &err))
		{
			problem = read_command(&out, &err);
			if (problem != NULL)
				stop_command();
			run->status = finish_command();
		}
		else
			problem = "The command could not be started.";
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_command, (Datum) 0);
	pqsignal(SIGQUIT, SignalHandlerForCrashExit);
	pqsignal(SIGCHLD, SIG_DFL);
	close_output(&out);
	close_output(&err);
	run->length = out.length;
	clean_line(run->said, err.length);
	return problem;
}
