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
/** Below this height a tile tells nothing: then the stage scrolls. */
const HEIGHT_MIN = 90;
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
    const tall = Math.max(HEIGHT_MIN, count === 1 ? h : Math.min(h, w / NARROWEST));
    best = { columns, height: Math.floor(tall), width: Math.floor(count === 1 ? w : Math.min(w, tall * WIDEST)) };
  }
  return best;
}

/** Follows the size of `stage`, an element without padding. */
export function useLayout(stage: RefObject<HTMLElement | null>, count: number): Layout {
  const [[width, height], setSize] = useState([0, 0]);
  useEffect(() => {
    if (!stage.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setSize([entry.contentRect.width, entry.contentRect.height]);
    });
    observer.observe(stage.current);
    return () => observer.disconnect();
  }, []);
  return fit(count, width, height);
}
