/*
 * key_file_place.c
 *		Is the master key file where a failover can delete it?
 *
 * pg_rewind makes a data directory like that of the new primary, and a new copy
 * of a server replaces the whole directory.  Both delete what the new primary
 * does not have.  A standby that was made before the first sealing does not
 * have the master key file.  So when it becomes the primary and the old one
 * follows it, the only copy of a file in the data directory is gone, and with
 * it all webhook secrets.
 *
 * What follows this server has a physical replication slot, or it streams and
 * reports what it has replayed.  Base backups and receivers of WAL stream, too,
 * but replay nothing.  A logical subscriber has its own data directory, which
 * nobody makes like ours.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "port.h"
#include "storage/fd.h"

#include "sealing/master_keys.h"
#include "server/server.h"
#include "settings.h"

/* Is one of the directories above a resolved path this one? */
static bool
is_below(const char *path, const struct stat *directory)
{
	char		above[MAXPGPATH];
	struct stat status;

	strlcpy(above, path, sizeof(above));
	for (;;)
	{
		char	   *slash = last_dir_separator(above);

		if (slash == NULL)
			return false;
		slash[slash == above ? 1 : 0] = '\0';
		if (stat(above, &status) == 0 &&
			status.st_dev == directory->st_dev &&
			status.st_ino == directory->st_ino)
			return true;
		if (slash == above)
			return false;
	}
}

static bool
is_below_path(const char *path, const char *directory)
{
	struct stat status;

	return stat(directory, &status) == 0 && is_below(path, &status);
}

/* Is a resolved path in a tablespace, which pg_rewind makes alike, too? */
static bool
is_in_tablespace(const char *path)
{
	DIR		   *dir = AllocateDir("pg_tblspc");
	struct dirent *entry;
	bool		found = false;

	while (!found && dir != NULL &&
		   (entry = ReadDirExtended(dir, "pg_tblspc", LOG)) != NULL)
	{
		char		tablespace[MAXPGPATH];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(tablespace, sizeof(tablespace), "pg_tblspc/%s", entry->d_name);
		found = is_below_path(path, tablespace);
	}
	if (dir != NULL)
		FreeDir(dir);
	return found;
}

/* Return a path without symbolic links, or NULL if there is nothing. */
static char *
resolve(const char *path)
{
	char	   *resolved = realpath(path, NULL);
	char	   *copy;

	if (resolved == NULL)
		return NULL;
	copy = pstrdup(resolved);
	free(resolved);
	return copy;
}

/*
 * Is the master key file, or the directory where it would be made, part of what
 * pg_rewind makes alike?
 */
static bool
is_in_data_directory(void)
{
	char	   *path = resolve(oa_master_key_file);
	char		directory[MAXPGPATH];

	if (path == NULL)
	{
		(void) oa_split_path(oa_master_key_file, directory);
		path = resolve(directory);
		if (path == NULL)
			return false;
		path = psprintf("%s/new", path);
	}
	return is_below_path(path, ".") || is_below_path(path, XLOGDIR) ||
		is_in_tablespace(path);
}

/*
 * Does another server follow this one, or has it a slot for that?  A role that may
 * not read the state of others sees NULL, and then any of them may follow.
 */
static bool
is_followed(void)
{
	static OaStatement find = {
		.table = "orgs",
		.text = "SELECT 1 FROM pg_get_replication_slots() "
		"WHERE slot_type = 'physical' AND NOT temporary "
		"UNION ALL SELECT 1 FROM pg_stat_get_wal_senders() w "
		"WHERE (w.state IS NULL OR w.state IN ('catchup', 'streaming') "
		"AND w.replay_lsn IS NOT NULL) AND NOT EXISTS ("
		"SELECT FROM pg_get_replication_slots() s "
		"WHERE s.active_pid = w.pid AND s.slot_type = 'logical') LIMIT 1",
		.latest = true,
	};
	int			level = oa_statements_begin();
	bool		found = oa_statement_run(&find, NULL, NULL) > 0;

	oa_statements_end(level);
	return found;
}

/*
 * Return a sentence if a failover can delete this server's master key file, or
 * NULL.  On a standby the question is the primary's.
 */
const char *
oa_key_file_risk(void)
{
	if (RecoveryInProgress() || oa_master_key_file[0] == '\0' ||
		!is_in_data_directory() || !is_followed())
		return NULL;
	return "The master key file is in the data directory of a server that has standbys, where pg_rewind and new copies of the server delete what the new primary does not have.";
}

/* Raise 55000 if a failover can delete the file that we are about to use. */
void
oa_require_lasting_key_file(void)
{
	const char *risk = oa_key_file_risk();

	if (risk != NULL)
		oa_no_master_key(risk,
						 "Set overten_auth.master_key_file to a path outside of the data directories on every server, and copy the file to all of them once it is made.");
}
