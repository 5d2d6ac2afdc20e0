// Keys that should be looked at before something happens: each list with its reason.

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { UNUSED_DAYS, isOver, isUnused } from '../key_state.mjs';
import { count } from '../parts/bars.mjs';
import { Loaded, useResource } from '../parts/load.mjs';
import { Moment } from '../parts/moment.mjs';
import { Rows } from '../parts/rows.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf } from '../route.mjs';
import { DAY, rfc3339 } from '../times.mjs';

// From how many addresses a key is used in so many days, to be called used from many.
const MANY_ADDRESSES = 5;
const ADDRESS_DAYS = 7;

async function readKeys(orgId) {
  const path = `/organizations/${orgId}`;
  const since = rfc3339(Date.now() - ADDRESS_DAYS * DAY);
  const [{ items: keys }, { items: members }, { items: uses }] =
    await Promise.all([get(`${path}/api-keys`), get(`${path}/members`), get(`${path}/usage?by=key&since=${since}`)]);
  const addresses = new Map(uses.map((use) => [use.key_id, use.addresses]));

  return {
    keys: keys.filter((key) => !isOver(key)).map((key) => ({ ...key, addresses: addresses.get(key.key_id) ?? 0 })),
    people: new Set(members.map(({ uid }) => uid)),
  };
}

// The lists: a title, what to do, and which keys are in it.
function listsOf(features, people) {
  return [
    [`Used from ${MANY_ADDRESSES} or more addresses in ${ADDRESS_DAYS} days`,
      `Where many places share a key, nobody notices one more. Give each place a key of its own${features.addresses ? ', or say which addresses may use it' : ''}.`,
      (key) => key.addresses >= MANY_ADDRESSES],
    [`Not used for ${UNUSED_DAYS} days`, 'What nobody uses nobody misses: revoke it, so that it cannot leak.', isUnused],
    ...(features.people ? [['Created by people who have left',
      'They may still have the secret. Rotate the key, or revoke it.',
      (key) => key.created_by !== null && !people.has(key.created_by)]] : []),
    ...(features.expiry ? [['Without an expiry',
      'A key that expires is replaced now and then, and does not outlive what it is for.',
      (key) => key.expires_at === null]] : []),
  ];
}

function List({ org, title, advice, keys }) {
  return html`<h2>${title}</h2>
    ${keys.length === 0 ? html`<p class="notice good">No key is like this.</p>`
      : html`<p>${count(keys.length, 'key')}. ${advice}</p>
        <${Rows} label=${title} names=${['Key', 'Prefix', `Addresses in ${ADDRESS_DAYS} days`, 'Last used', 'Created']} numeric=${[2]}
          rows=${keys.map((key) => [html`<a href=${hashOf([org.org_id, 'keys', key.key_id])}>${key.name}</a>`,
            html`<code>${key.prefix}…</code>`, key.addresses.toLocaleString('en'), html`<${Moment} at=${key.last_used_at} />`, html`<${Moment} at=${key.created_at} />`])} />`}`;
}

export function Hygiene({ org, features }) {
  const keys = useResource(() => readKeys(org.org_id), [org.org_id]);

  return html`<${Screen} title="Hygiene">
    <${Loaded} of=${keys} what="the keys">${({ keys: all, people }) => listsOf(features, people)
      .map(([title, advice, isInIt]) => html`<${List} org=${org} title=${title} advice=${advice}
        keys=${all.filter((key) => isInIt(key))} />`)}<//>
  <//>`;
}
