// The dashboard: a page where people manage their keys, with the public API alone.
//
// Its files are built by dashboard/build.mjs, and held here in memory.  The page itself
// is made at the start, because it contains the settings; nobody may keep it.  All other
// files have a digest of their content in their names, so everybody may keep them.
//
// The policy of the page (Content-Security-Policy) allows nothing but these files, this
// API and the service that people sign in with.

import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';

const BUILT = new URL('dashboard/built/', import.meta.url);
const ROOT = '/dashboard/';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
};

const SIGN_IN = 'https://identitytoolkit.googleapis.com https://securetoken.googleapis.com';

// Signing in with Google takes a script of Google's, which opens the popup, and a frame
// of the domain that the popup reports to, or of the service that takes Firebase's place.
function policyOf({ authDomain, emulatorUrl }) {
  const connect = ["'self'", SIGN_IN, emulatorUrl].filter(Boolean).join(' ');
  const [script, frame] = authDomain === undefined ? ['', '']
    : [' https://apis.google.com', `frame-src ${emulatorUrl ?? `https://${authDomain}`}; `];

  return `default-src 'none'; script-src 'self'${script}; style-src 'self'; img-src 'self' data:; ` +
    `font-src 'self'; connect-src ${connect}; ${frame}` +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}

function escapeAttribute(text) {
  return text.replace(/[&"<>]/g, (character) => `&#${character.charCodeAt(0)};`);
}

// Pages of other origins have no business with these answers, so that they do not depend
// on the origin of the request (cors.mjs).
function answerOf(headers, body) {
  return { status: 200, headers, body, sameOrigin: true };
}

// Make the two forms of an answer: as it is, and compressed.
function fileOf(name, bytes, headers) {
  const all = {
    'content-type': TYPES[path.extname(name)],
    'x-content-type-options': 'nosniff',
    'cross-origin-resource-policy': 'same-origin',
    vary: 'Accept-Encoding',
    ...headers,
  };

  const gzip = { ...all, 'content-encoding': 'gzip' };

  return {
    plain: answerOf(all, bytes),
    gzip: answerOf(gzip, zlib.gzipSync(bytes, { level: 9 })),
  };
}

function pageOf(template, settings) {
  const { apiKey, authDomain, emulatorUrl } = settings;
  const content = escapeAttribute(JSON.stringify({ apiKey, authDomain, emulatorUrl }));

  return fileOf('index.html', Buffer.from(template.replace('SETTINGS', () => content)), {
    'cache-control': 'no-store',
    'content-security-policy': policyOf(settings),
    // A popup has to be able to report to the page that has opened it.
    'cross-origin-opener-policy': authDomain === undefined ? 'same-origin' : 'same-origin-allow-popups',
    'referrer-policy': 'no-referrer',
  });
}

// Read the files, if the dashboard is configured.  Throws an Error if they are not built.
function readFiles(settings) {
  const files = new Map();
  let names;

  try {
    names = fs.readdirSync(BUILT);
  } catch {
    throw new Error('FIREBASE_API_KEY is set, but the dashboard is not built; ' +
      'run "npm ci && npm run build" in gateway/dashboard');
  }
  for (const name of names) {
    const bytes = fs.readFileSync(new URL(name, BUILT));

    if (name === 'index.html') {
      files.set(ROOT, pageOf(bytes.toString(), settings));
    } else {
      files.set(ROOT + name, fileOf(name, bytes, {
        'cache-control': 'public, max-age=31536000, immutable',
      }));
    }
  }
  return files;
}

// Does the client understand gzip?  One that does not like it says q=0.
function takesGzip(header = '') {
  return header.split(',').some((coding) => /^\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*$)|$)/i.test(coding));
}

const moved = {
  status: 308,
  headers: { location: 'dashboard/', 'cache-control': 'no-store' },
  body: null,
  sameOrigin: true,
};

// "settings" is null if there is no dashboard; then its paths are unknown to us.
export function openDashboard(settings) {
  const files = settings === null ? new Map() : readFiles(settings);

  return {
    // The answer to a request; undefined if it is not for the dashboard.
    answer(request, url) {
      const [name] = url.split('?', 1);

      if (settings === null || !['GET', 'HEAD'].includes(request.method)) {
        return undefined;
      }
      if (name === ROOT.slice(0, -1)) {
        return moved;
      }
      const file = files.get(name);
      return file && file[takesGzip(request.headers['accept-encoding']) ? 'gzip' : 'plain'];
    },
  };
}
