// growth_chart.mjs
//
// Draw the curves on stdin as an SVG: the CPU time of a call against the number
// of keys.  A line is a name, a number of keys and microseconds, with tabs
// between; points of one name are a curve.  Both axes are logarithmic.  What is
// ours is blue: names that begin with "overten_".

import fs from 'node:fs';

const [WIDTH, HEIGHT] = [760, 360];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 250, 52, 56];
const TEXT = '#768390';
const GRID = '#76839040';
const OURS = ['#3b8eea', '#1b5fae', '#7cc0ff'];
const THEIRS = ['#8b949e', '#b08800'];

const escape = (text) => text.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]);

const curves = new Map();
for (const line of fs.readFileSync(0, 'utf8').split('\n').filter((text) => text !== '')) {
  const [name, keys, us] = line.split('\t');
  if (!curves.has(name)) curves.set(name, []);
  if (Number(us) > 0) curves.get(name).push({ keys: Number(keys), us: Number(us) });
}

const points = [...curves.values()].flat();
const decades = (values) => [Math.floor(Math.log10(Math.min(...values)) + 1e-9), Math.ceil(Math.log10(Math.max(...values)) - 1e-9)];
const [firstKeys, lastKeys] = decades(points.map(({ keys }) => keys));
const [firstUs, lastUs] = decades(points.map(({ us }) => us));
const x = (keys) => LEFT + (Math.log10(keys) - firstKeys) / Math.max(1, lastKeys - firstKeys) * (WIDTH - LEFT - RIGHT);
const y = (us) => HEIGHT - BOTTOM - (Math.log10(us) - firstUs) / Math.max(1, lastUs - firstUs) * (HEIGHT - TOP - BOTTOM);

const parts = [];
const text = (at, line, content, attributes = '') => {
  parts.push(`<text x="${at.toFixed(1)}" y="${line.toFixed(1)}"${attributes}>${escape(content)}</text>`);
};
const grid = (path) => parts.push(`<path d="${path}" stroke="${GRID}"/>`);

for (let n = firstKeys; n <= lastKeys; n++) {
  grid(`M${x(10 ** n).toFixed(1)} ${TOP}V${HEIGHT - BOTTOM}`);
  text(x(10 ** n), HEIGHT - BOTTOM + 18, (10 ** n).toLocaleString('en-US'), ' text-anchor="middle"');
}
for (let n = firstUs; n <= lastUs; n++) {
  grid(`M${LEFT} ${y(10 ** n).toFixed(1)}H${WIDTH - RIGHT}`);
  text(LEFT - 8, y(10 ** n) + 4, String(10 ** n), ' text-anchor="end"');
}

// Names stand beside the last points, not on top of each other.
const colours = { ours: [...OURS], theirs: [...THEIRS] };
const ends = [...curves].filter(([, curve]) => curve.length > 0)
  .sort(([, a], [, b]) => y(a.at(-1).us) - y(b.at(-1).us));
let line = TOP - 16;
for (const [name, curve] of ends) {
  const colour = (/^overten_/.test(name) ? colours.ours : colours.theirs).shift() ?? TEXT;
  const path = curve.map(({ keys, us }) => `${x(keys).toFixed(1)} ${y(us).toFixed(1)}`).join('L');

  parts.push(`<path d="M${path}" fill="none" stroke="${colour}" stroke-width="2.5"/>`);
  for (const { keys, us } of curve) {
    parts.push(`<circle cx="${x(keys).toFixed(1)}" cy="${y(us).toFixed(1)}" r="3.5" fill="${colour}"/>`);
  }
  line = Math.max(line + 16, y(curve.at(-1).us) + 4);
  text(WIDTH - RIGHT + 12, line, `${name}: ${curve.at(-1).us}`, ` fill="${colour}"`);
}
text(LEFT, 26, 'CPU time of a call inside a backend, µs, by the number of keys', ' font-weight="bold"');
text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 14, 'keys', ' text-anchor="middle"');

console.log(`<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img"
  font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" fill="${TEXT}">
<title>CPU time of a call by the number of keys</title>
${parts.join('\n')}
</svg>`);
