// The dashboard begins here.

import { render } from 'preact';

import { App } from './app.mjs';
import { html } from './html.mjs';

render(html`<${App} />`, document.getElementById('app'));
