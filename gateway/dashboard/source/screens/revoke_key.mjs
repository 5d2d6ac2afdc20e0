// Revoking a key, which cannot be taken back: the person sees what the key was used for
// just now, and types its name.

import { useState } from 'preact/hooks';

import { call } from '../api.mjs';
import { html } from '../html.mjs';
import { Dialog } from '../parts/dialog.mjs';
import { Field } from '../parts/field.mjs';
import { LastHour } from '../parts/last_hour.mjs';
import { ActionButton, Problem, useAction } from '../parts/load.mjs';

// "path" is that of the key; "onDone" is called when the key has changed.
export function RevokeKey({ path, item, canDisable, onDone, onClose }) {
  const [typed, setTyped] = useState('');
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
    <${LastHour} path=${path} />
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
