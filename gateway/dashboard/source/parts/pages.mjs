// What the API gives in pages: the first one, and then as many as the person asks for.

import { useState } from 'preact/hooks';

import { useAction, useResource } from './load.mjs';

// For files: the largest page of the API, and how many of them.
const LONG_PAGE = 200;
const PAGES_MAX = 100;

// "read" gives the page after a cursor, or the first one: its items and next_cursor.
export function usePages(read, inputs) {
  const [more, setMore] = useState([]);
  const [cursor, setCursor] = useState(null);
  const first = useResource(async () => {
    const page = await read();

    setMore([]);
    setCursor(page.next_cursor);
    return page;
  }, inputs);
  const reading = useAction(async () => {
    const page = await read(cursor);

    setMore([...more, ...page.items]);
    setCursor(page.next_cursor);
  });

  return { first, more, hasMore: cursor !== null, reading };
}

// All items that "read" gives for a cursor and a size, up to a limit.
export async function readAllPages(read) {
  const items = [];
  let cursor;

  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const page = await read(cursor, LONG_PAGE);

    items.push(...page.items);
    cursor = page.next_cursor;
    if (cursor === null) {
      break;
    }
  }
  return { items, isAll: cursor === null };
}

// The query of a page.
export function pageQuery(cursor, limit) {
  return `limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`;
}
