// The answers that the gateway gives of its own accord, in the form that the
// database gives all others: a status, headers and a body of JSON.
//
// Only what keeps a request from reaching the database is answered here; which
// routes there are, what is allowed on them and who may do it, only the
// database decides.

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

// What node's HTTP parser refuses, by the code of its error.  A request that
// it could not read has no headers to go by, so the connection is closed.
const unreadable = {
  HPE_HEADER_OVERFLOW: refusal(
    431, 'invalid_request', 'The headers of the request are too large.'),
  ERR_HTTP_REQUEST_TIMEOUT: refusal(
    408, 'invalid_request', 'The request took too long to arrive.'),
};
const malformed = refusal(
  400, 'invalid_request',
  'The request is not valid HTTP, or has more than one Authorization header.');

export function unreadableRequest(errorCode) {
  return unreadable[errorCode] ?? malformed;
}
