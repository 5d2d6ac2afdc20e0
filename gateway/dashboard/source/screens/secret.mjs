// The secret of a new key, which is shown this once, or a new webhook secret.
//
// It is in the answer of the API, which only this screen and its parent hold: in no URL,
// no storage and no log, and in the document only while the person wants to see it.  The
// parent drops it when the person says that it is stored.  Until then the browser asks
// before the page is left.

import { useEffect, useState } from 'preact/hooks';

import { html } from '../html.mjs';
import { CopyButton } from '../parts/copy.mjs';
import { FirstRequest } from '../parts/first_request.mjs';
import { Screen } from '../parts/screen.mjs';
import { save } from '../save.mjs';

function Hidden({ label, what, text, shown, onToggle }) {
  return html`<div class="secret">
    <h2>${label}</h2>
    <code>${shown ? text : `${text.slice(0, what === 'secret' ? 12 : 6)}${'•'.repeat(12)}`}</code>
    <div class="buttons">
      <${CopyButton} text=${text} what=${what} />
      <button type="button" aria-pressed=${shown ? 'true' : 'false'} onClick=${onToggle}>
        Show<span class="unseen"> the ${what}</span></button>
    </div>
  </div>`;
}

export function Secret({ answer, onStored }) {
  const { name, secret, webhook_secret: webhookSecret } = answer;
  const [shown, setShown] = useState('');
  const toggle = (what) => () => setShown(shown === what ? '' : what);

  useEffect(() => {
    const guard = (event) => event.preventDefault();

    addEventListener('beforeunload', guard);
    return () => removeEventListener('beforeunload', guard);
  }, []);
  return html`<${Screen} title=${secret ? `Store the secret of “${name}”` : 'Store the new webhook secret'}>
    <p class="notice"><strong>${secret ? 'This secret is shown only once.' : 'The old one is no good any more.'}</strong>${' '}
      ${secret ? 'Put it into a secret manager now. If it is lost, revoke the key and create another one.'
        : 'Give the new one to the receivers of your webhooks now.'}</p>
    ${secret && html`<${Hidden} label="API key" what="secret" text=${secret} shown=${shown === 'secret'}
      onToggle=${toggle('secret')} />`}
    ${webhookSecret && html`<${Hidden} label="Webhook secret of the organization" what="webhook secret"
      text=${webhookSecret} shown=${shown === 'webhook secret'} onToggle=${toggle('webhook secret')} />`}
    ${secret && html`<h2>Use it</h2><${FirstRequest} />`}
    <div class="buttons">
      ${secret && html`<button type="button" onClick=${() => save('overten.env', `OVERTEN_API_KEY=${secret}\n`)}>Download as .env file</button>`}
      <button type="button" class="main" onClick=${onStored}>I have stored it</button>
    </div>
  <//>`;
}
