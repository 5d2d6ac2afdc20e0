// What is left of the limits of the organization and of its keys.

import { useState } from 'preact/hooks';

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { readLimits } from '../limits.mjs';
import { LimitTable } from '../parts/limit_table.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf } from '../route.mjs';

export function Limits({ org }) {
  const [more, setMore] = useState([]);
  const [cursor, setCursor] = useState(null);
  const first = useResource(async () => {
    const [{ items: keys }, { items, next }] =
      await Promise.all([get(`/organizations/${org.org_id}/api-keys`), readLimits(org, null)]);

    setMore([]);
    setCursor(next);
    return { items, names: new Map(keys.map((key) => [key.key_id, key.name])) };
  }, [org.org_id]);
  const reading = useAction(async () => {
    const { items, next } = await readLimits(org, cursor);

    setMore([...more, ...items]);
    setCursor(next);
  });

  return html`<${Screen} title="Limits">
    <${Loaded} of=${first} what="the limits">${({ items, names }) => items.length === 0
      ? html`<p class="notice">There are no limits.</p>`
      : html`<p>What is left now, and how many requests each limit has refused lately.</p>
        <${LimitTable} items=${[...items, ...more]} ownerOf=${(keyId) =>
          html`<a href=${hashOf([org.org_id, 'keys', keyId])}>${names.get(keyId) ?? keyId}</a>`} />
        <div class="buttons">${cursor !== null && html`<${ActionButton} action=${reading}>More keys<//>`}</div>
        <${Problem} of=${reading} />`}<//>
  <//>`;
}
