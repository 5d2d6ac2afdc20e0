// nginx_load.mjs PORT KEYS REQUESTS CONNECTIONS [ABORTED]: ask a protected service, so many
// requests at once, and of a hundred give up so many after a while.
//
// KEYS is a file of JSON: [ { "secret": ..., "org": ... }, ... ]; one without an org is
// no good key.  Prints how many answers were right, refused (503), wrong, given up by us,
// and cut off by the other side or not answered within a minute.  An answer is right if
// the service has seen the key's org, or if a key that is not good gets 401.

import { readFileSync } from 'node:fs';
import http from 'node:http';

const [port, file, ...numbers] = process.argv.slice(2);
const [requests, connections, aborted = 0] = numbers.map(Number);
const keys = JSON.parse(readFileSync(file, 'utf8'));
const counts = { right: 0, refused: 0, wrong: 0, aborted: 0, cut: 0 };

function judge(key, status, body) {
  if (status === 503) {
    return 'refused';
  }
  if (key.org === undefined) {
    return status === 401 ? 'right' : 'wrong';
  }
  return status === 200 && JSON.parse(body).headers['x-overten-org-id'] === key.org ? 'right' : 'wrong';
}

function ask(key, gives) {
  return new Promise((resolve) => {
    let given = false;
    const request = http.request({ port, host: '127.0.0.1', path: '/generate', agent: false, headers: { authorization: `Bearer ${key.secret}` } }, (response) => {
      let body = '';
      response.on('data', (data) => { body += data; });
      response.on('end', () => resolve(judge(key, response.statusCode, body)));
      response.on('error', () => resolve(given ? 'aborted' : 'cut'));
    });
    request.on('error', () => resolve(given ? 'aborted' : 'cut'));
    request.setTimeout(60_000, () => request.destroy());
    request.end();
    if (gives) {
      setTimeout(() => {
        given = true;
        request.destroy();
        resolve('aborted');
      }, Math.random() * 20);
    }
  });
}

let next = 0;

async function goOn() {
  while (next < requests) {
    const n = next++;
    const outcome = await ask(keys[n % keys.length], Math.random() * 100 < aborted);
    counts[outcome] += 1;
    if (outcome === 'wrong') {
      console.error(`request ${n} got a wrong answer`);
    }
  }
}

await Promise.all(Array.from({ length: connections }, goOn));
console.log(Object.entries(counts).map(([name, count]) => `${name} ${count}`).join(', '));
