// The access log: one line of JSON per request.
//
// It never holds a credential: no headers, no query string and no body.  Of the path
// it holds only the words of the API, and ids.  Anything else in the path, such as a
// key pasted into the wrong place, is shown as *.

const WORDS = new RegExp('^(|api|v1|features|signup|verify|organizations|api-keys|usage|limits|credits|audit-log|' +
  'webhook-secret|rotate|rotation|members|invitations|accept|healthz|readyz|authorize|metrics|' +
  'dashboard)$');
// Secrets are longer.
const ID = /^(org|key|inv)_[0-9A-Za-z]{20}$/;

export function loggablePath(path) {
  const segments = path.split('?', 1)[0].split('/', 12);

  return segments
    .map((segment) => (WORDS.test(segment) || ID.test(segment) ? segment : '*'))
    .join('/');
}

// Collect lines and write them together, once per round of the event loop.  Under
// load that is one system call for many requests.
export function openAccessLog(enabled, stream = process.stdout) {
  let waiting = '';

  // The reader of the log may go away; that is no reason to stop serving.
  stream.on('error', () => {});

  function write() {
    stream.write(waiting);
    waiting = '';
  }

  return function log(entry) {
    if (!enabled) {
      return;
    }
    if (waiting === '') {
      setImmediate(write);
    }
    waiting += JSON.stringify(entry) + '\n';
  };
}
