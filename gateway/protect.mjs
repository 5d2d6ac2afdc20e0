// Protecting another service with API keys, in Node: wrap its request listener.
//
//   import http from 'node:http';
//   import { protect } from './protect.mjs';
//
//   http.createServer({ maxHeaderSize: 32768 }, protect('http://127.0.0.1:8080', (request, response, org) => {
//     response.end(`Hello, ${org.org_name}\n`);
//   })).listen(9000);
//
// The listener gets what GET /verify returns for the key: org_id, org_name, tier,
// webhook_secret and key_prefix.  The request has the headers X-Overten-Org-Id,
// X-Overten-Tier and X-Overten-Key-Prefix, percent-encoded as in auth_request.conf.  We
// remove the credential, and any header of such a name that the client has sent.  If
// the key is refused, the client gets the API's own answer, and the listener is not
// called.
//
// Options: "timeout", how many milliseconds to wait for the gateway (8000); "address",
// a function that returns the client's address for a request, if that is not the other
// end of the connection.  We pass the address to the gateway in X-Forwarded-For.  Set
// overten_auth.trust_forwarded_for to 1, or each use is recorded under this service's
// own address.
//
// We ask the gateway about each request, because a cached answer would outlive the key.
// We do not protect events other than "request", such as "upgrade".  Requests that the
// server's own parser refuses do not get here.

const json = { 'cache-control': 'no-store', 'content-type': 'application/json' };

const unavailable = {
  status: 503,
  headers: { ...json, 'retry-after': '1' },
  body: '{"error":{"code":"service_unavailable","message":"The service is not available at the moment."}}',
};

const malformed = {
  status: 400,
  headers: json,
  body: '{"error":{"code":"invalid_request","message":"The request is not valid HTTP, or has more than one Authorization header."}}',
};

// The gateway's refusals that are meant for the client, and their headers.
const REFUSALS = new Set([400, 401, 403]);
const RELAYED = ['cache-control', 'content-type', 'www-authenticate'];

// Headers that a client must not send to the service, and that the service must not
// see.  Some programs accept _ for - in names.
const OURS = /^(authorization|x[-_]overten[-_].*)$/i;

function valuesOf(request, wanted) {
  const raw = request.rawHeaders;

  return raw.filter((_, i) => i % 2 === 1 && raw[i - 1].toLowerCase() === wanted);
}

// Ask the gateway about a key.  Returns the answer for the client, or the org.
async function ask(gateway, headers, timeout) {
  try {
    const answer = await fetch(new URL('/api/v1/verify', gateway), {
      headers,
      redirect: 'error',
      signal: AbortSignal.timeout(timeout),
    });
    const body = await answer.text();
    if (answer.status === 200) {
      const org = JSON.parse(body);
      const told = [org.org_id, org.tier, org.key_prefix];
      return told.every((value) => typeof value === 'string')
        ? { org, known: told.map(encodeURIComponent) } : { refusal: unavailable };
    }
    return {
      refusal: REFUSALS.has(answer.status) ? {
        status: answer.status,
        headers: Object.fromEntries([...answer.headers].filter(([name]) => RELAYED.includes(name))),
        body,
      } : unavailable,
    };
  } catch {
    return { refusal: unavailable };
  }
}

// Remove our headers from all forms in which node keeps them.
function strip(raw, ...objects) {
  for (const headers of objects) {
    for (const name of Object.keys(headers ?? {}).filter((key) => OURS.test(key))) {
      delete headers[name];
    }
  }
  for (let i = raw.length - 2; i >= 0; i -= 2) {
    if (OURS.test(raw[i])) {
      raw.splice(i, 2);
    }
  }
}

function mark(request, [org, tier, prefix]) {
  // node makes these objects from rawHeaders when they are first used.
  const { headers, headersDistinct } = request;

  strip(request.rawHeaders, headers, headersDistinct);
  for (const [name, value] of [
    ['X-Overten-Org-Id', org], ['X-Overten-Tier', tier], ['X-Overten-Key-Prefix', prefix],
  ]) {
    request.rawHeaders.push(name, value);
    headers[name.toLowerCase()] = value;
    if (headersDistinct !== undefined) {
      headersDistinct[name.toLowerCase()] = [value];
    }
  }
  request.on('end', () => {
    const { trailers, trailersDistinct } = request;
    strip(request.rawTrailers, trailers, trailersDistinct);
  });
}

function refuse(request, response, { status, headers, body }) {
  const bare = request.method === 'HEAD';

  response.writeHead(status, bare ? headers : { ...headers, 'content-length': Buffer.byteLength(body) });
  response.end(bare ? undefined : body);
}

export function protect(gateway, listener, options = {}) {
  const { timeout = 8000, address = (request) => request.socket.remoteAddress } = options;

  return async (request, response) => {
    const credentials = valuesOf(request, 'authorization');
    if (credentials.length > 1) {
      refuse(request, response, malformed);
      return;
    }
    const { org, known, refusal } = await ask(gateway, [
      ...credentials.map((value) => ['authorization', value]),
      ...valuesOf(request, 'x-overten-authorization').map((value) => ['x-overten-authorization', value]),
      ['x-forwarded-for', address(request) ?? 'unknown'],
    ], timeout);

    if (refusal !== undefined) {
      refuse(request, response, refusal);
    } else {
      mark(request, known);
      listener(request, response, org);
    }
  };
}
