// What a person should look at in the history of a key, each with what to do.

import { html } from '../html.mjs';
import { Moment } from './moment.mjs';

const KINDS = {
  used_after_revocation: ['Used after it was revoked',
    'These requests were refused. Somebody still has the secret: look for it where it was deployed, and for a leak if you do not know the address.'],
  woke: ['In use again after a long time',
    'If nobody of you uses it, revoke it.'],
  rise: ['Much more use than before',
    'If you do not know the reason, look at the addresses below, and revoke the key if one is not yours.'],
  new_address: ['Used from a new address',
    'A deployment in another network does that, and so does a leak. If you do not know the address, revoke the key.'],
  limited: ['Refused by limits for days',
    'A client goes on asking although it is refused. Make it wait as long as it is told to, or ask for a larger limit.'],
};

export function Anomalies({ items }) {
  if (items.length === 0) {
    return null;
  }
  return html`<section aria-labelledby="anomalies">
    <h2 id="anomalies">Look at this</h2>
    <ul class="anomalies">${items.map(({ kind, detail, last_at: last }) => {
      const [title, advice] = KINDS[kind] ?? [kind, 'Revoke the key if you do not know the reason.'];

      return html`<li class="notice bad"><h3>${title}</h3>
        <p>${detail}${last && html` Last: <${Moment} at=${last} />.`}</p><p><strong>${advice}</strong></p></li>`;
    })}</ul>
  </section>`;
}
