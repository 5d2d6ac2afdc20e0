/*
 * tables.h
 *		The columns and indexes of the tables that are read directly, for the
 *		files of this directory.
 */
#ifndef OA_TABLES_H
#define OA_TABLES_H

#include "lookup/lookup.h"

/* invalidation.c: which OIDs it is to hear of */
extern void oa_watch_table(OaTable table, Oid relid);
extern bool oa_are_tables_watched(void);
extern void oa_tables_are_watched(uint64 under);

/* tables.c: the tables that are read directly, with the columns that are */
enum
{
	OA_KEY_DIGEST, OA_KEY_ID, OA_KEY_ORG_ID, OA_KEY_PREFIX, OA_KEY_REVOKED_AT
};

enum
{
	OA_ORG_ID, OA_ORG_NAME, OA_ORG_TIER, OA_ORG_WEBHOOK_SECRET,
	OA_ORG_SUSPENDED_AT
};

enum
{
	OA_SIGNING_KID, OA_SIGNING_PUBLIC_KEY, OA_SIGNING_EXPIRES_AT,
	OA_SIGNING_CERTIFICATE_EXPIRES_AT
};

#define OA_TABLE_COLUMNS_MAX 5

typedef struct OaTableInfo
{
	Oid			equality;		/* function that compares the first column */
	Oid			relid;
	Oid			index;			/* unique, on the first column; may be none */
	int			ncolumns;
	AttrNumber	attnums[OA_TABLE_COLUMNS_MAX];	/* by the enums above */
} OaTableInfo;

extern void oa_tables_look_up(void);
extern Relation oa_table_open(OaTable number, const OaTableInfo **info);

#endif							/* OA_TABLES_H */
