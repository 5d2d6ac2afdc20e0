// What an error of a query means.

import pg from 'pg';

// Conditions that pass on their own, by class of SQLSTATE or in full: lost
// connections; insufficient resources; shutdown, startup and timeouts; conflicts
// between transactions; failed logins and missing databases, which are not the
// request's fault; locks that we did not get; errors of a standby that may not do
// this; and an unknown prepared statement.
const PASSING_CLASSES = new Set(['08', '53', '57', '40', '28']);
const PASSING = new Set(['3D000', '55P03', '55000', '25006', '26000', '42P05']);

// Does an error of a query mean that the database is away?  Otherwise something is
// wrong with the database or with the gateway.
export function isPassing(error) {
  if (error instanceof pg.DatabaseError) {
    return PASSING.has(error.code) || PASSING_CLASSES.has(String(error.code).slice(0, 2));
  }
  // node's own socket errors, and the timeouts of node-postgres, are plain Errors; a
  // mistake in a program is not.
  return isPlain(error);
}

export function isPlain(error) {
  return error?.constructor === Error || error instanceof AggregateError;
}

// Was it only that the answer did not come in time?
export function isTimeout(error) {
  return error.code === '57014' || isPlain(error) && /timeout/i.test(error.message);
}

// Does an error say that a connection could not be made, or has broken?
export function isLostConnection(error) {
  return isPlain(error) && !isTimeout(error);
}

// What we may log about an error.  A message could quote what a client sent or what
// the database said, so for most errors we log only the code or the kind.
export function nameOf(error) {
  return error?.code ?? (isPlain(error) ? error.message : error?.name ?? typeof error);
}

// Errors of requests that have not reached a server, so that nothing can have happened
// there.
const unsent = new WeakSet();

// Call a function that comes before a request is sent.
export async function beforeSending(call) {
  try {
    return await call();
  } catch (error) {
    unsent.add(error);
    throw error;
  }
}

export function isUnsent(error) {
  return unsent.has(error);
}
