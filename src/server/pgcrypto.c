/*
 * pgcrypto.c
 *		Calls a function of pgcrypto, which this extension requires.
 *
 * pgcrypto may be in any schema, and other schemas may have functions of the
 * same name, so we look for the function among the members of the extension.
 * We accept only one that is written in C, because the owner of pgcrypto could
 * add a member, and need not be a superuser.  We call it through fmgr: SQL
 * text would have to name the schema, and its arguments would show up in
 * plans.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/syscache.h"

#include "server/server.h"

/* Is this function hmac(bytea, bytea, text), in C? */
static bool
is_hmac(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	result = strcmp(NameStr(form->proname), "hmac") == 0 &&
		form->prolang == ClanguageId &&
		form->prorettype == BYTEAOID && form->pronargs == 3 &&
		form->proargtypes.values[0] == BYTEAOID &&
		form->proargtypes.values[1] == BYTEAOID &&
		form->proargtypes.values[2] == TEXTOID;
	ReleaseSysCache(tuple);
	return result;
}

/* Find hmac() among the members of pgcrypto. */
static Oid
find_hmac(void)
{
	Oid			extension = get_extension_oid("pgcrypto", true);
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	Oid			result = InvalidOid;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2,
							  keys);
	while (!OidIsValid(result) &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->deptype == DEPENDENCY_EXTENSION &&
			form->classid == ProcedureRelationId && is_hmac(form->objid))
			result = form->objid;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

/*
 * Compute the HMAC-SHA256 (RFC 2104) of a message.  Raises 55000 without
 * pgcrypto.
 */
bytea	   *
oa_hmac_sha256(bytea *key, bytea *message)
{
	Oid			hmac = find_hmac();

	if (!OidIsValid(hmac))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension pgcrypto has no function hmac(bytea, bytea, text)"),
				 errhint("Run CREATE EXTENSION pgcrypto in this database.")));
	return DatumGetByteaPP(OidFunctionCall3(hmac, PointerGetDatum(message),
											PointerGetDatum(key),
											CStringGetTextDatum("sha256")));
}
