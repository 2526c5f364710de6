// How the tiles share the stage.

import type { RefObject } from 'preact';
import { useEffect, useState } from 'preact/hooks';

export interface Layout {
  columns: number;
  /** Of one tile, in CSS pixels. */
  width: number;
  height: number;
}

export const GAP = 10;
/** Smaller tiles tell nothing: then there are pages of them. */
const WIDTH_MIN = 136;
const HEIGHT_MIN = 88;
/** No more are on a page: the server sends at most so many pictures to one person. */
const PAGE_MAX = 25;
/** Tiles are between these shapes, so that neither heads nor sides are cut off. */
const [NARROWEST, WIDEST] = [4 / 3, 2];

/** The number of columns with which pictures of 16:9 come out largest. */
export function fit(count: number, width: number, height: number): Layout {
  let best: Layout = { columns: 1, width: 0, height: 0 };
  let size = 0;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const [w, h] = [(width - GAP * (columns - 1)) / columns, (height - GAP * (rows - 1)) / rows];
    const shown = Math.min(w, (h * 16) / 9);
    if (shown <= size) continue;
    size = shown;
    const tall = count === 1 ? h : Math.min(h, w / NARROWEST);
    best = { columns, height: Math.floor(tall), width: Math.floor(count === 1 ? w : Math.min(w, tall * WIDEST)) };
  }
  return best;
}

/** How many tiles a stage of this size holds, at least one; as many as there may be while its size is not known. */
export function capacity(width: number, height: number): number {
  if (!width || !height) return PAGE_MAX;
  const many = (length: number, least: number) => Math.floor((length + GAP) / (least + GAP));
  return Math.min(PAGE_MAX, Math.max(1, many(width, WIDTH_MIN) * many(height, HEIGHT_MIN)));
}

/** Follows the size of `element`, which has no padding: width and height; zeros before it is shown. */
export function useSize(element: RefObject<HTMLElement | null>): [width: number, height: number] {
  const [size, setSize] = useState<[number, number]>([0, 0]);
  useEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setSize([entry.contentRect.width, entry.contentRect.height]);
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return size;
}

/**
 * Places for everybody: each keeps theirs, newcomers come last. Whoever speaks and is not on the first page, of `room` places,
 * changes places with the last one there who does not speak; `own` stays where it is.
 */
export function arrange(before: readonly string[], present: readonly string[], speakers: readonly string[], room: number, own: string): string[] {
  const order = [...before.filter((id) => present.includes(id)), ...present.filter((id) => !before.includes(id))];
  if (order.length <= room) return order;
  for (const speaker of speakers) {
    const from = order.indexOf(speaker);
    if (from < room) continue;
    const silent = order.slice(0, room).filter((id) => id !== own && !speakers.includes(id)).pop();
    if (silent === undefined) break;
    order[order.indexOf(silent)] = speaker;
    order[from] = silent;
  }
  return order;
}
