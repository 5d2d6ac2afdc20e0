// A button that copies a text.

import { html } from '../html.mjs';
import { announce } from './announce.mjs';

export function CopyButton({ text, what }) {
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      announce(`Copied the ${what}.`);
    } catch {
      announce(`The browser does not allow copying. Select the ${what} and copy it by hand.`);
    }
  }
  return html`<button type="button" onClick=${copy}>Copy<span class="unseen"> the ${what}</span></button>`;
}
