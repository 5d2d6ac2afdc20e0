/*
 * locked_org.c
 *		Locks an org for one of its members, and a person.
 *
 * A member's request locks the org's row before it decides anything, so that
 * requests about one org come one after the other.  The locks do not block
 * verification, and do not write in a way that empties caches.
 *
 * The answer is the same if an org does not exist and if it is not the
 * caller's.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "members/locked_org.h"
#include "sealing/sealing.h"
#include "server/server.h"

/* Is this person a member of this org? */
static bool
is_member(text *org_id, text *uid)
{
	static OaStatement find = {
		.table = "members",
		.text = "SELECT 1 FROM overten_auth.members "
		"WHERE org_id = $1 AND uid = $2 AND erased_at IS NULL",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(uid)};

	return oa_statement_run(&find, values, NULL) > 0;
}

/* Likewise, for callers outside of oa_statements_begin() and _end(). */
bool
oa_is_member(text *org_id, text *uid)
{
	int			level = oa_statements_begin();
	bool		found = is_member(org_id, uid);

	oa_statements_end(level);
	return found;
}

/* Run the statement that locks an org, and describe the org. */
static bool
lock_org(OaStatement *lock, text *org_id, text *uid, OaLockedOrg *org)
{
	Datum		values[] = {PointerGetDatum(org_id)};

	if (uid != NULL && !is_member(org_id, uid))
		return false;
	if (oa_statement_run(lock, values, NULL) == 0)
		return false;

	org->name = oa_statement_text(0, 1);
	org->tier = oa_statement_text(0, 2);
	org->webhook_secret_sealed = (bytea *) oa_statement_varlena(0, 3, BYTEAOID);
	org->signed_up = oa_statement_bool(0, 4);
	org->suspended = oa_statement_bool(0, 5);
	org->closed = oa_statement_bool(0, 6);
	return uid == NULL || is_member(org_id, uid);
}

#define LOCK_ORG(strength) \
	"SELECT name, tier, webhook_secret_sealed, " \
	"api_access_since IS NOT NULL, suspended_at IS NOT NULL, " \
	"closed_at IS NOT NULL " \
	"FROM overten_auth.orgs " \
	"WHERE org_id = $1 AND erased_at IS NULL " strength

/*
 * Lock an org of a person.  Returns false if the org does not exist, or the
 * person is not a member.  In both cases we do not look at orgs, so that the
 * time does not tell them apart.  We check membership again after the lock,
 * because the person may have been removed while we waited.  If "uid" is NULL,
 * the application asks, and may lock any org.  Must be called between
 * oa_statements_begin() and _end().
 */
bool
oa_lock_members_org(text *org_id, text *uid, OaLockedOrg *org)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = LOCK_ORG("FOR NO KEY UPDATE"),
		.argtypes = {TEXTOID},
	};

	return lock_org(&lock, org_id, uid, org);
}

/* Lock an org of a person's.  Can the person mint a key for it? */
OaProblem
oa_lock_org_with_access(text *org_id, text *uid, OaLockedOrg *org)
{
	if (!oa_lock_members_org(org_id, uid, org))
		return OA_ORGANIZATION_NOT_FOUND;
	return org->signed_up && !org->suspended ? OA_NO_PROBLEM :
		OA_API_ACCESS_DISABLED;
}

/*
 * Lock an org like oa_lock_members_org(), but against everything that refers to
 * the org, too: this waits for keys that are being minted, and for members that
 * are being added.
 */
bool
oa_lock_whole_org(text *org_id, text *uid, OaLockedOrg *org)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = LOCK_ORG("FOR UPDATE"),
		.argtypes = {TEXTOID},
	};

	return lock_org(&lock, org_id, uid, org);
}

/*
 * Take a lock that stands for the hash of something in a table, until this
 * transaction ends.  No SQL function can take it.
 */
void
oa_lock_hash(const char *table, uint32 hash)
{
	LockDatabaseObject(get_relname_relid(table,
										 get_namespace_oid(OA_SCHEMA, false)),
					   hash, 0, ExclusiveLock);
}

/*
 * Wait until no other transaction counts the orgs of a person, or erases the
 * person, and keep others waiting until this transaction ends.
 */
void
oa_lock_person(text *uid)
{
	oa_lock_hash("members", hash_bytes((unsigned char *) VARDATA_ANY(uid),
									   VARSIZE_ANY_EXHDR(uid)));
}

/* Fill in the result from a locked org. */
void
oa_describe_org(text *org_id, const OaLockedOrg *org, OaOrgKey *result)
{
	result->org_id = org_id;
	result->org_name = org->name;
	result->tier = org->tier;
	result->webhook_secret = oa_unseal(org_id, org->webhook_secret_sealed);
}
