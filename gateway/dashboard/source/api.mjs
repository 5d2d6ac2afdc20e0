// Requests of the public API, with the ID token of the person who is signed in.

import { idToken } from './identity.mjs';

const BASE = new URL('../api/v1', document.baseURI).href;

// How often we repeat a request that got no answer, or "try again", and after how long
// in milliseconds.
const REPEATS = 2;
const PAUSE = 1000;

// The URL of the API, to be shown.
export const apiUrl = BASE;

// The API has refused a request, or could not be reached ("unreachable").
export class ApiError extends Error {
  constructor(status, { code, message, param, key_id: keyId } = {}) {
    super(message);
    this.status = status;
    this.code = code ?? 'unreachable';
    this.param = param;
    this.keyId = keyId;
  }
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, PAUSE));
}

async function ask(method, path, token, body, requestKey) {
  const headers = { Authorization: `Bearer ${token}` };

  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
  }
  if (requestKey !== undefined) {
    headers['Idempotency-Key'] = requestKey;
  }
  let response;
  try {
    response = await fetch(BASE + path, {
      method, headers, body, cache: 'no-store', credentials: 'omit', redirect: 'error',
    });
    if (response.status === 204) {
      return undefined;
    }
    const answer = await response.json();
    if (response.ok) {
      return answer;
    }
    throw new ApiError(response.status, answer.error);
  } catch (error) {
    throw error instanceof ApiError ? error : new ApiError(response?.status);
  }
}

// Send a request, and return its answer.  It is repeated if it may help: with a new ID
// token if the API does not take ours any more, and after a pause if the API was not
// there.  All our requests can be repeated: a POST that makes a secret has an
// Idempotency-Key, and an invitation more can be withdrawn.
export async function call(method, path, body, requestKey) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  let fresh = false;
  let repeats = 0;

  for (;;) {
    try {
      return await ask(method, path, await idToken(fresh), text, requestKey);
    } catch (error) {
      if (!(error instanceof ApiError)) {
        throw error;
      }
      if (error.status === 401 && !fresh) {
        fresh = true;
      } else if ([undefined, 502, 503, 504].includes(error.status) && repeats < REPEATS) {
        repeats++;
        await pause();
      } else {
        throw error;
      }
    }
  }
}

export function get(path) {
  return call('GET', path);
}

// What names the POST of a form for its repetitions: the same body has the same name,
// until it has succeeded.
export class RequestKey {
  #body;
  #key;

  for(body) {
    const text = JSON.stringify(body);

    if (text !== this.#body) {
      this.#body = text;
      this.#key = crypto.randomUUID();
    }
    return this.#key;
  }

  forget() {
    this.#body = undefined;
  }
}
