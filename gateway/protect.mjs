// Protecting another service with API keys, in Node: wrap its request listener.
//
//   import http from 'node:http';
//   import { protect } from './protect.mjs';
//
//   http.createServer({ maxHeaderSize: 32768 }, protect('http://127.0.0.1:8079', (request, response, org) => {
//     response.end(`Hello, ${org.org_name}\n`);
//   })).listen(9000);
//
// The address is the gateway's AUTHORIZE_LISTEN.  The listener gets whose key it is:
// key_id, org_id, org_name, tier, webhook_secret and key_prefix.  The request has the
// headers X-Overten-Key-Id, X-Overten-Org-Id, X-Overten-Tier and X-Overten-Key-Prefix,
// percent-encoded as in auth_request.conf.  We remove the credential, and any header of
// such a name that the client has sent.  If the request is refused, the client gets the
// API's own answer, and the listener is not called.  If a limit applies to the key, the
// answer says in RateLimit and RateLimit-Policy what is left.
//
// Options: "cost" (1) and "scope" (none; several with spaces between), what the request
// takes, either a value or a function of the request; "timeout", how many milliseconds
// to wait for the gateway (8000); "address", a function that returns the client's
// address for a request, if that is not the other end of the connection.  We pass the
// address to the gateway in X-Forwarded-For.  Set overten_auth.trust_forwarded_for to 1,
// or each use is recorded under this service's own address.
//
// With the option "apiKeyHeader", the name of a header such as X-API-Key, clients may send
// the key in that header instead of as a Bearer.  We remove the header, too.  Without the
// option it means nothing to us, and goes on to the listener.
//
// We ask the gateway about each request, and once: a cached answer would outlive the
// key, and the cost of a repeated question would be taken twice.
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

const several = {
  status: 400,
  headers: json,
  body: '{"error":{"code":"invalid_request","message":"The request carries more than one credential."}}',
};

// What the client gets of the headers of a refusal.
const LIMITS = ['ratelimit', 'ratelimit-policy'];
const RELAYED = ['cache-control', 'content-type', 'www-authenticate', 'retry-after', ...LIMITS];

// The headers that tell the service whose key it is.
const TOLD = ['X-Overten-Key-Id', 'X-Overten-Org-Id', 'X-Overten-Tier', 'X-Overten-Key-Prefix'];

// Headers that a client must not send to the service, and that the service must not
// see.  Some programs accept _ for - in names.
function oursWith(apiKeyHeader) {
  const key = apiKeyHeader === undefined ? '' : `|${apiKeyHeader.replaceAll('-', '[-_]')}`;

  return new RegExp(`^(authorization|x[-_]overten[-_].*${key})$`, 'i');
}

function valuesOf(request, wanted) {
  const raw = request.rawHeaders;

  return raw.filter((_, i) => i % 2 === 1 && raw[i - 1].toLowerCase() === wanted);
}

// The path and query of a question.
function question(options, request) {
  const given = ['cost', 'scope'].map((name) => [name,
    typeof options[name] === 'function' ? options[name](request) : options[name]]);

  return `/authorize?${given.filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')}`;
}

function pick(headers, names) {
  return Object.fromEntries([...headers].filter(([name]) => names.includes(name)));
}

// Ask the gateway about a request.  Returns the answer for the client, or whose key it
// is, and the headers that the client gets in any case.
async function ask(url, headers, timeout) {
  try {
    const answer = await fetch(url, {
      headers,
      redirect: 'error',
      signal: AbortSignal.timeout(timeout),
    });
    const body = await answer.text();
    if (answer.status === 200) {
      const told = TOLD.map((name) => [name, answer.headers.get(name)]);
      const org = JSON.parse(body);
      return told.every(([, value]) => value !== null) && typeof org?.org_id === 'string'
        ? { org, told, limits: pick(answer.headers, LIMITS) } : { refusal: unavailable };
    }
    return {
      // Another answer than a refusal is not for the client.
      refusal: answer.headers.has('x-overten-refusal')
        ? { status: answer.status, headers: pick(answer.headers, RELAYED), body } : unavailable,
    };
  } catch {
    return { refusal: unavailable };
  }
}

// Remove our headers from all forms in which node keeps them.
function strip(ours, raw, ...objects) {
  for (const headers of objects) {
    for (const name of Object.keys(headers ?? {}).filter((key) => ours.test(key))) {
      delete headers[name];
    }
  }
  for (let i = raw.length - 2; i >= 0; i -= 2) {
    if (ours.test(raw[i])) {
      raw.splice(i, 2);
    }
  }
}

function mark(request, told, ours) {
  // node makes these objects from rawHeaders when they are first used.
  const { headers, headersDistinct } = request;

  strip(ours, request.rawHeaders, headers, headersDistinct);
  for (const [name, value] of told) {
    request.rawHeaders.push(name, value);
    headers[name.toLowerCase()] = value;
    if (headersDistinct !== undefined) {
      headersDistinct[name.toLowerCase()] = [value];
    }
  }
  request.on('end', () => {
    const { trailers, trailersDistinct } = request;
    strip(ours, request.rawTrailers, trailers, trailersDistinct);
  });
}

function refuse(request, response, { status, headers, body }) {
  const bare = request.method === 'HEAD';

  response.writeHead(status, bare ? headers : { ...headers, 'content-length': Buffer.byteLength(body) });
  response.end(bare ? undefined : body);
}

// The headers with the credential of a request, to ask with; or the refusal of a request
// that has more than one, or more than one Host, of which node keeps the first.  A key in a
// header of its own becomes a Bearer: where we ask, the gateway takes nothing but keys.  No
// key has a comma, so what has one was several headers.
function credentialsOf(request, apiKeyHeader) {
  const bearers = valuesOf(request, 'authorization');
  const key = apiKeyHeader === undefined ? '' : valuesOf(request, apiKeyHeader.toLowerCase()).join();

  if (bearers.length > 1 || valuesOf(request, 'host').length > 1) {
    return { unclear: malformed };
  }
  if (key !== '') {
    return bearers[0] || key.includes(',') ? { unclear: several }
      : { credentials: [['authorization', `Bearer ${key}`]] };
  }
  return {
    credentials: ['authorization', 'x-overten-authorization']
      .flatMap((name) => valuesOf(request, name).map((value) => [name, value])),
  };
}

export function protect(gateway, listener, options = {}) {
  const { timeout = 8000, address = (request) => request.socket.remoteAddress, apiKeyHeader } = options;
  if (apiKeyHeader !== undefined && !/^(?!authorization$|x-overten-)[a-z0-9-]+$/i.test(apiKeyHeader)) {
    throw new TypeError('apiKeyHeader must be the name of a header, such as X-API-Key');
  }
  const ours = oursWith(apiKeyHeader);

  return async (request, response) => {
    const { credentials, unclear } = credentialsOf(request, apiKeyHeader);
    if (unclear !== undefined) {
      refuse(request, response, unclear);
      return;
    }
    let url;
    let client;
    try {
      url = new URL(question(options, request), gateway);
      client = await address(request) ?? 'unknown';
    } catch {
      refuse(request, response, unavailable);
      return;
    }
    const { org, told, limits, refusal } = await ask(url, [...credentials, ['x-forwarded-for', client]], timeout);

    if (refusal !== undefined) {
      refuse(request, response, refusal);
    } else {
      mark(request, told, ours);
      for (const [name, value] of Object.entries(limits)) {
        response.setHeader(name, value);
      }
      listener(request, response, org);
    }
  };
}
