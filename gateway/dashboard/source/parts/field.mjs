// Fields of forms: each with its label, a hint, and what the API says of it.

import { html } from '../html.mjs';
import { textOf } from '../errors.mjs';

// "as" is textarea for a text of several lines.
export function Field({ id, as = 'input', label, hint, error, value, onInput, ...rest }) {
  const isWrong = error !== undefined && error.param === rest.name;
  const described = [hint && `${id}-hint`, isWrong && `${id}-error`].filter(Boolean).join(' ');

  return html`<div class="field">
    <label for=${id}>${label}</label>
    <${as} id=${id} value=${value} onInput=${(event) => onInput(event.currentTarget.value)}
      aria-describedby=${described || undefined} aria-invalid=${isWrong ? 'true' : undefined} ...${rest} />
    ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
    ${isWrong && html`<p class="hint bad" id="${id}-error">${textOf(error)}</p>`}
  </div>`;
}

// "options" are pairs of a value and a label.
export function Choice({ id, label, value, options, onInput }) {
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <select id=${id} value=${value} onChange=${(event) => onInput(event.currentTarget.value)}>
      ${options.map(([each, text]) => html`<option value=${each} selected=${each === value}>${text}</option>`)}
    </select>
  </div>`;
}

// Boxes to check.  "options" are pairs of a value and a label; "chosen" are the values.
export function Choices({ id, label, hint, options, chosen, onInput }) {
  const toggle = (value) => onInput(chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value]);

  return html`<fieldset class="field" aria-describedby=${hint && `${id}-hint`}>
    <legend>${label}</legend>
    ${options.map(([value, text]) => html`<label class="check"><input type="checkbox" checked=${chosen.includes(value)}
      onChange=${() => toggle(value)} /> ${text}</label>`)}
    ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
  </fieldset>`;
}
