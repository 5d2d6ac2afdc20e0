/*
 * master_keys.h
 *		The master keys and their file, for the files of this directory.
 */
#ifndef OA_MASTER_KEYS_H
#define OA_MASTER_KEYS_H

#include <sys/stat.h>
#include "sealing/sealing.h"

/* new_master_key.c: the first master key of a cluster */
extern bool oa_may_make_master_key(void);
extern void oa_make_master_key_file(void);
extern void oa_settle_master_key_file(void);
extern const char *oa_split_path(const char *path, char *directory);

/* key_file_place.c: where the file must not be */
extern void oa_require_lasting_key_file(void);

/* master_key_file.c: the file that holds the master keys */
#define OA_MASTER_KEYS_MAX		32

typedef struct OaMasterKeyFile
{
	int			count;			/* number of keys */
	bool		missing;
	char		problem[200];	/* a sentence, or empty if the file is good */
	const char *hint;			/* what to do about the problem */
	struct stat status;			/* zeros if the file does not exist */
} OaMasterKeyFile;

pg_noreturn extern void oa_no_master_key(const char *detail, const char *hint);
extern bool oa_read_master_key_file(OaMasterKeyFile *file, OaMasterKey *keys);
extern bool oa_master_key_file_has_changed(const OaMasterKeyFile *file);

#endif							/* OA_MASTER_KEYS_H */
