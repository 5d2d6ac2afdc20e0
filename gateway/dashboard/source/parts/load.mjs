// What a screen reads from the API, and what a button does there: each with its state,
// so that every screen can show that it waits, and what is wrong.

import { useCallback, useEffect, useRef, useState } from 'preact/hooks';

import { textOf } from '../errors.mjs';
import { html } from '../html.mjs';

// Read something, and read it again when one of "inputs" changes.  Returns its value,
// which stays while it is read again, or the error.
export function useResource(read, inputs) {
  const [state, setState] = useState({});
  const latest = useRef(0);

  const reload = useCallback(async () => {
    const turn = ++latest.current;
    let next;

    try {
      next = { of: reload, value: await read() };
    } catch (error) {
      next = { of: reload, error };
    }
    // What was asked for earlier may come later.
    if (turn === latest.current) {
      setState(next);
    }
  }, inputs);

  useEffect(() => {
    reload();
    return () => {
      latest.current++;
    };
  }, [reload]);
  // What was read for other inputs would not fit the rest of the screen.
  return { ...(state.of === reload ? state : {}), reload };
}

// Show a resource by "children", or that it is not there yet, or why it is not.
export function Loaded({ of: { value, error, reload }, what, children }) {
  if (error !== undefined) {
    return html`<div class="notice bad" role="alert">
      <p>${textOf(error)}</p>
      <button type="button" onClick=${reload}>Try again</button>
    </div>`;
  }
  if (value === undefined) {
    return html`<p class="loading" role="status">Loading ${what}…</p>`;
  }
  return children(value);
}

// Something that a button does.  It does not begin a second time before it has ended.
export function useAction(act) {
  const [state, setState] = useState({ busy: false });
  const running = useRef(false);

  async function run(...values) {
    if (running.current) {
      return;
    }
    running.current = true;
    setState({ busy: true });
    try {
      await act(...values);
      setState({ busy: false });
    } catch (error) {
      setState({ busy: false, error });
    } finally {
      running.current = false;
    }
  }
  return { ...state, run };
}

// A button that does an action.  While it runs, the button keeps the focus.
export function ActionButton({ action, kind = '', type = 'button', onClick, children }) {
  return html`<button type=${type} class=${kind} aria-disabled=${action.busy ? 'true' : undefined}
    onClick=${type === 'button' ? onClick ?? action.run : undefined}>${children}</button>`;
}

// What went wrong with an action.
export function Problem({ of: { error } }) {
  return html`<div role="alert">
    ${error && html`<p class="notice bad">${textOf(error)}</p>`}
  </div>`;
}
