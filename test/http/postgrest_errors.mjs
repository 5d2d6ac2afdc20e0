// What PostgREST answers when something is wrong: its own errors, those of the
// database, and those that a function raises for it.
//
// An answer is { status, headers, body }; headers are a list of name and value, for
// PostgREST sends some of them twice.

import { createRequire } from 'node:module';

const require = createRequire(new URL('../../gateway/package.json', import.meta.url));
const pg = require('pg');

// HTTP statuses by SQLSTATE, the longest prefix first; 400 for all others.
const STATUSES = [
  ['23503', 409], ['23505', 409], ['25006', 405], ['21000', 500], ['42501', 401],
  ['42883', 404], ['42P01', 404], ['42P17', 500], ['53400', 500], ['57P01', 503],
  ['P0001', 400],
  ['08', 503], ['09', 500], ['0L', 403], ['0P', 403], ['25', 500], ['28', 403],
  ['2D', 500], ['38', 500], ['39', 500], ['3B', 500], ['40', 500], ['53', 503],
  ['54', 500], ['55', 500], ['57', 500], ['58', 500], ['F0', 500], ['HV', 500],
  ['P0', 500], ['XX', 500],
];

function answer(version, status, { code, message, details, hint }, headers) {
  return {
    status,
    headers: [
      ...(version >= 13 ? [['Proxy-Status', `PostgREST; error=${code}`]] : []),
      ['Content-Type', 'application/json; charset=utf-8'],
      ...headers,
    ],
    body: JSON.stringify({ code, details: details ?? null, hint: hint ?? null, message }),
  };
}

// An error of PostgREST itself.
export function problem(version, status, code, message, headers = []) {
  return answer(version, status, { code, message }, headers);
}

// A connection that cannot be had, for whatever reason.
export function connectionProblem(version, error) {
  return /timeout exceeded/.test(error.message)
    ? problem(version, 504, 'PGRST003', 'Timed out acquiring connection from connection pool.')
    : problem(version, 503, 'PGRST000', 'Database connection error. Retrying the connection.');
}

// A statement that failed.  With SQLSTATE PGRST message and detail are JSON and give
// the answer; PTnnn gives its status.
export function statementProblem(version, error) {
  if (!(error instanceof pg.DatabaseError)) {
    return problem(version, 503, 'PGRST001', 'Database client error. Retrying the connection.');
  }
  if (error.code === 'PGRST') {
    const detail = JSON.parse(error.detail);

    return answer(version, detail.status, JSON.parse(error.message), Object.entries(detail.headers));
  }
  const status = /^PT\d{3}$/.test(error.code)
    ? Number(error.code.slice(2))
    : STATUSES.find(([prefix]) => error.code.startsWith(prefix))?.[1] ?? 400;
  return answer(version, status,
    { code: error.code, message: error.message, details: error.detail, hint: error.hint },
    status === 401 ? [['WWW-Authenticate', 'Bearer']] : []);
}

// Something that PostgREST did not expect of itself.
export const exception = {
  status: 500,
  headers: [['Content-Type', 'text/plain; charset=utf-8']],
  body: 'Something went wrong',
};
