// How to make a first request with a key, in a shell.  The secret is typed into neither
// of the commands, so it is not in the history of the shell.

import { apiUrl } from '../api.mjs';
import { html } from '../html.mjs';
import { CopyButton } from './copy.mjs';

const READ = 'read -rs OVERTEN_API_KEY';
const ASK = `curl "${apiUrl}/verify" \\\n  -H "Authorization: Bearer $OVERTEN_API_KEY"`;

function Step({ children, what, command }) {
  return html`<li><p>${children}</p>
    <pre tabindex="0" role="region" aria-label="The ${what}"><code>${command}</code></pre>
    <${CopyButton} text=${command} what=${what} /></li>`;
}

export function FirstRequest() {
  return html`<ol>
    <${Step} what="first command" command=${READ}>In a shell (bash or zsh), enter this. Then paste the secret, which is not shown, and press Enter.<//>
    <${Step} what="second command" command=${ASK}>Ask whose key it is.<//>
  </ol>`;
}
