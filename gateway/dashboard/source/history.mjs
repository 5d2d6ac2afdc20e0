// Sums of the history of keys, for charts and tables.  A history can have more than a
// hundred thousand rows, so each of these functions goes through it once.

import { DAY, HOUR } from './times.mjs';

function emptySlots(count) {
  return Array.from({ length: count }, () => ({ accepted: 0, refused: 0 }));
}

// Uses by day for each key, over "days" days until today, from the org's usage.
export function daysByKey(items, days, now = Date.now()) {
  const first = Math.floor(now / DAY) - days + 1;
  const byKey = new Map();

  for (const { key_id: keyId, day, accepted, refused } of items) {
    const index = Math.floor(Date.parse(day) / DAY) - first;

    if (!byKey.has(keyId)) {
      byKey.set(keyId, emptySlots(days));
    }
    if (index >= 0 && index < days) {
      const slot = byKey.get(keyId)[index];

      slot.accepted += accepted;
      slot.refused += refused;
    }
  }
  return byKey;
}

// Uses by hour from "since" to "until", in milliseconds.
export function hours(items, since, until) {
  const first = Math.floor(since / HOUR);
  const slots = emptySlots(Math.floor(until / HOUR) - first + 1)
    .map((slot, index) => ({ ...slot, time: (first + index) * HOUR }));

  for (const { hour, accepted, refused } of items) {
    const slot = slots[Math.floor(Date.parse(hour) / HOUR) - first];

    if (slot !== undefined) {
      slot.accepted += accepted;
      slot.refused += refused;
    }
  }
  return slots;
}

// Uses by client address, the most used first.
export function addresses(items) {
  const byAddress = new Map();

  for (const { client_addr: address, accepted, refused, last_used_at: last } of items) {
    const found = byAddress.get(address) ?? { address, accepted: 0, refused: 0, last };

    found.accepted += accepted;
    found.refused += refused;
    found.last = last > found.last ? last : found.last;
    byAddress.set(address, found);
  }
  return [...byAddress.values()].sort((a, b) => b.accepted + b.refused - a.accepted - a.refused);
}

export function total(slots) {
  return slots.reduce((sum, { accepted, refused }) =>
    ({ accepted: sum.accepted + accepted, refused: sum.refused + refused }), { accepted: 0, refused: 0 });
}
