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
 * The schema that holds the extension's tables.  C code never searches for it.
 */
#define OA_SCHEMA "overten_auth"

#endif							/* OVERTEN_AUTH_H */
