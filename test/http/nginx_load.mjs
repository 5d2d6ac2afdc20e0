// nginx_load.mjs PORT KEYS HOW_MANY CONNECTIONS [ABORTED [h2]]: ask a protected service, so
// many requests at once, and of a hundred give up so many after a while.  HOW_MANY is a
// number of requests, or of seconds, as 60s.  With h2 the requests share connections of
// HTTP/2, ten at once on each, and the others of a connection go on when one is given up.
//
// KEYS is a file of JSON: [ { "secret": ..., "org": ... }, ... ]; one without an org is
// no good key.  Prints how many answers were right, refused (503), wrong, given up by us,
// and cut off by the other side or not answered within a minute; and the longest that a
// client has waited, in milliseconds.  An answer is right if the service has seen the
// key's org, or if a key that is not good gets 401.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';

const PATIENCE = 60_000;
const STREAMS = 10;

const [port, file, howMany, ...numbers] = process.argv.slice(2);
const [connections, aborted = 0] = numbers.slice(0, 2).map(Number);
const isHttp2 = numbers[2] === 'h2';
const requests = howMany.endsWith('s') ? Infinity : Number(howMany);
const end = howMany.endsWith('s') ? Date.now() + 1000 * parseInt(howMany, 10) : Infinity;
const keys = JSON.parse(readFileSync(file, 'utf8'));
const counts = { right: 0, refused: 0, wrong: 0, aborted: 0, cut: 0, longest: 0 };

function judge(key, status, body) {
  if (status === 503) {
    return 'refused';
  }
  if (key.org === undefined) {
    return status === 401 ? 'right' : 'wrong';
  }
  return status === 200 && JSON.parse(body).headers['x-overten-org-id'] === key.org ? 'right' : 'wrong';
}

// Read an answer to its end, or give up.  "begin" starts a request, and returns it and
// what it emits with the answer; "statusOf" takes the arguments of that.
function answerOf(key, gives, begin, answers, statusOf, giveUp) {
  return new Promise((resolve) => {
    let given = false;
    const fail = () => resolve(given ? 'aborted' : 'cut');
    const request = begin();

    request.on(answers, (...args) => {
      const { status, stream } = statusOf(request, ...args);
      let body = '';
      let ended = false;

      stream.on('data', (data) => { body += data; });
      stream.on('end', () => {
        ended = true;
        resolve(given ? 'aborted' : judge(key, status, body));
      });
      stream.on('error', fail);
      stream.on('close', () => ended || fail());
    });
    request.on('error', fail);
    request.on('close', fail);
    request.setTimeout(PATIENCE, () => request.destroy());
    request.end();
    if (gives) {
      setTimeout(() => {
        given = true;
        giveUp(request);
      }, Math.random() * 20);
    }
  });
}

// Half of those that give up do so with a reset.
function askAlone(key, gives) {
  return answerOf(key, gives,
    () => http.request({ port, host: '127.0.0.1', path: '/generate', agent: false, headers: { authorization: `Bearer ${key.secret}` } }),
    'response', (request, response) => ({ status: response.statusCode, stream: response }),
    (request) => {
      if (request.socket && !request.socket.destroyed && Math.random() < 0.5) {
        request.socket.resetAndDestroy();
      } else {
        request.destroy();
      }
    });
}

const sessions = [];

function sessionFor(client) {
  const place = Math.floor(client / STREAMS);
  const old = sessions[place];

  if (old !== undefined && !old.closed && !old.destroyed) {
    return old;
  }
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on('error', () => session.destroy());
  sessions[place] = session;
  return session;
}

function askOnStream(key, gives, client) {
  return answerOf(key, gives,
    () => sessionFor(client).request({ ':path': '/generate', authorization: `Bearer ${key.secret}` }),
    'response', (stream, headers) => ({ status: headers[':status'], stream }),
    (stream) => stream.close(http2.constants.NGHTTP2_CANCEL));
}

let next = 0;

async function goOn(client) {
  while (next < requests && Date.now() < end) {
    const n = next++;
    const begin = Date.now();
    const outcome = await (isHttp2 ? askOnStream : askAlone)(keys[n % keys.length], Math.random() * 100 < aborted, client);

    counts[outcome] += 1;
    counts.longest = Math.max(counts.longest, Date.now() - begin);
    if (outcome === 'wrong') {
      console.error(`request ${n} got a wrong answer`);
    }
  }
}

await Promise.all(Array.from({ length: connections }, (_, client) => goOn(client)));
sessions.forEach((session) => session.close());
console.log(Object.entries(counts).map(([name, count]) => `${name} ${count}`).join(', '));
