// The answers of the gateway: a status, headers, and a body of JSON or none.
//
// Nearly all are the database's, which are checked here: node throws while it
// writes an answer that HTTP does not allow.  The others are given where nothing
// gets to the database or from it; which routes there are, what is allowed on them
// and who may do it, only the database decides.

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

export const unavailable = refusal(
  503, 'service_unavailable', 'The service is not available at the moment.',
  { 'retry-after': '1' });

export const internalError = refusal(
  500, 'internal_error', 'An internal error occurred.');

// What HTTP does not allow; nginx refuses it in the same words.
export const malformed = refusal(
  400, 'invalid_request',
  'The request is not valid HTTP, or has more than one Authorization header.');

// What node's HTTP parser refuses, by the code of its error.  A request that
// it could not read has no headers to go by, so the connection is closed.
const unreadable = {
  HPE_HEADER_OVERFLOW: refusal(
    431, 'invalid_request', 'The headers of the request are too large.'),
  ERR_HTTP_REQUEST_TIMEOUT: refusal(
    408, 'invalid_request', 'The request took too long to arrive.'),
};

export function unreadableRequest(errorCode) {
  return unreadable[errorCode] ?? malformed;
}

// What the database has returned is no answer.  The name tells which part of it;
// what stands there could be a secret.
class InvalidAnswer extends TypeError {
  constructor(part) {
    super(`the database's answer is not valid in its ${part}`);
    this.code = `invalid answer: ${part}`;
  }
}

// The headers that belong to the connection, which node sets.
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

// The answer in the rows that overten_handle_request has returned; throws a
// TypeError if there is none.
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

// What a proxy is told of a key that was accepted, from the answer of GET /verify.
// A tier may have any name, and a header only ASCII: so the values are encoded as in
// URIs, which changes nothing in the others.  The name of the org is not among them,
// as the customer has chosen it.
export function authorized({ body }) {
  let verified;

  try {
    verified = JSON.parse(body);
  } catch {
    throw new InvalidAnswer('body');
  }
  const values = ['org_id', 'tier', 'key_prefix'].map((member) => verified?.[member]);
  if (!values.every((value) => typeof value === 'string')) {
    throw new InvalidAnswer('body');
  }
  const [org, tier, prefix] = values.map(encodeURIComponent);
  return {
    status: 204,
    headers: {
      'cache-control': 'no-store',
      'x-overten-org-id': org,
      'x-overten-tier': tier,
      'x-overten-key-prefix': prefix,
    },
  };
}
