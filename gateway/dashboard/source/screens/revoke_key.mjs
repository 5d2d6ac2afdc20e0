// Revoking a key, which cannot be taken back: the person sees what the key was used for
// just now, and types its name.

import { useState } from 'preact/hooks';

import { call, get } from '../api.mjs';
import { addresses, total } from '../history.mjs';
import { html } from '../html.mjs';
import { count } from '../parts/bars.mjs';
import { Dialog } from '../parts/dialog.mjs';
import { Field } from '../parts/field.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { HOUR, rfc3339 } from '../times.mjs';

function LastHour({ items }) {
  const { accepted } = total(items);
  const from = addresses(items).filter((each) => each.accepted > 0);

  if (accepted === 0) {
    return html`<p>Nobody has used it in the last hour.</p>`;
  }
  return html`<p class="notice bad">It is in use: ${count(accepted, 'request')} in the last hour,
    from ${from.length === 1 ? from[0].address ?? 'an unknown address' : count(from.length, 'address', 'addresses')}.</p>`;
}

// "path" is that of the key; "onDone" is called when the key has changed.
export function RevokeKey({ path, item, canDisable, onDone, onClose }) {
  const [typed, setTyped] = useState('');
  const usage = useResource(() => get(`${path}/usage?since=${rfc3339(Date.now() - HOUR)}`), [path]);
  const revoking = useAction(async () => {
    await call('DELETE', path);
    onDone(`Revoked “${item.name}”.`);
  });
  const disabling = useAction(async () => {
    await call('PATCH', path, { disabled: true });
    onDone(`Disabled “${item.name}”.`);
  });
  const isSure = typed === item.name;

  function submit(event) {
    event.preventDefault();
    if (isSure) {
      revoking.run();
    }
  }

  return html`<${Dialog} title="Revoke “${item.name}”" onClose=${onClose}>
    <p>From now on, requests with this key are refused. That is for good.</p>
    <${Loaded} of=${usage} what="what it is used for">${({ items }) => html`<${LastHour} items=${items} />`}<//>
    <form onSubmit=${submit}>
      <${Field} id="revoke-name" name="name" label="Type the name of the key: ${item.name}" autocomplete="off"
        value=${typed} onInput=${setTyped} />
      <${Problem} of=${revoking} />
      <${Problem} of=${disabling} />
      <div class="buttons">
        <button type="button" data-focus onClick=${onClose}>Cancel</button>
        ${canDisable && html`<${ActionButton} action=${disabling}>Disable it instead<//>`}
        <button type="submit" class="danger" aria-disabled=${!isSure || revoking.busy ? 'true' : undefined}>Revoke for good</button>
      </div>
    </form>
  <//>`;
}
