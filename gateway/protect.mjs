// Protecting another service with API keys, in Node: wrap its request listener.
//
//   import http from 'node:http';
//   import { protect } from './protect.mjs';
//
//   http.createServer(protect('http://127.0.0.1:8080', (request, response, org) => {
//     response.end(`Hello, ${org.org_name}\n`);
//   })).listen(9000);
//
// The listener gets what GET /verify says of the key: org_id, org_name, tier,
// webhook_secret and key_prefix.  request.headers has the org's id, too, as
// x-overten-org-id, whatever the client sent under that name, and no credential.
// A refused request gets the API's own answer and never reaches the listener.
//
// Each request is asked about: an answer that is kept would outlive the key.

const RELAYED = ['cache-control', 'content-type', 'retry-after', 'www-authenticate'];

const unavailable = {
  status: 503,
  headers: { 'cache-control': 'no-store', 'content-type': 'application/json', 'retry-after': '1' },
  body: '{"error":{"code":"service_unavailable","message":"The service is not available at the moment."}}',
};

async function ask(gateway, authorization, timeout) {
  try {
    const answer = await fetch(new URL('/api/v1/verify', gateway), {
      headers: authorization === undefined ? {} : { authorization },
      signal: AbortSignal.timeout(timeout),
    });
    return {
      status: answer.status,
      headers: Object.fromEntries([...answer.headers].filter(([name]) => RELAYED.includes(name))),
      body: await answer.text(),
    };
  } catch {
    return unavailable;
  }
}

export function protect(gateway, listener, { timeout = 8000 } = {}) {
  return async (request, response) => {
    const { status, headers, body } = await ask(gateway, request.headers.authorization, timeout);

    if (status !== 200) {
      response.writeHead(status, headers).end(request.method === 'HEAD' ? undefined : body);
      return;
    }
    const org = JSON.parse(body);
    delete request.headers.authorization;
    request.headers['x-overten-org-id'] = org.org_id;
    listener(request, response, org);
  };
}
