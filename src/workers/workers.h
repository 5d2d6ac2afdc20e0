/*
 * workers.h
 *		The background workers, and their jobs in a database.
 */
#ifndef OA_WORKERS_H
#define OA_WORKERS_H

#include "overten_auth.h"
#include "databases/databases.h"

/* database_jobs.c: the jobs of a usage worker */
extern const char *oa_job_activity(OaJob job);
extern int64 oa_job_pause_ms(const OaJobState *state);
extern void oa_note_job_failure(OaDatabase *database, OaJob job, uint64 asked,
								const char *failure);
extern void oa_do_usage_jobs(OaDatabase *database, uint64 asked);

/* database_names.c: which databases have the listed names */
extern void oa_find_databases(void);
extern void oa_look_up_databases(Oid *named);

/* launcher.c, database_worker.c: the background workers */
extern void oa_register_launcher(void);

/* standby_check.c: what a standby is told of at its start */
extern void oa_register_standby_check(void);

/* audit_cleaning.c */
extern bool oa_remove_old_audit(void);

#endif							/* OA_WORKERS_H */
