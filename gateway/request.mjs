// From what a client sent to what the database is asked.
//
// The database sees the method, the path as it came with its query, the body,
// and of the headers only those that the API's contract knows.

// A body may have this many bytes.  Of a longer one, one byte more is passed
// on: enough for the database to refuse it, in its turn among all checks.
export const BODY_LIMIT = 16 * 1024;

const PASSED = new Set([
  'authorization',
  'content-type',
  'x-forwarded-for',
  'x-overten-authorization',
]);

// The path with its query, of a request line in absolute form too.
export function pathOf(url) {
  const rest = url.replace(/^https?:\/\/[^/?#]*/i, '');

  return rest === url || rest[0] === '/' ? rest : `/${rest}`;
}

// Can the path be one, as nginx sees it?  A percent sign begins a byte in hexadecimal
// that is no NUL, and .. does not lead out of the root.
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

// Is there anything in a request that HTTP does not allow, and node's parser lets pass?
// Of two Authorization headers it keeps the first without a word; a proxy before us may
// have looked at the other one.
export function isWellFormed(request, path) {
  const names = request.rawHeaders.filter((_, i) => i % 2 === 0);

  return isPath(path) &&
    names.filter((name) => name.toLowerCase() === 'authorization').length <= 1;
}

// The address of the client, an IPv4 one in its own form.
export function addressOf(request) {
  return (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
}

// The headers for the database, with names in lower case; those that came more than
// once are joined by commas, as HTTP says.
//
// X-Overten-Authorization is where a proxy puts the credential that PostgREST must not
// see; nobody does that before this gateway, so a client's own may contradict the
// Authorization header and never replace it.
export function headersOf(request) {
  const found = {};
  const raw = request.rawHeaders;

  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i].toLowerCase();

    if (PASSED.has(name)) {
      found[name] = name in found ? `${found[name]}, ${raw[i + 1]}` : raw[i + 1];
    }
  }
  if (!found.authorization) {
    delete found['x-overten-authorization'];
  }
  found['x-overten-client-addr'] = addressOf(request);
  return found;
}

function hasBody(request) {
  const length = request.headers['content-length'];

  return request.headers['transfer-encoding'] !== undefined ||
    length !== undefined && length !== '0';
}

// The body as it came, null if there is none.  Rejects if the client goes away
// before it is whole.
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
