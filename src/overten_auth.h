/*
 * overten_auth.h
 *		Included by every file of overten_auth.
 *
 * The names of all symbols that cross a file begin with oa_ (types with Oa,
 * constants with OA_), because all modules that a PostgreSQL 15 server loads
 * share one symbol space.
 */
#ifndef OVERTEN_AUTH_H
#define OVERTEN_AUTH_H

#include "fmgr.h"

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * A function that does not return.  PostgreSQL has the macro since 18; where it
 * does not have it, every compiler that we build with knows the attribute.
 */
#ifndef pg_noreturn
#define pg_noreturn		__attribute__((noreturn))
#endif

/*
 * The schema that holds the extension's tables.  C code never searches for it.
 */
#define OA_SCHEMA "overten_auth"

#endif							/* OVERTEN_AUTH_H */
