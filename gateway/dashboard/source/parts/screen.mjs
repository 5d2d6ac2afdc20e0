// A screen: its heading gets the focus, and its name becomes the title of the page.

import { useEffect, useRef } from 'preact/hooks';

import { html } from '../html.mjs';

export function Screen({ title, children }) {
  const heading = useRef();

  useEffect(() => {
    document.title = `${title} – API keys`;
    heading.current.focus();
  }, [title]);
  return html`<h1 ref=${heading} tabindex="-1">${title}</h1>${children}`;
}
