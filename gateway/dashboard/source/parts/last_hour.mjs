// What a key was used for just now, so that nobody stops a service without knowing.

import { get } from '../api.mjs';
import { addresses, total } from '../history.mjs';
import { html } from '../html.mjs';
import { HOUR, rfc3339 } from '../times.mjs';
import { count } from './bars.mjs';
import { Loaded, useResource } from './load.mjs';

// "path" is that of the key.
export function LastHour({ path }) {
  const usage = useResource(() => get(`${path}/usage?since=${rfc3339(Date.now() - HOUR)}`), [path]);

  return html`<${Loaded} of=${usage} what="what it is used for">${({ items }) => {
    const { accepted } = total(items);
    const from = addresses(items).filter((each) => each.accepted > 0);

    if (accepted === 0) {
      return html`<p>Nobody has used it in the last hour.</p>`;
    }
    return html`<p class="notice bad">It is in use: ${count(accepted, 'request')} in the last hour,
      from ${from.length === 1 ? from[0].address ?? 'an unknown address' : count(from.length, 'address', 'addresses')}.</p>`;
  }}<//>`;
}
