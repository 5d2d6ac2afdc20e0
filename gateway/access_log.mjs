// The access log: a line of JSON for each request.
//
// It never holds a credential: no headers, no query string, no body, and of the
// path only the words of the API and ids; whatever else stands there, a key
// pasted into the wrong place for one, is shown as *.

const WORDS = /^(|api|v1|signup|verify|organizations|api-keys|usage|healthz|readyz|authorize)$/;
const ID = /^(org|key)_[0-9A-Za-z]{1,40}$/;

export function loggablePath(path) {
  const segments = path.split('?', 1)[0].split('/', 12);

  return segments
    .map((segment) => (WORDS.test(segment) || ID.test(segment) ? segment : '*'))
    .join('/');
}

// Lines are collected and written together, once an event loop's round: one
// system call for many requests under load.
export function openAccessLog(enabled, stream = process.stdout) {
  let waiting = '';

  // Whoever reads the log may go away; that is no reason to stop serving.
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
