// Makes links of addresses in what people write. Only http and https, and never by way of HTML.

import type { ComponentChildren } from 'preact';

const ADDRESS = /https?:\/\/[^\s<>"]+/gi;
/** They end a sentence more often than an address. */
const BEHIND = /[.,:;!?'"»…]+$/;

/** Where an address ends: without the punctuation of its sentence, and without a bracket that it did not open. */
function trimmed(address: string): string {
  for (let now = address; ; ) {
    const next = now.replace(BEHIND, '');
    const closes = next.endsWith(')') && next.split(')').length > next.split('(').length;
    const shorter = closes ? next.slice(0, -1) : next;
    if (shorter === now) return now;
    now = shorter;
  }
}

/** `URL.canParse` is younger than the oldest browsers that this page runs in. */
function isAddress(text: string): boolean {
  try {
    return Boolean(new URL(text));
  } catch {
    return false;
  }
}

export function linked(text: string): ComponentChildren[] {
  const parts: ComponentChildren[] = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = trimmed(match[0]);
    if (!isAddress(address)) continue;
    parts.push(text.slice(end, match.index), <a href={address} target="_blank" rel="noopener noreferrer nofollow">{address}</a>);
    end = match.index + address.length;
  }
  return [...parts, text.slice(end)];
}
