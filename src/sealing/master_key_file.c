/*
 * master_key_file.c
 *		Reads the master key file.
 *
 * Each line holds one key, 32 bytes in base64.  Blank lines and lines that
 * begin with # are comments.  The file must be as private as the server's TLS
 * key.  We open the file before we check it, so that nobody can replace it
 * between the check and the read.  If the path is a symbolic link, we check
 * the file that it points to.
 *
 * Nothing here raises, so we can keep the text of the file on the stack, and
 * we always clear it and close the descriptor.  No message holds a line of the
 * file or its path, because only superusers may see the path.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/base64.h"
#include "storage/fd.h"

#include "sealing/master_keys.h"
#include "sealing/sealing.h"
#include "settings.h"

/*
 * Raise 55000 because we cannot seal; the detail says why, and the hint what to
 * do.
 */
void
oa_no_master_key(const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there is no master key to seal webhook secrets with"),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint)));
}

#define FILE_MAX		4096	/* bytes */
#define KEY_BASE64_LEN	44		/* length of OA_MASTER_KEY_LEN bytes */

/* What to do about a file that we cannot use. */
#define HINT_SET \
	"Set overten_auth.master_key_file to the path of the file."
#define HINT_COPY \
	"Copy the file that overten_auth.master_key_file names from the server that sealed these values."
#define HINT_ACCESS \
	"Make what overten_auth.master_key_file names a file that the database user owns, with mode 0600, in a directory that this user can enter."
#define HINT_CONTENT \
	"Correct the file that overten_auth.master_key_file names: each line is a comment or another key, 32 bytes in base64, and there are at most 32 keys. Keep the keys that have sealed values."

static bool
refuse_file(OaMasterKeyFile *file, const char *problem, const char *hint)
{
	strlcpy(file->problem, problem, sizeof(file->problem));
	file->hint = hint;
	return false;
}

static bool
fail_at(OaMasterKeyFile *file, int line, const char *what)
{
	snprintf(file->problem, sizeof(file->problem),
			 "Line %d of the master key file %s.", line, what);
	file->hint = HINT_CONTENT;
	return false;
}

/*
 * Do the owner and the mode allow us to trust the file?  The rules are those
 * for the server's TLS key.
 */
static bool
check_status(OaMasterKeyFile *file)
{
	uid_t		owner = file->status.st_uid;
	mode_t		mode = file->status.st_mode;

	if (!S_ISREG(mode))
		return refuse_file(file, "The master key file is not a regular file.",
						   HINT_ACCESS);
	if (owner != geteuid() && owner != 0)
		return refuse_file(file, "The master key file must be owned by the database user or root.",
						   HINT_ACCESS);
	if ((owner == geteuid() && (mode & (S_IRWXG | S_IRWXO)) != 0) ||
		(owner == 0 && (mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0))
		return refuse_file(file, "The master key file has group or world access; allowed is 0600 or less if the database user owns it, 0640 or less if root does.",
						   HINT_ACCESS);
	return true;
}

/*
 * Read the open file, but at most one byte more than it may have.  Returns -1
 * on failure.
 */
static int
read_text(int fd, char *content)
{
	int			length = 0;

	while (length <= FILE_MAX)
	{
		ssize_t		more = read(fd, content + length, FILE_MAX + 1 - length);

		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0)
			return -1;
		if (more == 0)
			break;
		length += (int) more;
	}
	return length;
}

/*
 * Open, check and read the file.  Returns its length, or -1 after setting the
 * problem.
 */
static int
load_key_file(OaMasterKeyFile *file, char *content)
{
	int			length = -1;
	int			fd;

	if (oa_master_key_file[0] == '\0')
	{
		(void) refuse_file(file, "overten_auth.master_key_file is empty.", HINT_SET);
		return -1;
	}

	/* Do not wait if somebody has put a pipe or a terminal there. */
	fd = BasicOpenFile(oa_master_key_file,
					   O_RDONLY | O_NONBLOCK | O_NOCTTY | PG_BINARY);
	if (fd < 0)
	{
		file->missing = (errno == ENOENT);
		snprintf(file->problem, sizeof(file->problem),
				 file->missing ? "The master key file does not exist." :
				 "The master key file could not be opened: %s.",
				 strerror(errno));
		file->hint = file->missing ? HINT_COPY : HINT_ACCESS;
		if (stat(oa_master_key_file, &file->status) != 0)
			memset(&file->status, 0, sizeof(file->status));
		return -1;
	}

	if (fstat(fd, &file->status) != 0)
		(void) refuse_file(file, "The master key file could not be checked.",
						   HINT_ACCESS);
	else if (check_status(file))
	{
		length = read_text(fd, content);
		if (length < 0)
			(void) refuse_file(file, "The master key file could not be read.",
							   HINT_ACCESS);
	}
	close(fd);
	return length;
}

/* Append the key from a line that is not a comment. */
static bool
take_key(OaMasterKeyFile *file, OaMasterKey *keys, int line, const char *content,
		 int length)
{
	uint8		decoded[OA_MASTER_KEY_LEN + 2]; /* the decoder needs room */
	bool		is_key;

	if (file->count == OA_MASTER_KEYS_MAX)
		return fail_at(file, line, "is a key too many");

	is_key = length == KEY_BASE64_LEN &&
		pg_b64_decode(content, length, (void *) decoded,
					  sizeof(decoded)) == OA_MASTER_KEY_LEN;
	if (is_key)
		memcpy(keys[file->count].bytes, decoded, OA_MASTER_KEY_LEN);
	explicit_bzero(decoded, sizeof(decoded));
	if (!is_key)
		return fail_at(file, line, "is not 32 bytes in base64");

	for (int i = 0; i < file->count; i++)
	{
		if (memcmp(keys[i].bytes, keys[file->count].bytes,
				   OA_MASTER_KEY_LEN) == 0)
			return fail_at(file, line, "repeats a key");
	}
	file->count++;
	return true;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Extract the keys from the text of the file. */
static bool
parse_keys(OaMasterKeyFile *file, OaMasterKey *keys, const char *content,
		   int length)
{
	const char *at = content;
	const char *end = content + length;

	if (length > FILE_MAX)
		return refuse_file(file, "The master key file is too large.", HINT_CONTENT);

	for (int line = 1; at < end; line++)
	{
		const char *newline = memchr(at, '\n', end - at);
		const char *from = at;
		const char *to = newline != NULL ? newline : end;

		at = to + 1;
		while (from < to && is_space(*from))
			from++;
		while (from < to && is_space(to[-1]))
			to--;
		if (from < to && *from != '#' &&
			!take_key(file, keys, line, from, (int) (to - from)))
			return false;
	}
	return file->count > 0 ||
		refuse_file(file, "The master key file holds no key.", HINT_COPY);
}

/*
 * Read the file.  If it is good, return true and set "keys" to its keys, at
 * most OA_MASTER_KEYS_MAX.  If it is not, return false; "file" says what is
 * wrong, and the caller has to clear "keys".
 */
bool
oa_read_master_key_file(OaMasterKeyFile *file, OaMasterKey *keys)
{
	char		content[FILE_MAX + 1];
	int			length;
	bool		good;

	memset(file, 0, sizeof(*file));
	length = load_key_file(file, content);
	good = length >= 0 && parse_keys(file, keys, content, length);
	explicit_bzero(content, sizeof(content));
	return good;
}

/*
 * Has the file been replaced or changed since we read it?  Costs a system
 * call.
 */
bool
oa_master_key_file_has_changed(const OaMasterKeyFile *file)
{
	const struct stat *before = &file->status;
	struct stat now;

	if (stat(oa_master_key_file, &now) != 0)
		memset(&now, 0, sizeof(now));
	return now.st_dev != before->st_dev ||
		now.st_ino != before->st_ino ||
		now.st_size != before->st_size ||
		now.st_mode != before->st_mode ||
		now.st_uid != before->st_uid ||
		memcmp(&now.st_mtim, &before->st_mtim, sizeof(now.st_mtim)) != 0 ||
		memcmp(&now.st_ctim, &before->st_ctim, sizeof(now.st_ctim)) != 0;
}
