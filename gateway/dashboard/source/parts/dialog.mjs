// A dialog over the page.  What has data-focus gets the focus first.  It closes with
// Escape; then the focus returns to where it was, or to the heading of the screen if that
// is gone.

import { useEffect, useRef } from 'preact/hooks';

import { html } from '../html.mjs';

export function Dialog({ title, onClose, children }) {
  const dialog = useRef();

  useEffect(() => {
    const opener = document.activeElement;

    dialog.current.showModal();
    dialog.current.querySelector('[data-focus]').focus();
    return () => {
      (opener?.isConnected ? opener : document.querySelector('h1'))?.focus();
    };
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${onClose}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}
