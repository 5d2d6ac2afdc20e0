// The two pages of a popup that signs people in with Google, as the Firebase web SDK
// opens them at an emulator: the window, where a developer says who signs in, and the
// frame in the app's page, which hands that on to the SDK.
//
// Window and frame are of one origin, and pass nothing to any other.  From the frame to
// the SDK it goes by gapi.iframes, a script of Google's that the SDK loads in any case;
// so the popup, unlike everything else here, takes a connection to apis.google.com.

const GOOGLE = 'google.com';

// What the window hands on; no other origin gets it.
const WINDOW = `
const query = new URLSearchParams(location.search);

document.querySelector('form').onsubmit = (event) => {
  event.preventDefault();
  const fields = new FormData(event.target);
  const claims = JSON.stringify({ email: fields.get('email'), name: fields.get('name') || undefined });
  const answer = new URLSearchParams({ providerId: query.get('providerId'), id_token: claims });
  const authEvent = {
    type: query.get('authType'), eventId: query.get('eventId'), tenantId: null, postBody: null,
    sessionId: 'none', urlResponse: location.origin + location.pathname + '?' + answer,
  };

  for (let frame = 0; frame < (opener?.length ?? 0); frame++) {
    opener[frame].postMessage({ authEvent }, location.origin);
  }
};
`;

const FRAME = `
function begin() {
  const { getContext, CROSS_ORIGIN_IFRAMES_FILTER: anyOrigin } = gapi.iframes;
  const app = getContext().getParentIframe();

  app.register('webStorageSupport', () => ({ status: 'ACK', webStorageSupport: true }), anyOrigin);
  addEventListener('message', ({ origin, data }) => {
    if (origin === location.origin && data?.authEvent) {
      app.send('authEvent', { type: 'authEvent', authEvent: data.authEvent }, () => {}, anyOrigin);
    }
  });
}

function load() {
  gapi.load('gapi.iframes', { callback: begin });
}
`;

function page(title, body) {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title>
${body}
</html>
`;
}

const PAGES = {
  '/emulator/auth/handler': page('Sign in with Google, for development', `<h1>Sign in with Google</h1>
<p>This is for development: Google is not asked, and anybody can be anybody.</p>
<form>
<p><label>Email address <input name="email" type="email" required autofocus></label></p>
<p><label>Name <input name="name"></label></p>
<p><button>Sign in</button></p>
</form>
<script>${WINDOW}</script>`),
  '/emulator/auth/iframe': page('Signing in', `<script>${FRAME}</script>
<script src="https://apis.google.com/js/api.js?onload=load"></script>`),
};

// The page with this path; undefined if there is none.
export function pageOf(path) {
  return Object.hasOwn(PAGES, path) ? PAGES[path] : undefined;
}

// Whom the answer of a window is about; undefined if it is no such answer.
export function claimsOf(requestUri) {
  try {
    const { searchParams } = new URL(requestUri);
    const { email, name } = JSON.parse(searchParams.get('id_token'));

    return searchParams.get('providerId') === GOOGLE ? { email, name } : undefined;
  } catch {
    return undefined;
  }
}
