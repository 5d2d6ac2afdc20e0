// The answers of the gateway: a status, headers, and a body of JSON or no body.
//
// Nearly all answers come from the database.  We check them here, because node throws
// while it writes an answer that HTTP does not allow.  We give the other answers if a
// request does not reach the database, or its answer does not reach us.  Only the
// database decides which routes exist, which methods they allow, and who may use
// them.

import http from 'node:http';

function answer(status, body, headers = {}) {
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      ...headers,
    },
    body: JSON.stringify(body),
  };
}

function refusal(status, code, message, headers) {
  return answer(status, { error: { code, message } }, headers);
}

export const healthy = answer(200, { status: 'ok' });

// No server can write at the moment.
export const readOnly = answer(200, { status: 'read_only' });

export const unavailable = refusal(
  503, 'service_unavailable', 'The service is not available at the moment.',
  { 'retry-after': '1' });

export const internalError = refusal(
  500, 'internal_error', 'An internal error occurred.');

// For what proxies ask beside /authorize.
export const notFound = refusal(404, 'not_found', 'There is no such endpoint.');

// For requests that HTTP does not allow; nginx refuses them in the same words.
export const malformed = refusal(
  400, 'invalid_request',
  'The request is not valid HTTP, or has more than one Authorization header.');

// For requests that node's HTTP parser refuses, by the code of its error.  We close
// the connection, because the parser could not read any headers that tell us what to
// do.
const unreadable = {
  HPE_HEADER_OVERFLOW: refusal(
    431, 'invalid_request', 'The headers of the request are too large.'),
  ERR_HTTP_REQUEST_TIMEOUT: refusal(
    408, 'invalid_request', 'The request took too long to arrive.'),
};

export function unreadableRequest(errorCode) {
  return unreadable[errorCode] ?? malformed;
}

// The database has returned something that is not an answer.  The name tells which
// part is wrong.  We do not show the part itself, because it could be a secret.
class InvalidAnswer extends TypeError {
  constructor(part) {
    super(`the database's answer is not valid in its ${part}`);
    this.code = `invalid answer: ${part}`;
  }
}

// Headers that belong to the connection; node sets them.
const OF_THE_CONNECTION = new Set(['connection', 'content-length', 'keep-alive',
  'trailer', 'transfer-encoding', 'upgrade']);

function isHeader([name, value]) {
  try {
    http.validateHeaderName(name);
    http.validateHeaderValue(name, value);
  } catch {
    return false;
  }
  return typeof value === 'string' && !OF_THE_CONNECTION.has(name.toLowerCase());
}

// Make the answer from the rows that the database has returned.  Throws a
// TypeError if they are not an answer.
export function answerOf(rows) {
  if (rows.length !== 1) {
    throw new InvalidAnswer('number of rows');
  }
  const [{ status, headers, body }] = rows;
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new InvalidAnswer('status');
  }
  if (headers === null || typeof headers !== 'object' || Array.isArray(headers) ||
      !Object.entries(headers).every(isHeader)) {
    throw new InvalidAnswer('headers');
  }
  if (body !== null && typeof body !== 'string') {
    throw new InvalidAnswer('body');
  }
  return { status, headers, body };
}
