// One decoded picture, ready for drawImage: a VideoFrame, or a small canvas where VideoFrame is missing.
import type { TileFrame } from './frames';

export interface Picture {
  source: CanvasImageSource;
  width: number;
  height: number;
  close(): void;
}

/** Camera and screen video is BT.601, limited range. */
const COLOUR: VideoColorSpaceInit = { matrix: 'smpte170m', primaries: 'bt709', transfer: 'bt709', fullRange: false };

/** Set once a VideoFrame could not be made: then never tried again. */
let without = typeof VideoFrame !== 'function';

export function pictureOf(frame: TileFrame): Picture {
  if (!without) {
    try {
      return videoFrame(frame);
    } catch {
      without = true;
    }
  }
  const { width, height } = frame;
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d');
  if (context) context.putImageData(new ImageData(rgbaOf(frame), width, height), 0, 0);
  return { source: canvas, width, height, close: () => undefined };
}

function videoFrame({ width, height, data }: TileFrame): Picture {
  const video = new VideoFrame(data, {
    format: 'I420',
    codedWidth: width,
    codedHeight: height,
    timestamp: 0,
    colorSpace: COLOUR,
  });
  return { source: video, width, height, close: () => video.close() };
}

/** I420 (BT.601, limited range) as RGBA. */
export function rgbaOf({ width, height, data }: TileFrame): Uint8ClampedArray<ArrayBuffer> {
  const rgba = new Uint8ClampedArray(width * height * 4);
  const half = width >> 1;
  const u = width * height;
  const v = u + half * (height >> 1);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const chroma = (row >> 1) * half + (column >> 1);
      const y = 1.164 * ((data[row * width + column] ?? 0) - 16);
      const cb = (data[u + chroma] ?? 128) - 128;
      const cr = (data[v + chroma] ?? 128) - 128;
      const at = (row * width + column) * 4;
      rgba[at] = y + 1.596 * cr;
      rgba[at + 1] = y - 0.392 * cb - 0.813 * cr;
      rgba[at + 2] = y + 2.017 * cb;
      rgba[at + 3] = 255;
    }
  }
  return rgba;
}

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The part of the picture to draw, and where: `cover` fills and crops, `contain` shows all. */
export function fitPicture(
  picture: { width: number; height: number },
  tile: Rect,
  fit: 'cover' | 'contain',
): { from: Rect; to: Rect } {
  const whole = { x: 0, y: 0, width: picture.width, height: picture.height };
  const scale = (fit === 'cover' ? Math.max : Math.min)(tile.width / picture.width, tile.height / picture.height);
  if (fit === 'contain') {
    const width = Math.round(picture.width * scale);
    const height = Math.round(picture.height * scale);
    const to = { x: tile.x + Math.round((tile.width - width) / 2), y: tile.y + Math.round((tile.height - height) / 2) };
    return { from: whole, to: { ...to, width, height } };
  }
  const width = tile.width / scale;
  const height = tile.height / scale;
  return { from: { x: (picture.width - width) / 2, y: (picture.height - height) / 2, width, height }, to: tile };
}
