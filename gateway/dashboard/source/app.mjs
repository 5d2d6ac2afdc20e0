// Which screen there is: by who is signed in, what has to be stored, and the URL.

import { useEffect, useErrorBoundary, useState } from 'preact/hooks';

import { get } from './api.mjs';
import { readFeatures } from './features.mjs';
import { html } from './html.mjs';
import { leave, onPerson } from './identity.mjs';
import { Announcements } from './parts/announce.mjs';
import { Loaded, useResource } from './parts/load.mjs';
import { Screen } from './parts/screen.mjs';
import { go, hashOf, replace, useRoute } from './route.mjs';
import { AuditLog } from './screens/audit_log.mjs';
import { ChangeKey } from './screens/change_key.mjs';
import { CreateKey } from './screens/create_key.mjs';
import { Hygiene } from './screens/hygiene.mjs';
import { Key } from './screens/key.mjs';
import { Keys } from './screens/keys.mjs';
import { Leak } from './screens/leak.mjs';
import { Limits } from './screens/limits.mjs';
import { Members } from './screens/members.mjs';
import { Secret } from './screens/secret.mjs';
import { SignIn } from './screens/sign_in.mjs';
import { SignUp } from './screens/sign_up.mjs';
import { Usage } from './screens/usage.mjs';
import { Waiting } from './screens/waiting.mjs';

const SECTIONS = [['keys', 'Keys'], ['hygiene', 'Hygiene'], ['usage', 'Usage'], ['limits', 'Limits'],
  ['audit-log', 'Audit log'], ['members', 'Members']];

function Choose({ to }) {
  useEffect(() => replace(to), []);
  return null;
}

function NotFound() {
  return html`<${Screen} title="Not found">
    <p class="notice bad">There is nothing here, or you are not a member of this organization.</p>
    <p><a href="#/">To the keys</a></p>
  <//>`;
}

// What can be done with one key, by the word after its id.
const STEPS = { '': Key, 'first-request': Waiting, change: ChangeKey, leaked: Leak };

// A place inside an organization.
function Place({ org, person, features, words: [section, ...rest], query, onSecret, onLeft }) {
  const [keyId, step = '', ...more] = rest;
  const place = { org, features, query, onSecret };

  if (section === 'keys' && more.length === 0) {
    if (keyId === undefined) {
      return html`<${Keys} ...${place} />`;
    }
    if (keyId === 'new' && step === '') {
      return html`<${CreateKey} key=${query.get('like')} ...${place} />`;
    }
    if (Object.hasOwn(STEPS, step)) {
      return html`<${STEPS[step]} key=${keyId} keyId=${keyId} ...${place} />`;
    }
  }
  if (section === 'hygiene' && rest.length === 0) {
    return html`<${Hygiene} ...${place} />`;
  }
  if (section === 'usage' && rest.length === 0) {
    return html`<${Usage} org=${org} features=${features} query=${query} />`;
  }
  if (section === 'limits' && rest.length === 0) {
    return html`<${Limits} org=${org} />`;
  }
  if (section === 'audit-log' && rest.length === 0) {
    return html`<${AuditLog} org=${org} />`;
  }
  if (section === 'members' && rest.length === 0) {
    return html`<${Members} org=${org} person=${person} onLeft=${onLeft} />`;
  }
  return html`<${NotFound} />`;
}

// "all" are the organizations of the person that have keys; "org" is that of the screen,
// if it has one.
function Navigation({ org, all, section }) {
  return html`<nav aria-label="Organizations">
    <details class="orgs" key=${org?.org_id}><summary>${org?.name ?? 'Organizations'}</summary>
      <ul>${all.map(({ org_id: id, name, closed_at: closed }) => html`<li><a href=${hashOf([id, 'keys'])}
          aria-current=${id === org?.org_id ? 'true' : undefined}>${name}${closed && ' (closed)'}</a></li>`)}
        <li><a href=${hashOf(['signup'])}>Another organization…</a></li></ul></details>
    ${org && SECTIONS.map(([name, text]) => html`<a href=${hashOf([org.org_id, name])}
      aria-current=${name === section ? 'page' : undefined}>${text}</a>`)}</nav>`;
}

function Header({ person, children }) {
  return html`<header>${children}
    <div class="person"><span>${person.email}</span>
      <button type="button" class="plain" onClick=${leave}>Sign out</button></div>
  </header>`;
}

// What a person who is signed in sees.
function Workspace({ person }) {
  const { words: [orgId, ...words], query } = useRoute();
  const orgs = useResource(async () => (await get('/organizations')).items, [person.uid]);
  const offer = useResource(readFeatures, [person.uid]);
  // The answers with new secrets, each until its secret is stored, and where to go then.
  // There can be several: leaving a screen does not stop what was sent from there.
  const [held, setHeld] = useState([]);

  function hold(answer, next = [answer.org_id, 'keys', answer.key_id]) {
    setHeld((all) => [...all, { answer, next }]);
    // The organization may be new, too.
    orgs.reload();
  }

  function release() {
    const [{ next }, ...others] = held;

    setHeld(others);
    go(next);
  }

  async function joined(org) {
    await orgs.reload();
    go([org.org_id, 'keys']);
  }

  async function left() {
    await orgs.reload();
    replace(['']);
  }

  if (held.length > 0) {
    const [{ answer }] = held;

    return html`<main><${Secret} key=${answer} answer=${answer} onStored=${release} /></main>`;
  }
  const active = (orgs.value ?? []).filter((each) => each.api_access_since !== null);
  const org = active.find((each) => each.org_id === orgId);

  return html`<${Header} person=${person}>
      ${active.length > 0 && html`<${Navigation} org=${org} all=${active} section=${words[0]} />`}<//>
    <main><${Loaded} of=${orgs} what="your organizations">${(all) =>
      html`<${Loaded} of=${offer} what="what the service offers">${(features) => {
        if (org !== undefined) {
          return html`<${Place} key=${orgId} org=${org} person=${person} features=${features} words=${words}
            query=${query} onSecret=${hold} onLeft=${left} />`;
        }
        if (active.length === 0 || orgId === 'signup') {
          return html`<${SignUp} person=${person} features=${features} organizations=${all} onJoined=${joined}
            onKey=${(answer) => hold(answer, [answer.org_id, 'keys', answer.key_id, 'first-request'])} />`;
        }
        return orgId === '' ? html`<${Choose} to=${[active[0].org_id, 'keys']} />` : html`<${NotFound} />`;
      }}<//>`}<//></main>`;
}

export function App() {
  const [isBroken] = useErrorBoundary((error) => console.error(error));
  // Undefined until Firebase knows.
  const [person, setPerson] = useState();

  useEffect(() => onPerson(setPerson), []);
  if (isBroken) {
    return html`<main><${Screen} title="Something is wrong">
      <p class="notice bad">This page has a mistake. What you have done so far is done.</p>
      <div class="buttons"><button type="button" onClick=${() => location.reload()}>Load it again</button></div>
    <//></main>`;
  }
  return html`
    ${person === undefined && html`<main><p class="loading" role="status">Loading…</p></main>`}
    ${person === null && html`<main><${SignIn} /></main>`}
    ${person && html`<${Workspace} key=${person.uid} person=${person} />`}
    <${Announcements} />`;
}
