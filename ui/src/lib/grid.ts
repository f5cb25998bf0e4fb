// Grid maths (UI.md rule 6): how many columns make the tiles largest. Knows sizes only, no people.

/** The narrowest and the widest a tile may get; 16:9 lies between. */
const NARROWEST = 4 / 3;
const WIDEST = 17 / 9;
const MOST_COLUMNS = 5;
/** No more tiles a page than this, however large the window. */
export const PAGE_LIMIT = 25;
/** Below this a tile shows nothing useful: fewer a page instead. */
const LEAST_WIDTH = 112;
const LEAST_HEIGHT = 72;

export interface GridFit {
  columns: number;
  rows: number;
  /** Of one tile, in CSS pixels. */
  width: number;
  height: number;
}

/** A tile's size in `columns` by `rows`, as large as its aspect allows. */
function tileIn(columns: number, rows: number, width: number, height: number, gap: number): GridFit {
  const most = { width: (width - gap * (columns - 1)) / columns, height: (height - gap * (rows - 1)) / rows };
  return {
    columns,
    rows,
    width: Math.max(0, Math.floor(Math.min(most.width, most.height * WIDEST))),
    height: Math.max(0, Math.floor(Math.min(most.height, most.width / NARROWEST))),
  };
}

/** The columns and rows that give `count` tiles the largest area in a box. */
export function bestGrid(count: number, width: number, height: number, gap: number): GridFit {
  let best: GridFit | null = null;
  for (let columns = 1; columns <= Math.min(Math.max(count, 1), MOST_COLUMNS); columns += 1) {
    const fit = tileIn(columns, Math.ceil(Math.max(count, 1) / columns), width, height, gap);
    if (best === null || fit.width * fit.height > best.width * best.height) best = fit;
  }
  return best ?? tileIn(1, 1, width, height, gap);
}

/** How many tiles fit a page: 25 at most, fewer where they would be too small to see. */
export function pageSize(count: number, width: number, height: number, gap: number): number {
  for (let size = Math.min(count, PAGE_LIMIT); size > 1; size -= 1) {
    const fit = bestGrid(size, width, height, gap);
    if (fit.width >= LEAST_WIDTH && fit.height >= LEAST_HEIGHT) return size;
  }
  return 1;
}

/** Page `page` of `items`, with `page` brought into range. */
export function pageOf<T>(items: readonly T[], page: number, size: number): { page: number; pages: number; items: T[] } {
  const pages = Math.max(1, Math.ceil(items.length / Math.max(1, size)));
  const at = Math.min(Math.max(0, page), pages - 1);
  return { page: at, pages, items: items.slice(at * size, (at + 1) * size) };
}
