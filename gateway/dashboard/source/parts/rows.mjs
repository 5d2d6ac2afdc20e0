// A table that is wider than a narrow screen: it scrolls, also with the keyboard.

import { html } from '../html.mjs';

// "numeric" lists the columns with numbers; "left" is how many rows are not shown.
export function Rows({ label, names, rows, numeric = [], left = 0 }) {
  const kind = (column) => (numeric.includes(column) ? 'number' : undefined);

  return html`<div class="scroll" role="region" tabindex="0" aria-label=${label}>
    <table>
      <thead><tr>${names.map((name, column) => html`<th scope="col" class=${kind(column)}>${name}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr>${row.map((cell, column) => html`<td class=${kind(column)}>${cell}</td>`)}</tr>`)}</tbody>
    </table>
  </div>
  ${left > 0 && html`<p class="hint">${left.toLocaleString('en')} more are not shown.</p>`}`;
}
