// Joining an organization with the code of an invitation.

import { useState } from 'preact/hooks';

import { call } from '../api.mjs';
import { html } from '../html.mjs';
import { Field } from '../parts/field.mjs';
import { ActionButton, Problem, useAction } from '../parts/load.mjs';

// "onJoined" gets the organization.
export function Join({ onJoined }) {
  const [code, setCode] = useState('');
  const joining = useAction(async () => onJoined(await call('POST', '/invitations/accept', { code: code.trim() })));

  function submit(event) {
    event.preventDefault();
    joining.run();
  }

  return html`<h2>Or join one</h2>
    <form class="narrow" onSubmit=${submit}>
      <${Field} id="code" name="code" label="Code of the invitation" required autocomplete="off" value=${code}
        onInput=${setCode} error=${joining.error} />
      <${Problem} of=${joining} />
      <div class="buttons"><${ActionButton} type="submit" action=${joining}>Join<//></div>
    </form>`;
}
