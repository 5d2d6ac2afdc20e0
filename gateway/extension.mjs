// Where the extension is in a database, and how its functions are called.
//
// We call functions in the extension's own schema, with the types of their
// arguments.  Otherwise a role that may create schemas could put a function of the
// same name into a schema that search_path finds first, and would get every
// credential.  Sessions also set search_path, but a pooler may run a statement under
// another one.

import pg from 'pg';

// The functions that we call, and the types of their arguments.
export const HANDLE = ['overten_handle_request', 'text', 'text', 'json', 'bytea'];
export const AUTHORIZE = ['overten_authorize_request', 'text', 'json'];

// Find the extension, what our role may do there, and whose ID tokens it accepts.
// "function" is NULL if there is no function with these arguments, and "project" on a
// standby, where nobody can set it for the database.
export const FIND = `
  SELECT n.nspname AS schema, p.oid AS function,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS usage,
    pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AS execute,
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
      coalesce(pg_catalog.current_setting('overten_auth.firebase_project_id', true), '')
    END AS project
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
  LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace OPERATOR(pg_catalog.=) n.oid
    AND p.proname OPERATOR(pg_catalog.=) '${HANDLE[0]}'
    AND pg_catalog.oidvectortypes(p.proargtypes) OPERATOR(pg_catalog.=) '${HANDLE.slice(1).join(', ')}'
  WHERE e.extname OPERATOR(pg_catalog.=) 'overten_auth'`;

// The text of a call of a function in a schema.
export function callOf(schema, [name, ...types]) {
  return `SELECT status, headers, body FROM ${pg.escapeIdentifier(schema)}.${name}(${
    types.map((type, i) => `$${i + 1}::pg_catalog.${type}`).join(', ')})`;
}

// The error for a problem that explainFound() has found.
export function notSetUp(problem) {
  return Object.assign(new TypeError(problem), { code: 'not set up' });
}
