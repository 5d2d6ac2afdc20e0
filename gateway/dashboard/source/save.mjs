// Files that a person downloads; they are made here, and no server gets to see them.

// A cell of a table that is opened in a spreadsheet must not begin a formula; some take
// the wide forms of these characters, too.  A number is none, also if it is below 0.
function cell(value) {
  const text = typeof value !== 'number' && /^[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]/.test(value) ? `'${value}` : String(value ?? '');

  return `"${text.replaceAll('"', '""')}"`;
}

// Rows as CSV (RFC 4180), the first of which has the names of the columns.
export function csv(rows) {
  return rows.map((row) => row.map(cell).join(',')).join('\r\n').concat('\r\n');
}

export function save(name, text, type = 'text/plain') {
  const link = document.createElement('a');

  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  // The browser has to read it first.
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
