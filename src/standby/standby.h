/*
 * standby.h
 *		How old what a standby knows can be, and the bound of it; a session on
 *		the primary.
 */
#ifndef OA_STANDBY_H
#define OA_STANDBY_H

#include "overten_auth.h"

/* staleness.c: the protocol; what sessions read */
extern void oa_standby_shmem_request(void);
extern void oa_standby_shmem_init(void);
extern bool oa_is_within_standby_bound(void);
extern int64 oa_standby_age(void);
extern const char *oa_standby_problem(void);
extern const char *oa_standby_lag_message(void);
extern const char *oa_standby_lag_detail(void);
extern const char *oa_standby_lag_hint(void);

/* primary_session.c: SQL on the primary */
extern void oa_primary_session_begin(const char *database);
extern void oa_primary_session_send(const char *statement, int count,
									const Oid *types, const Datum *values);
extern void oa_primary_session_wait(void);
extern void oa_primary_session_end(void);

/* staleness_worker.c */
extern void oa_register_standby_worker(void);

#endif							/* OA_STANDBY_H */
