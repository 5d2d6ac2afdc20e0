/*
 * fetch_command.c
 *		Runs the command that fetches signing keys, and reads its output.
 *
 * The shell runs the command, as it runs archive_command, so that no process
 * of the server contains an HTTP or TLS library, their threads, or a resolver.
 * Unlike archive_command, we do not trust the command to end.  It has a
 * deadline, its output has a limit, and it gets a process group of its own.
 * We kill the whole group however the worker ends: by an error, by SIGTERM, by
 * SIGQUIT, or because the postmaster died.  After SIGKILL we cannot; on Linux,
 * the kernel then kills the shell.  A process that leaves the group escapes.
 *
 * The run is over when the shell ends.  We do not wait for children that the
 * shell leaves behind, even if they hold the pipes open.  We keep the dead
 * shell as a zombie until we have killed its group, so that no other process
 * can get its process id before.
 *
 * The worker's latch wakes it for every event; SIGCHLD sets the latch, too.
 * No transaction may be open meanwhile.
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

#define DEADLINE		15000	/* milliseconds, for the whole run */
#define GRACE			1000	/* milliseconds from SIGTERM to SIGKILL */

/* A pipe from the command. */
typedef struct Output
{
	int			fd;				/* -1 after its end */
	char	   *bytes;
	int			length;
	int			capacity;
} Output;

/* The process group of the running command, or 0. */
static volatile pid_t command_group = 0;

/* SIGCHLD handler: set the latch. */
static void
wake_up(SIGNAL_ARGS)
{
	int			saved_errno = errno;

	SetLatch(MyLatch);
	errno = saved_errno;
}

/* SIGQUIT handler: the server stops at once, so the command must stop, too. */
static void
crash_exit(SIGNAL_ARGS)
{
	if (command_group != 0)
		kill(-command_group, SIGKILL);
	SignalHandlerForCrashExit(postgres_signal_arg);
}

/* Close the server's descriptors; the command must not inherit its sockets. */
static void
close_descriptors(void)
{
#if defined(__FreeBSD__) || \
	(defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 34))
	closefrom(STDERR_FILENO + 1);
#else
	/*
	 * The limit may be a billion, but the server does not use such
	 * descriptors.
	 */
	int			limit = Min(sysconf(_SC_OPEN_MAX), 65536);

	for (int fd = STDERR_FILENO + 1; fd < limit; fd++)
		close(fd);
#endif
}

/* In the child process: execute the command. */
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

	/* exec resets handled signals, but ignored ones stay ignored. */
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	execl("/bin/sh", "sh", "-c", "--", command, (char *) NULL);
	_exit(127);
}

/*
 * Create a pipe, of which the end at "reader" does not block.  Returns false
 * with errno set on failure.
 */
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

/* Start the command.  Returns false with errno set on failure. */
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
			setpgid(pid, pid);	/* parent and child both call this */
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

/* Has the shell ended?  This leaves it a zombie. */
static bool
has_ended(void)
{
	siginfo_t	info;

	info.si_pid = 0;
	return waitid(P_PID, command_group, &info,
				  WEXITED | WNOHANG | WNOWAIT) == 0 &&
		info.si_pid == command_group;
}

/* Kill the rest of the command's group, and return the shell's status. */
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

/* Likewise, when the worker exits or an error is raised. */
static void
abandon_command(int code, Datum arg)
{
	if (command_group != 0)
		(void) finish_command();
}

/*
 * Read what is available, at most a buffer full, and store as much as there is
 * room for.  Returns false if there was nothing to read.
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

/* Sleep until something happens, at most this many milliseconds. */
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

/* Send SIGTERM to the command, and give it a moment to end. */
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

/* Read until the command ends.  Returns NULL, or why we have to stop it. */
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

	/*
	 * Read what is left in the pipes.  Do not wait for more, because other
	 * processes may go on writing.
	 */
	while (err->length < err->capacity && read_output(err))
		;
	while (out->length < out->capacity && read_output(out))
		;
	if (out->length == out->capacity)
		return "The command printed too much.";
	return NULL;
}

/* Turn the beginning of stderr into one printable line. */
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
 * Run a command to its end.  The caller sets run->printed and run->capacity to
 * the buffer for its output.  Returns NULL, or a sentence that says why we
 * could not start the command or had to stop it; in that case run->status is
 * not valid.
 *
 * The caller must be a worker that handles SIGTERM with
 * SignalHandlerForShutdownRequest and SIGHUP with
 * SignalHandlerForConfigReload.  After a SIGTERM this function returns within
 * about a second.
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
