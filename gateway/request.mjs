// Turns what a client sent into what we ask the database.
//
// The database gets the method, the path unchanged with its query, the body, and only
// those headers that the API's contract knows.

// The most bytes that a body may have.  If a body is longer, we pass on one byte
// more, so that the database refuses it, at the right place in the order of its
// checks.
export const BODY_LIMIT = 16 * 1024;

const PASSED = new Set([
  'authorization',
  'content-type',
  'idempotency-key',
  'x-forwarded-for',
  'x-overten-authorization',
]);

// Headers that mean something else, so that no key can come in them.
const NOT_FOR_KEYS = /^(x-overten-.*|x-forwarded-.*|access-control-.*|content-.*|proxy-.*|authorization|connection|cookie|date|expect|forwarded|host|idempotency-key|keep-alive|origin|referer|te|trailer|transfer-encoding|upgrade|user-agent|via)$/i;

// Can a header of this name be one in which keys come?
export function canHaveKeys(name) {
  return /^[a-z0-9]+(-[a-z0-9]+)*$/i.test(name) && !NOT_FOR_KEYS.test(name);
}

// Return the path with its query, even if the request line is in absolute form.
export function pathOf(url) {
  const rest = url.replace(/^https?:\/\/[^/?#]*/i, '');

  return rest === url || rest[0] === '/' ? rest : `/${rest}`;
}

// Is the path valid, as nginx sees it?  A percent sign must begin a byte in
// hexadecimal that is not NUL, and .. must not lead out of the root.
function isPath(path) {
  const [text] = path.split('?', 1);
  let depth = 0;

  if (text[0] !== '/' || /%(?![0-9a-f]{2})|%00/i.test(text)) {
    return false;
  }
  for (const segment of text.replace(/%2e/gi, '.').replace(/%2f/gi, '/').split('/')) {
    if (segment === '..') {
      depth--;
    } else if (segment !== '' && segment !== '.') {
      depth++;
    }
    if (depth < 0) {
      return false;
    }
  }
  return true;
}

// Does a request contain something that HTTP does not allow, but that node's parser
// accepts?  If there are two Authorization or Host headers, node silently keeps the first,
// but a proxy before us may have looked at the other one.  Only HTTP/1.0 can do without a
// Host (RFC 9112, section 3.2).
export function isWellFormed(request, path) {
  const names = request.rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
  const count = (wanted) => names.filter((name) => name === wanted).length;
  const hosts = count('host');

  return isPath(path) && count('authorization') <= 1 &&
    (hosts === 1 || hosts === 0 && request.httpVersion === '1.0');
}

// Return the client's address.  An IPv4-mapped address becomes IPv4.
export function addressOf(request) {
  return (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
}

// Return the headers for the database, with names in lower case.  If a header came
// more than once, its values are joined by commas, as HTTP says.
//
// X-Overten-Authorization is where a proxy puts the credential that PostgREST must
// not see.  No proxy does that before this gateway, so a client's own header of that
// name may contradict the Authorization header, but never replace it.
//
// A header for keys, if there is one, gets the name that the database knows.  The
// client cannot use that name itself.
export function headersOf(request, apiKeyHeader) {
  const found = {};
  const raw = request.rawHeaders;
  const keyName = apiKeyHeader?.toLowerCase();

  for (let i = 0; i < raw.length; i += 2) {
    const sent = raw[i].toLowerCase();
    const name = sent === keyName ? 'x-overten-api-key' : sent;

    if (PASSED.has(name) || sent === keyName) {
      found[name] = name in found ? `${found[name]}, ${raw[i + 1]}` : raw[i + 1];
    }
  }
  if (!found.authorization) {
    delete found['x-overten-authorization'];
  }
  found['x-overten-client-addr'] = addressOf(request);
  return found;
}

const ORG = /^\/api\/v1\/organizations\/([^/?]+)/;

// The person that an ID token names; undefined if it is no token.
function personOf(credential) {
  const claims = credential?.split('.')[1];

  try {
    return claims && String(JSON.parse(Buffer.from(claims, 'base64url')).sub);
  } catch {
    return undefined;
  }
}

// Whose request it is, by what it says itself: the credential in its headers for the
// database, the person whom that names, and the org that its path names.
export function customerOf(headers, path = '') {
  const credential = headers['x-overten-api-key'] || headers.authorization;

  return { credential, person: personOf(credential), org: ORG.exec(path)?.[1] };
}

function hasBody(request) {
  const length = request.headers['content-length'];

  return request.headers['transfer-encoding'] !== undefined ||
    length !== undefined && length !== '0';
}

// Read the body unchanged; null if there is no body.  Rejects if the client goes away
// before it has sent all of it.
export function bodyOf(request) {
  if (!hasBody(request)) {
    return null;
  }
  return new Promise((resolve, reject) => {
    const chunks = [];
    let size = 0;

    request.on('data', (chunk) => {
      const before = size;
      size += chunk.length;
      if (before <= BODY_LIMIT) {
        chunks.push(chunk.subarray(0, BODY_LIMIT + 1 - before));
        if (size > BODY_LIMIT) {
          resolve(Buffer.concat(chunks));
        }
      }
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', reject);
    request.on('close', () => reject(new Error('the client went away')));
  });
}
