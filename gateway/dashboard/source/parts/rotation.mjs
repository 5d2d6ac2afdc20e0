// How far a rotation has come: who still uses the old key, and whether it can end now.

import { call } from '../api.mjs';
import { html } from '../html.mjs';
import { hashOf } from '../route.mjs';
import { announce } from './announce.mjs';
import { count } from './bars.mjs';
import { ActionButton, Problem, useAction } from './load.mjs';
import { Moment } from './moment.mjs';
import { Rows } from './rows.mjs';

function latest(rows) {
  return rows.reduce((found, row) => ((row.last_used_at ?? '') > (found.last_used_at ?? '') ? row : found));
}

// "items" are what the API says of the rotation; "onDone" is called when the old key has
// ended.
export function Rotation({ org, items, onDone }) {
  const old = items.filter((row) => !row.is_new);
  const [{ key_id: oldId, ends_at: end, rotated_at: rotated }] = old;
  const { last_used_at: last, client_addr: from } = latest(old);
  const uses = old.reduce((sum, row) => sum + row.accepted, 0);
  const isOver = end !== null && new Date(end) <= Date.now();
  const finishing = useAction(async () => {
    await call('DELETE', `/organizations/${org.org_id}/api-keys/${oldId}`);
    announce('The old key has ended.');
    onDone();
  });

  return html`<section aria-labelledby="rotation">
    <h2 id="rotation">Rotation</h2>
    <p class="notice ${uses > 0 && !isOver ? 'bad' : ''}">Rotated <${Moment} at=${rotated} />. The
      <a href=${hashOf([org.org_id, 'keys', oldId])}> old key</a> was last used <${Moment} at=${last} />${last && from && ` from ${from}`};
      ${count(uses, 'use')} since the rotation. ${isOver ? 'It has ended.'
        : end === null ? 'It does not end by itself.' : html`It ends <${Moment} at=${end} />.`}</p>
    <${Rows} label="Uses since the rotation" names=${['Key', 'Address', 'Accepted', 'Refused', 'Over a limit', 'Last']}
      numeric=${[2, 3, 4]}
      rows=${items.map((row) => [row.is_new ? 'new' : 'old', row.client_addr ?? '', row.accepted.toLocaleString('en'),
        row.refused.toLocaleString('en'), row.limited.toLocaleString('en'), html`<${Moment} at=${row.last_used_at} />`])} />
    ${!isOver && html`<div class="buttons"><${ActionButton} kind="danger" action=${finishing}>End the old key now<//></div>`}
    <${Problem} of=${finishing} />
  </section>`;
}
