// The stage's one canvas: draws every tile's newest picture behind its element, and tells Rust which sizes are shown.
import type { TileWish } from '../gen/TileWish';
import type { FrameMessage } from './frames';
import { fitPicture, pictureOf, type Picture, type Rect } from './picture';

/** What a tile wants drawn behind it. */
export interface TileOptions {
  /** `null`: no picture. */
  key: number | null;
  fit: 'cover' | 'contain';
  mirror: boolean;
  /** Lies over other tiles: drawn after them. */
  over: boolean;
}

interface Tile extends TileOptions {
  element: HTMLElement;
  rect: Rect;
  radius: number;
  /** The part of it that a scrolling strip shows. */
  shown: Rect;
  /** Around a picture that does not fill the tile. */
  ground: string;
  dirty: boolean;
}

/** Sizes change with every step of a drag or a resize: told to Rust at most this often. */
const WISH_MS = 120;

const NOWHERE: Rect = { x: 0, y: 0, width: 0, height: 0 };

/** A stage: one canvas and the tiles over it. */
export class Stage {
  #canvas: HTMLCanvasElement | null = null;
  #context: CanvasRenderingContext2D | null = null;
  #tiles = new Map<HTMLElement, Tile>();
  #pictures = new Map<number, Picture>();
  #sizes = new ResizeObserver(() => this.invalidate());
  #scheduled = false;
  #wishTimer: ReturnType<typeof setTimeout> | null = null;
  #wishAgain = false;
  #wishes = '';

  constructor(private readonly tell: (wishes: TileWish[]) => void) {}

  /** Svelte action for the canvas. */
  canvas = (element: HTMLCanvasElement): { destroy: () => void } => {
    this.#canvas = element;
    this.#context = element.getContext('2d');
    this.#sizes.observe(element);
    document.addEventListener('visibilitychange', this.#wishSoon);
    this.invalidate();
    return { destroy: () => this.#close() };
  };

  /** Svelte action for a tile. */
  tile = (element: HTMLElement, options: TileOptions): { update: (o: TileOptions) => void; destroy: () => void } => {
    this.#tiles.set(element, { ...options, element, rect: NOWHERE, shown: NOWHERE, radius: 0, ground: '', dirty: true });
    this.#sizes.observe(element);
    this.invalidate();
    return {
      update: (next) => {
        const tile = this.#tiles.get(element);
        if (!tile) return;
        const changed = (Object.keys(next) as (keyof TileOptions)[]).some((name) => tile[name] !== next[name]);
        if (!changed) return;
        Object.assign(tile, next);
        this.invalidate();
      },
      destroy: () => {
        this.#sizes.unobserve(element);
        this.#tiles.delete(element);
        this.invalidate();
      },
    };
  };

  /** Something moved: draw everything anew before the next picture is shown. */
  invalidate = (): void => {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      // Only now: a tile that moves to another place in the page is gone and back within one update.
      this.#forgetUnused();
      this.#measure();
      this.#paint(true);
      this.#wishSoon();
    });
  };

  /** Shows a message's pictures. To be called inside requestAnimationFrame. */
  show(message: FrameMessage): void {
    for (const frame of message.tiles) {
      if (frame.width === 0 || frame.height === 0) continue;
      const tiles = [...this.#tiles.values()].filter((tile) => tile.key === frame.key);
      if (tiles.length === 0) continue;
      this.#pictures.get(frame.key)?.close();
      this.#pictures.set(frame.key, pictureOf(frame));
      for (const tile of tiles) tile.dirty = true;
    }
    const moved = this.#measure();
    this.#paint(moved);
    if (moved) this.#wishSoon();
  }

  /** Reads where the tiles are; true when anything moved. */
  #measure(): boolean {
    const canvas = this.#canvas;
    if (!canvas) return false;
    const ratio = window.devicePixelRatio || 1;
    const origin = canvas.getBoundingClientRect();
    let moved = resize(canvas, Math.round(origin.width * ratio), Math.round(origin.height * ratio));
    const within = (element: Element): Rect => {
      const box = element.getBoundingClientRect();
      const x = Math.round((box.left - origin.left) * ratio);
      const y = Math.round((box.top - origin.top) * ratio);
      return {
        x,
        y,
        width: Math.round((box.right - origin.left) * ratio) - x,
        height: Math.round((box.bottom - origin.top) * ratio) - y,
      };
    };
    for (const tile of this.#tiles.values()) {
      const rect = within(tile.element);
      const scroller = tile.element.closest('[data-clip]');
      const shown = scroller ? common(rect, within(scroller)) : rect;
      if (same(tile.rect, rect) && same(tile.shown, shown)) continue;
      tile.rect = rect;
      tile.shown = shown;
      const style = getComputedStyle(tile.element);
      tile.radius = (parseFloat(style.borderTopLeftRadius) || 0) * ratio;
      tile.ground = style.getPropertyValue('--tile');
      moved = true;
    }
    return moved;
  }

  #paint(all: boolean): void {
    const context = this.#context;
    const canvas = this.#canvas;
    if (!context || !canvas) return;
    if (all) context.clearRect(0, 0, canvas.width, canvas.height);
    const tiles = [...this.#tiles.values()].sort((a, b) => Number(a.over) - Number(b.over));
    const drawn: Rect[] = [];
    for (const tile of tiles) {
      const under = tile.over && drawn.some((rect) => overlap(rect, tile.rect));
      if (!all && !tile.dirty && !under) continue;
      this.#drawTile(context, tile);
      drawn.push(tile.rect);
      tile.dirty = false;
    }
  }

  #drawTile(context: CanvasRenderingContext2D, tile: Tile): void {
    const picture = tile.key === null ? undefined : this.#pictures.get(tile.key);
    const { x, y, width, height } = tile.rect;
    // The page shows initials as long as nothing was drawn.
    tile.element.toggleAttribute('data-pictured', picture !== undefined);
    if (!picture || tile.shown.width <= 0 || tile.shown.height <= 0) return;
    context.save();
    context.beginPath();
    context.roundRect(x, y, width, height, tile.radius);
    context.clip();
    if (tile.shown !== tile.rect) {
      context.beginPath();
      context.rect(tile.shown.x, tile.shown.y, tile.shown.width, tile.shown.height);
      context.clip();
    }
    if (tile.fit === 'contain') {
      context.fillStyle = tile.ground;
      context.fillRect(x, y, width, height);
    }
    const { from, to } = fitPicture(picture, tile.rect, tile.fit);
    if (tile.mirror) {
      context.translate(x * 2 + width, 0);
      context.scale(-1, 1);
    }
    // The whole picture, cut by the clip: WebKitGTK ignores a source rectangle of a VideoFrame and would squeeze it.
    const zoom = to.width / from.width;
    context.drawImage(picture.source, to.x - from.x * zoom, to.y - from.y * zoom, picture.width * zoom, picture.height * zoom);
    context.restore();
  }

  #forgetUnused(): void {
    const used = new Set([...this.#tiles.values()].map((tile) => tile.key));
    for (const [key, picture] of this.#pictures) {
      if (used.has(key)) continue;
      picture.close();
      this.#pictures.delete(key);
    }
  }

  /** The first change is told at once, what follows within a moment together. */
  #wishSoon = (): void => {
    if (this.#wishTimer !== null) {
      this.#wishAgain = true;
      return;
    }
    const wishes = this.#wishesNow();
    const text = JSON.stringify(wishes);
    if (text === this.#wishes) return;
    this.#wishes = text;
    this.tell(wishes);
    this.#wishTimer = setTimeout(() => {
      this.#wishTimer = null;
      if (!this.#wishAgain) return;
      this.#wishAgain = false;
      this.#measure();
      this.#wishSoon();
    }, WISH_MS);
  };

  /** Shown size per key; 0 for what is scrolled out of view, and for all while the window is hidden. */
  #wishesNow(): TileWish[] {
    const canvas = this.#canvas;
    const view = { x: 0, y: 0, width: canvas?.width ?? 0, height: canvas?.height ?? 0 };
    const wishes = new Map<number, TileWish>();
    for (const tile of this.#tiles.values()) {
      if (tile.key === null) continue;
      const seen = !document.hidden && tile.shown.width > 0 && tile.shown.height > 0 && overlap(view, tile.shown);
      const before = wishes.get(tile.key);
      wishes.set(tile.key, {
        key: tile.key,
        width: Math.max(before?.width ?? 0, seen ? tile.rect.width : 0),
        height: Math.max(before?.height ?? 0, seen ? tile.rect.height : 0),
      });
    }
    return [...wishes.values()].sort((a, b) => a.key - b.key);
  }

  #close(): void {
    this.#scheduled = false;
    this.#sizes.disconnect();
    document.removeEventListener('visibilitychange', this.#wishSoon);
    if (this.#wishTimer !== null) clearTimeout(this.#wishTimer);
    for (const picture of this.#pictures.values()) picture.close();
    this.#pictures.clear();
    this.#canvas = null;
    this.#context = null;
    this.tell([]);
  }
}

function overlap(a: Rect, b: Rect): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

function resize(canvas: HTMLCanvasElement, width: number, height: number): boolean {
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}

/** What two boxes have in common; of no size when they are apart. */
function common(a: Rect, b: Rect): Rect {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.max(0, Math.min(a.x + a.width, b.x + b.width) - x);
  const height = Math.max(0, Math.min(a.y + a.height, b.y + b.height) - y);
  return { x, y, width, height };
}

function same(a: Rect, b: Rect): boolean {
  return a.x === b.x && a.y === b.y && a.width === b.width && a.height === b.height;
}
