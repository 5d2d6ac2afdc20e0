// What happens is also said to those who do not see it, by one region of the page.

import { useEffect, useState } from 'preact/hooks';

import { html } from '../html.mjs';

let show = () => {};

export function announce(text) {
  // The same text twice would not be read twice.
  show('');
  setTimeout(() => show(text), 50);
}

export function Announcements() {
  const [text, setText] = useState('');

  useEffect(() => {
    show = setText;
  }, []);
  return html`<p class="announcement" role="status">${text}</p>`;
}
