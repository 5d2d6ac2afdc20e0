// chart.mjs SOURCE
//
// Draw the bars on stdin as an SVG.  A line is a panel, a label and a ratio,
// with tabs between; panels stand in the order in which they come, each with a
// scale of its own and a mark at 1.  What is ours is blue: labels that begin
// with "overten_" or "GET ".  SOURCE is a line of text for the foot.
//
// Text and bars have colours that can be read on white and on black, for the
// page behind may be either.

import fs from 'node:fs';

const WIDTH = 760;
const MARGIN = 16;
const BARS_AT = 345;
const BARS_WIDTH = 345;
const LINE = 18;
const BAR = 12;
const TEXT = '#768390';
const [OURS, THEIRS] = ['#3b8eea', '#8b949e'];

const escape = (text) => text.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]);

const panels = new Map();
for (const line of fs.readFileSync(0, 'utf8').split('\n').filter((text) => text !== '')) {
  const [panel, label, ratio] = line.split('\t');
  if (!panels.has(panel)) panels.set(panel, []);
  panels.get(panel).push({ label, ratio: Math.max(0, Number(ratio)) });
}

const parts = [];
let y = MARGIN;

function text(x, content, attributes = '') {
  parts.push(`<text x="${x}" y="${y + 10}"${attributes}>${escape(content)}</text>`);
}

function drawPanel(title, bars) {
  const scale = BARS_WIDTH / Math.max(1, ...bars.map(({ ratio }) => ratio));
  const mark = BARS_AT + scale;

  text(MARGIN, title, ' font-weight="bold"');
  y += LINE + 2;
  const top = y;
  for (const { label, ratio } of bars) {
    const width = Math.max(1, ratio * scale);
    const value = ratio.toFixed(ratio < 0.095 ? 3 : ratio < 9.95 ? 2 : 1);
    const colour = /^(overten_|GET )/.test(label) ? OURS : THEIRS;

    text(BARS_AT - 8, label, ' text-anchor="end"');
    parts.push(`<rect x="${BARS_AT}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${colour}"/>`);
    text(WIDTH - MARGIN, value, ' text-anchor="end"');
    y += LINE;
  }
  parts.push(`<path d="M${mark.toFixed(1)} ${top - 4}V${y - 4}" stroke="${TEXT}" stroke-dasharray="3 3"/>`);
  y += LINE - 4;
}

text(MARGIN, 'overten_auth: what it takes, each panel as a ratio to what its title says; the dashed line is 1');
y += LINE * 1.5;
for (const [title, bars] of panels) drawPanel(title, bars);
text(MARGIN, process.argv[2]);
y += LINE + MARGIN / 2;

console.log(`<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" role="img"
  font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" fill="${TEXT}">
<title>Benchmarks of overten_auth, as ratios</title>
${parts.join('\n')}
</svg>`);
