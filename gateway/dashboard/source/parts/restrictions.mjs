// Fields for what restricts a key: when it expires, from where it can be used, and for
// what.  Creating and changing a key have them in common.

import { html } from '../html.mjs';
import { DAY, rfc3339 } from '../times.mjs';
import { Choice, Choices, Field } from './field.mjs';

const DAYS = { 7: 'in 7 days', 30: 'in 30 days', 90: 'in 90 days', 365: 'in a year' };

// The expiry of a key that is left as it is: none for a new key, or the present one.
export const SAME = '';
export const NEVER = 'never';

// The addresses of a text: one a line, or separated by commas or spaces; null for all.
export function addressesOf(text) {
  const addresses = text.split(/[\s,]+/).filter(Boolean);

  return addresses.length > 0 ? addresses : null;
}

// As the API takes it.  "now" is when the form was opened, so that a request that is
// repeated says the same time.
export function expiryOf(choice, now) {
  return choice === NEVER ? null : rfc3339(now + Number(choice) * DAY);
}

// "same" says what SAME means; "others" are further choices before the days.
export function Expiry({ features, same, others = [], value, onInput }) {
  const possible = Object.entries(DAYS).filter(([days]) => days * DAY <= features.longestLife);

  return html`<${Choice} id="expiry" label="Expires" value=${value} onInput=${onInput}
    options=${[[SAME, same], ...others, ...possible]} />`;
}

export function Addresses({ value, onInput, error }) {
  return html`<${Field} id="addresses" name="allowed_addresses" label="Allowed addresses" autocomplete="off"
    hint="Addresses and networks, such as 192.0.2.0/24; empty for all" value=${value} onInput=${onInput} error=${error} />`;
}

// "value" is null for all scopes.
export function Scopes({ features, value, onInput }) {
  // A key may have scopes that customers cannot give.
  const others = (value ?? []).filter((name) => !features.scopeChoices.some((each) => each.name === name));
  const options = [...others.map((name) => [name, name]),
    ...features.scopeChoices.map(({ name, description }) => [name, description ? `${name}: ${description}` : name])];

  return html`<${Choice} id="scopes" label="Can be used for" value=${value === null ? 'all' : 'some'}
      onInput=${(choice) => onInput(choice === 'all' ? null : [])}
      options=${[['all', 'everything'], ['some', 'what is chosen below']]} />
    ${value !== null && html`<${Choices} id="scope-choices" label="Scopes" options=${options} chosen=${value}
      onInput=${onInput} hint="A key without a scope can be used for nothing that asks for one." />`}`;
}
