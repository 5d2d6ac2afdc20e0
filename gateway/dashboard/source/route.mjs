// Where we are: the part of the URL after #, which no server gets to see.
//
//   #/                               the first organization, or signing up
//   #/signup
//   #/ORG/keys?status=&unused=&search=
//   #/ORG/keys/KEY?days=
//   #/ORG/keys/KEY/first-request, #/ORG/keys/KEY/change
//   #/ORG/keys/KEY/leaked?days=
//   #/ORG/keys/new?like=
//   #/ORG/hygiene, #/ORG/usage, #/ORG/limits, #/ORG/audit-log, #/ORG/members

import { useEffect, useState } from 'preact/hooks';

function current() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?', 2);

  return { words: path.split('/').map(decodeURIComponent), query: new URLSearchParams(query) };
}

// The hash of a place.  Empty parameters are left out.
export function hashOf(words, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== '' && value !== undefined);
  const text = new URLSearchParams(given).toString();

  return `#/${words.map(encodeURIComponent).join('/')}${text && `?${text}`}`;
}

export function go(words, query) {
  location.hash = hashOf(words, query);
}

// Likewise, but the browser's "back" does not return here.
export function replace(words, query) {
  history.replaceState(null, '', hashOf(words, query));
  dispatchEvent(new Event('hashchange'));
}

// The place, with its words and its query.  A place that is not one is the first.
export function useRoute() {
  const [route, setRoute] = useState(read);

  useEffect(() => {
    const update = () => setRoute(read());

    addEventListener('hashchange', update);
    // It may have changed since we were rendered.
    update();
    return () => removeEventListener('hashchange', update);
  }, []);
  return route;
}

function read() {
  try {
    return current();
  } catch {
    return { words: [''], query: new URLSearchParams() };
  }
}
