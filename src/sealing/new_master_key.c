/*
 * new_master_key.c
 *		Creates the master key file of a new cluster, once.
 *
 * A key that has sealed something cannot be replaced, and a second key would
 * only hide that the first one is lost.  So we create the file only if nothing
 * can depend on another key: the file does not exist, this database holds no
 * sealed value, and the data directory has no mark.  The mark is a file that
 * we create before the first value of any database is sealed.  Base backups
 * copy it with the rest.  A standby that was made earlier does not have the
 * mark, and neither does a cluster that pg_upgrade has made; there we depend
 * on the check of the database.
 *
 * Sessions of several databases may create either file at the same time.  Each
 * writes its own copy under a temporary name and then calls link() to give it
 * the real name.  link() fails if that name exists, so we never overwrite a
 * file, and a full disk never leaves half of one.  All sessions then use the
 * file that exists.  A session that finds that it may not create the key file
 * has to look for the file once more: in the meantime, another session may
 * have created it, sealed a value with its key, and committed.
 *
 * The data directory is not where a replicated server's only copy may be; see
 * key_file_place.c.  There we do not create the file, nor seal a first value
 * with a file that somebody has put there.
 *
 * Every session that does not find the mark first flushes the directory of the
 * key file, and then creates the mark.  So no value is sealed with a key that
 * a crash could take away.
 *
 * A crash can leave the temporary file, which holds a key, perhaps the one in
 * use.  The first sealing of each session removes temporary files that are so
 * old that no session can still be writing them.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "port.h"
#include "storage/fd.h"

#include "sealing/master_keys.h"
#include "sealing/sealing.h"
#include "server/server.h"
#include "settings.h"

#define MARK_FILE	"overten_auth.sealed"	/* in the data directory */
#define STALE_SECONDS	3600

static const char mark_text[] =
"overten_auth has sealed webhook secrets in this cluster.\n"
"While this file exists, it does not create a master key file on its own.\n";

static const char key_file_comment[] =
"# Master keys of overten_auth: the first seals webhook secrets, each opens them.\n"
"# Keep a copy of this file outside of backups of the database: without it the\n"
"# secrets are lost.  Each standby and each new cluster needs it, too.\n";

/* Does this database hold a sealed value, committed or our own? */
static bool
database_has_sealed(void)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.orgs LIMIT 1",
	};
	int			level = oa_statements_begin();
	bool		found = oa_statement_run(&find, NULL, NULL) > 0;

	oa_statements_end(level);
	return found;
}

static bool
cluster_is_marked(void)
{
	struct stat status;

	return stat(MARK_FILE, &status) == 0;
}

/*
 * May we create the file if it is missing?  Raises 25006 where nothing can be
 * sealed anyway: on a standby and in a read-only transaction.
 */
bool
oa_may_make_master_key(void)
{
	PreventCommandIfReadOnly("the sealing of webhook secrets");
	return !cluster_is_marked() && !database_has_sealed();
}

/* Write a new file and flush it.  Returns 0 or an errno. */
static int
write_file(const char *path, mode_t mode, const char *bytes, size_t length)
{
	int			error = 0;
	int			fd = BasicOpenFilePerm(path, O_WRONLY | O_CREAT | O_EXCL |
									   PG_BINARY, mode);

	if (fd < 0)
		return errno;

	errno = 0;
	if (write(fd, bytes, length) != (ssize_t) length)
		error = errno != 0 ? errno : ENOSPC;
	else if (pg_fsync(fd) != 0)
		error = errno;
	if (close(fd) != 0 && error == 0)
		error = errno;
	return error;
}

/*
 * Split a path into its directory and its file name.  Without a directory, use
 * ".".  Returns the file name.
 */
const char *
oa_split_path(const char *path, char *directory)
{
	const char *slash = last_dir_separator(path);

	strlcpy(directory, path, MAXPGPATH);
	get_parent_directory(directory);
	if (directory[0] == '\0')
		strlcpy(directory, ".", MAXPGPATH);
	return slash != NULL ? slash + 1 : path;
}

/* Is this a temporary name of the file, NAME.xxxxxxxx.tmp? */
static bool
is_temporary(const char *candidate, const char *name)
{
	size_t		length = strlen(name);

	return strncmp(candidate, name, length) == 0 &&
		candidate[length] == '.' &&
		strspn(candidate + length + 1, "0123456789abcdef") == 8 &&
		strcmp(candidate + length + 9, ".tmp") == 0;
}

/* Is this a file of ours that nobody has written to for a while? */
static bool
is_stale(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0 && S_ISREG(status.st_mode) &&
		status.st_uid == geteuid() &&
		status.st_mtime < time(NULL) - STALE_SECONDS;
}

/* Remove what crashes have left beside a file.  We ignore failures. */
static void
remove_stale_files(const char *path)
{
	char		directory[MAXPGPATH];
	const char *name = oa_split_path(path, directory);
	DIR		   *dir = AllocateDir(directory);
	struct dirent *entry;

	while (dir != NULL &&
		   (entry = ReadDirExtended(dir, directory, LOG_SERVER_ONLY)) != NULL)
	{
		char		candidate[MAXPGPATH * 2];

		if (!is_temporary(entry->d_name, name))
			continue;
		snprintf(candidate, sizeof(candidate), "%s/%s", directory,
				 entry->d_name);
		if (is_stale(candidate) && unlink(candidate) != 0)
			ereport(LOG_SERVER_ONLY,
					(errcode_for_file_access(),
					 strcmp(path, MARK_FILE) == 0 ?
					 errmsg("could not remove a temporary file beside \"%s\" in the data directory: %m",
							MARK_FILE) :
					 errmsg("could not remove a temporary file beside the master key file: %m"),
					 errhint("Let the database user remove files in that directory, or remove the files there whose names end in .tmp by hand; they can hold a master key.")));
	}
	if (dir != NULL)
		FreeDir(dir);
}

/*
 * Create a whole file, unless it exists by now.  Returns 0 if it is there, or
 * an errno.
 */
static int
make_file(const char *path, mode_t mode, const char *bytes, size_t length)
{
	char		temporary[MAXPGPATH];
	uint32		number;
	int			error;

	oa_draw_random(&number, sizeof(number));
	snprintf(temporary, sizeof(temporary), "%s.%08x.tmp", path, number);
	error = write_file(temporary, mode, bytes, length);
	if (error == 0 && link(temporary, path) != 0 && errno != EEXIST)
		error = errno;
	unlink(temporary);
	return error;
}

/* Flush the directory of a file, so that the file's name survives a crash. */
static void
flush_directory(const char *path)
{
	char		directory[MAXPGPATH];

	(void) oa_split_path(path, directory);
	fsync_fname_ext(directory, true, true, ERROR);
}

/*
 * Raise 55000 because we could not create a file.  "where" describes its
 * directory.
 */
pg_noreturn static void
refuse_creation(const char *what, const char *where, int error)
{
	char		detail[200];

	snprintf(detail, sizeof(detail), "%s could not be made: %s.", what,
			 strerror(error));
	oa_no_master_key(detail,
					 psprintf("Let the database user create files in %s, and check its disk space.",
							  where));
}

/*
 * Create the master key file with a new key, unless it exists by now.  Raises
 * 55000 on failure.
 */
void
oa_make_master_key_file(void)
{
	uint8		key[OA_MASTER_KEY_LEN];
	char		content[sizeof(key_file_comment) + 64];
	size_t		length = strlen(key_file_comment);
	int			encoded;
	int			error = EINVAL;

	oa_require_lasting_key_file();
	memcpy(content, key_file_comment, length);
	oa_draw_random(key, sizeof(key));
	encoded = pg_b64_encode((const void *) key, sizeof(key), content + length,
							(int) (sizeof(content) - length) - 1);
	if (encoded > 0)
	{
		length += encoded;
		content[length++] = '\n';

		error = make_file(oa_master_key_file, S_IRUSR | S_IWUSR, content, length);
	}
	explicit_bzero(key, sizeof(key));
	explicit_bzero(content, sizeof(content));
	if (error != 0)
		refuse_creation("The master key file",
						"the directory of the file that overten_auth.master_key_file names",
						error);
}

/*
 * Make sure that the file that we have read survives a crash, and that nobody
 * creates another one once something is sealed with it.  Must be called before
 * we seal.
 */
void
oa_settle_master_key_file(void)
{
	static bool settled = false;
	int			error;

	if (settled)
		return;
	remove_stale_files(oa_master_key_file);
	remove_stale_files(MARK_FILE);
	if (!cluster_is_marked())
	{
		PreventCommandIfReadOnly("the sealing of webhook secrets");
		if (!database_has_sealed())
			oa_require_lasting_key_file();
		flush_directory(oa_master_key_file);
		error = make_file(MARK_FILE, pg_file_create_mode, mark_text,
						  strlen(mark_text));
		if (error != 0)
			refuse_creation("The mark in the data directory",
							"the data directory", error);
		flush_directory(MARK_FILE);
	}
	settled = true;
}
