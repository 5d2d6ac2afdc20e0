// Replacing a key by a new one, so that both are good for a while.

import { useRef, useState } from 'preact/hooks';

import { RequestKey, call } from '../api.mjs';
import { html } from '../html.mjs';
import { Dialog } from '../parts/dialog.mjs';
import { Choice } from '../parts/field.mjs';
import { ActionButton, Problem, useAction } from '../parts/load.mjs';

const HOUR = 3600;
const OVERLAPS = [[0, 'end at once'], [HOUR, 'be good for an hour'], [24 * HOUR, 'be good for 24 hours'],
  [7 * 24 * HOUR, 'be good for 7 days'], [30 * 24 * HOUR, 'be good for 30 days']];

// "path" is that of the key; "onKey" gets the answer, with the secret of the new key.
export function RotateKey({ path, item, onKey, onClose }) {
  const [overlap, setOverlap] = useState(String(24 * HOUR));
  const requestKey = useRef(new RequestKey());
  const rotating = useAction(async () => {
    const body = { overlap_seconds: Number(overlap) };

    onKey(await call('POST', `${path}/rotate`, body, requestKey.current.for(body)));
  });

  function submit(event) {
    event.preventDefault();
    rotating.run();
  }

  return html`<${Dialog} title="Rotate “${item.name}”" onClose=${onClose}>
    <p>You get a new key that can do what this one can. Deploy it while both are good. Afterwards you see here who still
      uses the old one.</p>
    <form onSubmit=${submit}>
      <${Choice} id="overlap" label="The old key should" value=${overlap} onInput=${setOverlap}
        options=${OVERLAPS.map(([seconds, text]) => [String(seconds), text])} />
      <${Problem} of=${rotating} />
      <div class="buttons">
        <button type="button" data-focus onClick=${onClose}>Cancel</button>
        <${ActionButton} type="submit" kind="main" action=${rotating}>Rotate<//>
      </div>
    </form>
  <//>`;
}
