import { describe, expect, test } from 'vitest';
import { bestGrid, pageOf, pageSize } from '../src/lib/grid';

describe('the grid', () => {
  test('five people in a wide window sit in three columns', () => {
    expect(bestGrid(5, 1240, 652, 20)).toMatchObject({ columns: 3, rows: 2 });
  });

  test('five people in a tall window sit in two columns', () => {
    expect(bestGrid(5, 448, 470, 16)).toMatchObject({ columns: 2, rows: 3 });
  });

  test('no arrangement of up to five columns gives larger tiles', () => {
    for (let count = 1; count <= 25; count += 1) {
      for (const [width, height] of [[1240, 652], [448, 470], [900, 900], [1800, 400]] as const) {
        const best = bestGrid(count, width, height, 16);
        for (let columns = 1; columns <= Math.min(count, 5); columns += 1) {
          const rows = Math.ceil(count / columns);
          const w = (width - 16 * (columns - 1)) / columns;
          const h = (height - 16 * (rows - 1)) / rows;
          const area = Math.floor(Math.min(w, (h * 17) / 9)) * Math.floor(Math.min(h, (w * 3) / 4));
          expect(best.width * best.height).toBeGreaterThanOrEqual(area);
        }
      }
    }
  });

  test('tiles keep an aspect between 4:3 and 17:9 and fit the box', () => {
    for (let count = 1; count <= 25; count += 1) {
      const fit = bestGrid(count, 1000, 700, 20);
      expect(fit.width / fit.height).toBeGreaterThan(4 / 3 - 0.02);
      expect(fit.width / fit.height).toBeLessThan(17 / 9 + 0.02);
      expect(fit.columns * fit.width + (fit.columns - 1) * 20).toBeLessThanOrEqual(1000);
      expect(fit.rows * fit.height + (fit.rows - 1) * 20).toBeLessThanOrEqual(700);
    }
  });

  test('a page holds 25 at most, and fewer where tiles would be too small', () => {
    expect(pageSize(60, 1900, 1000, 20)).toBe(25);
    expect(pageSize(60, 208, 170, 16)).toBeLessThanOrEqual(2);
    expect(pageSize(60, 0, 0, 16)).toBe(1);
  });

  test('a page that no longer exists becomes the last one', () => {
    const items = Array.from({ length: 30 }, (_, i) => i);
    expect(pageOf(items, 1, 25)).toEqual({ page: 1, pages: 2, items: [25, 26, 27, 28, 29] });
    expect(pageOf(items.slice(0, 20), 1, 25)).toMatchObject({ page: 0, pages: 1 });
  });
});
