// Cross-origin requests: which web pages may read our answers (the Fetch standard).
//
// Only the origins in CORS_ORIGINS may, each exactly as a browser sends it.  Without
// any, nothing here changes an answer.  We never allow credentials: the API takes none
// that a browser adds by itself, so a page always has to hold the token that it sends.
//
// An answer depends on the origin of its request, so each one says so in Vary, and a
// cache never gives one page the answer of another.

// What a page may send, and what it may read of an answer beyond its body.
const METHODS = 'GET, HEAD, POST, PATCH, DELETE';
const REQUEST_HEADERS = ['Authorization', 'Content-Type', 'Idempotency-Key'];
const ANSWER_HEADERS = 'Allow, Retry-After, WWW-Authenticate';

// How long a browser remembers what we have allowed, in seconds.  Chromium does not
// remember longer than two hours.
const MAX_AGE = 7200;

// Read a list of origins.  Throws an Error if one is not as a browser sends it.
export function readOrigins(text) {
  return text.split(',').map((origin) => origin.trim()).filter(Boolean).map((origin) => {
    if (originOf(origin) !== origin) {
      throw new Error('CORS_ORIGINS must be a list of origins, such as https://app.example.com');
    }
    return origin;
  });
}

// The origin of a URL; undefined if it is none that a page can be loaded from.
export function originOf(text) {
  try {
    const { protocol, origin } = new URL(text);
    return /^https?:$/.test(protocol) ? origin : undefined;
  } catch {
    return undefined;
  }
}

// Is this a preflight, with which a browser asks whether a page may send a request?
function isPreflight({ method, headers }) {
  return method === 'OPTIONS' && headers['access-control-request-method'] !== undefined;
}

// A page may also send the header in which keys come, if there is one.
export function openCors(origins, apiKeyHeader) {
  const allowed = new Set(origins);
  const requestHeaders = REQUEST_HEADERS.concat(apiKeyHeader ?? []).join(', ');

  return {
    // Answer the preflight of a page that may use the API; undefined for any other
    // request, which is answered as if there were no such thing.
    preflight(request) {
      if (!isPreflight(request) || !allowed.has(request.headers.origin)) {
        return undefined;
      }
      return {
        status: 204,
        headers: {
          'cache-control': 'no-store',
          'access-control-allow-methods': METHODS,
          'access-control-allow-headers': requestHeaders,
          'access-control-max-age': String(MAX_AGE),
        },
      };
    },

    // The headers that the answer to a request gets.  The request is undefined if we
    // could not read it.
    headers(request) {
      const origin = request?.headers.origin;

      if (allowed.size === 0) {
        return {};
      }
      if (!allowed.has(origin)) {
        return { vary: 'Origin' };
      }
      return {
        vary: 'Origin',
        'access-control-allow-origin': origin,
        'access-control-expose-headers': ANSWER_HEADERS,
      };
    },
  };
}
