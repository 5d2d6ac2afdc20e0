#!/usr/bin/env node
// An identity service FOR DEVELOPMENT.  It takes the place of Firebase, so that apps and
// their tests run without Google: the Firebase web SDK signs people up and in here, as
// with Google's auth emulator (connectAuthEmulator).  Unlike the emulator, it signs the
// ID tokens, so that a server which has its key verifies them by the usual rules.
//
// Anybody who reaches this service can sign up, so it listens on the loopback address
// only.  A server that has its key must never be one that others use.
//
//   POST /identitytoolkit.googleapis.com/v1/accounts:…   what operations.mjs lists
//   POST /securetoken.googleapis.com/v1/token            a new ID token
//   GET  /service_accounts/v1/jwk/securetoken@system.gserviceaccount.com
//                                                        the key, for signing_keys_command
//   GET  /emulator/v1/projects/PROJECT/oobCodes          the links of emails that were "sent"
//   GET  /emulator/action?oobCode=CODE                   such a link
//   GET  /emulator/auth/handler, /emulator/auth/iframe   the popup of popup.mjs
//   DELETE /emulator/v1/projects/PROJECT/accounts        forget everybody, between tests
//
// PORT                 where to listen on 127.0.0.1 (9099); 0 takes a free port
// FIREBASE_PROJECT_ID  whose tokens these are (demonstration)
// TOKEN_LIFETIME       how long an ID token is good, in seconds (3600)

import http from 'node:http';

import { Mail } from './mail.mjs';
import { openOperations } from './operations.mjs';
import { People } from './people.mjs';
import { pageOf } from './popup.mjs';
import { Refusal } from './refusal.mjs';
import { Tokens } from './tokens.mjs';

const BODY_LIMIT = 64 * 1024;

// How long servers may keep the key, in seconds; the extension uses no less.
const KEY_MAX_AGE = 300;

const KEYS = '/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com';
const OPERATION = /^\/(?:identitytoolkit\.googleapis\.com\/v1\/(accounts:\w+)|securetoken\.googleapis\.com\/v1\/(token))$/;

function say(message) {
  process.stderr.write(`identity: ${message}\n`);
}

function fail(message) {
  say(message);
  process.exit(1);
}

function integer(name, fallback, minimum, maximum) {
  const text = process.env[name] || String(fallback);
  const value = Number(text);

  if (!/^[0-9]+$/.test(text) || value < minimum || value > maximum) {
    fail(`${name} must be a number between ${minimum} and ${maximum}`);
  }
  return value;
}

const port = integer('PORT', 9099, 0, 65535);
const lifetime = integer('TOKEN_LIFETIME', 3600, 1, 3600);
const project = process.env.FIREBASE_PROJECT_ID || 'demonstration';

if (!/^[a-z][a-z0-9-]{3,29}$/.test(project)) {
  fail('FIREBASE_PROJECT_ID must be a project id: 4 to 30 lower-case letters, digits and hyphens');
}

const people = new People();
const tokens = new Tokens(project, lifetime);
const mail = new Mail();
const operations = openOperations(project, people, tokens, mail);

// The emails, each with its link.
function letters() {
  const origin = `http://127.0.0.1:${server.address().port}`;

  return mail.letters.map((letter) =>
    ({ ...letter, oobLink: `${origin}/emulator/action?mode=verifyEmail&oobCode=${letter.oobCode}` }));
}

// Somebody has opened the link of an email.
function openLink(code) {
  const person = mail.open(code);

  if (person === undefined) {
    throw new Refusal('INVALID_OOB_CODE');
  }
  person.isVerified = true;
  return { email: person.email, emailVerified: true };
}

// Is this the name of this machine, as one writes it in a URL?
function isLoopback(url) {
  try {
    return ['localhost', '127.0.0.1', '[::1]'].includes(new URL(url).hostname);
  } catch {
    return false;
  }
}

// A page of the Internet must not sign in here in the developer's browser.  It could
// come under its own origin, or have its name resolved to the loopback address.
function isFromHere({ headers: { host, origin } }) {
  return isLoopback(`http://${host}`) && (origin === undefined || isLoopback(origin));
}

// Read what was sent: JSON, or a form for a new ID token.  curl calls everything a form,
// so the content type does not tell.
async function read(request, isForm) {
  const chunks = [];
  let size = 0;

  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_LIMIT) {
      throw new Refusal('PAYLOAD_TOO_LARGE', 413);
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString();
  if (isForm && text[0] !== '{') {
    return Object.fromEntries(new URLSearchParams(text));
  }
  try {
    const sent = JSON.parse(text);
    if (sent !== null && typeof sent === 'object' && !Array.isArray(sent)) {
      return sent;
    }
  } catch {
    // Refused below.
  }
  throw new Refusal('INVALID_JSON : The body must be a JSON object');
}

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const [, account, token] = OPERATION.exec(pathname) ?? [];
  const operation = account ?? token;

  if (request.method === 'GET' && pathname === KEYS) {
    return tokens.keySet;
  }
  if (request.method === 'GET' && pathname === `/emulator/v1/projects/${project}/oobCodes`) {
    return { oobCodes: letters() };
  }
  if (request.method === 'GET' && pathname === '/emulator/action') {
    return openLink(searchParams.get('oobCode'));
  }
  if (request.method === 'GET' && pageOf(pathname) !== undefined) {
    return pageOf(pathname);
  }
  if (request.method === 'DELETE' && pathname === `/emulator/v1/projects/${project}/accounts`) {
    people.removeAll();
    mail.removeAll();
    tokens.forget();
    return {};
  }
  if (request.method !== 'POST' || operation === undefined) {
    throw new Refusal('NOT_FOUND', 404);
  }
  if (!searchParams.get('key')) {
    throw new Refusal('API key not valid. Please pass a valid API key.');
  }
  if (!Object.hasOwn(operations, operation)) {
    throw new Refusal(`OPERATION_NOT_ALLOWED : This service has no ${operation}`, 501);
  }
  return operations[operation](await read(request, token !== undefined));
}

// A text is a page, and everything else is JSON.
function send(request, response, status, body) {
  const { origin } = request.headers;
  const isPage = typeof body === 'string';
  const headers = {
    'Content-Type': `${isPage ? 'text/html' : 'application/json'}; charset=utf-8`,
    'Cache-Control': request.url === KEYS && status === 200 ? `public, max-age=${KEY_MAX_AGE}` : 'no-store',
    Vary: 'Origin',
  };

  if (origin !== undefined && isLoopback(origin)) {
    headers['Access-Control-Allow-Origin'] = origin;
    headers['Access-Control-Allow-Methods'] = 'GET, POST, DELETE';
    headers['Access-Control-Allow-Headers'] = request.headers['access-control-request-headers'] ?? '*';
  }
  response.writeHead(status, headers);
  response.end(isPage || body === undefined ? body : JSON.stringify(body));
}

const server = http.createServer(async (request, response) => {
  try {
    if (!isFromHere(request)) {
      throw new Refusal('This service is for development on this machine only', 403);
    }
    if (request.method === 'OPTIONS') {
      send(request, response, 204);
    } else {
      send(request, response, 200, await answer(request));
    }
  } catch (error) {
    const refusal = error instanceof Refusal ? error : new Refusal('INTERNAL_ERROR', 500);

    if (refusal !== error) {
      say(error.stack);
    }
    send(request, response, refusal.status, refusal.body);
  }
});

function stop() {
  server.close();
  server.closeAllConnections();
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

server.on('error', (error) => fail(`cannot listen: ${error.code}`));
server.listen(port, '127.0.0.1', () => {
  say('FOR DEVELOPMENT ONLY.  Anybody on this machine can sign up and sign in here as anybody.');
  say(`listening on 127.0.0.1:${server.address().port}, for the project ${project}`);
});
