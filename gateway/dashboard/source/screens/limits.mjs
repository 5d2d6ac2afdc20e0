// What is left of the limits of the organization and of its keys.

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { readLimits } from '../limits.mjs';
import { LimitTable } from '../parts/limit_table.mjs';
import { ActionButton, Loaded, Problem, useResource } from '../parts/load.mjs';
import { usePages } from '../parts/pages.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf } from '../route.mjs';

async function readNames(org) {
  const { items } = await get(`/organizations/${org.org_id}/api-keys`);

  return new Map(items.map((key) => [key.key_id, key.name]));
}

export function Limits({ org }) {
  const names = useResource(() => readNames(org), [org.org_id]);
  const { first, more, hasMore, reading } = usePages((cursor = null) => readLimits(org, cursor), [org.org_id]);

  return html`<${Screen} title="Limits">
    <${Loaded} of=${names} what="the keys">${(nameOf) => html`<${Loaded} of=${first} what="the limits">${({ items }) => items.length === 0
      ? html`<p class="notice">There are no limits.</p>`
      : html`<p>What is left now, and how many requests each limit has refused lately.</p>
        <${LimitTable} items=${[...items, ...more]} ownerOf=${(keyId) =>
          html`<a href=${hashOf([org.org_id, 'keys', keyId])}>${nameOf.get(keyId) ?? keyId}</a>`} />
        <div class="buttons">${hasMore && html`<${ActionButton} action=${reading}>More keys<//>`}</div>
        <${Problem} of=${reading} />`}<//>`}<//>
  <//>`;
}
