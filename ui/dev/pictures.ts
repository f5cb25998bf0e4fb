// Moving pictures for the fake backend: people drawn on a small canvas, turned into I420.

interface Look {
  wall: [string, string];
  skin: string;
  hair: string;
  shirt: string;
}

const LOOKS: Look[] = [
  { wall: ['#b39a82', '#7c6552'], skin: '#e7b897', hair: '#4a2f22', shirt: '#2f4f5e' },
  { wall: ['#8fa3ad', '#55666f'], skin: '#7a4a30', hair: '#1d1512', shirt: '#d9a441' },
  { wall: ['#dcd5c8', '#a9a191'], skin: '#cf9a72', hair: '#241c1a', shirt: '#6b7f5b' },
  { wall: ['#4c5468', '#2b303d'], skin: '#f0c9ab', hair: '#b5652f', shirt: '#7a3b4a' },
  { wall: ['#8ba29b', '#5d746d'], skin: '#d9a982', hair: '#141416', shirt: '#e4e0d8' },
];

type Context = OffscreenCanvasRenderingContext2D;

function paintPerson(context: Context, width: number, height: number, key: number, at: number): void {
  const look = LOOKS[key % LOOKS.length] as Look;
  const wall = context.createLinearGradient(0, 0, width, height);
  wall.addColorStop(0, look.wall[0]);
  wall.addColorStop(1, look.wall[1]);
  context.fillStyle = wall;
  context.fillRect(0, 0, width, height);
  const unit = height / 180;
  context.save();
  context.translate(width / 2 + Math.sin(at / 900 + key) * 3 * unit, height);
  context.scale(unit, unit);
  const blob = (colour: string, x: number, y: number, rx: number, ry: number) => {
    context.fillStyle = colour;
    context.beginPath();
    context.ellipse(x, y, rx, ry, 0, 0, Math.PI * 2);
    context.fill();
  };
  blob(look.hair, 0, -104, 36, 42);
  blob(look.shirt, 0, 8, 84, 56);
  blob(look.skin, 0, -48, 14, 22);
  blob(look.skin, 0, -92, 27, 34);
  blob(look.hair, 0, -124, 30, 20);
  context.restore();
}

function paintScreen(context: Context, width: number, height: number): void {
  context.fillStyle = '#fbfaf7';
  context.fillRect(0, 0, width, height);
  context.fillStyle = '#23262b';
  context.font = `600 ${height / 14}px sans-serif`;
  context.fillText('Autumn release', width * 0.06, height * 0.16);
  const colours = ['#33658a', '#86a873', '#e0a458', '#c9ccd1', '#b5544a'];
  colours.forEach((colour, row) => {
    context.fillStyle = colour;
    context.fillRect(width * (0.24 + row * 0.1), height * (0.32 + row * 0.12), width * 0.28, height * 0.065);
  });
}

/** RGBA as I420, BT.601 limited range. */
function i420(rgba: Uint8ClampedArray, width: number, height: number): Uint8Array {
  const out = new Uint8Array((width * height * 3) / 2);
  const u = width * height;
  const v = u + u / 4;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = (y * width + x) * 4;
      const [r, g, b] = [rgba[at] ?? 0, rgba[at + 1] ?? 0, rgba[at + 2] ?? 0];
      out[y * width + x] = 16 + 0.257 * r + 0.504 * g + 0.098 * b;
      if (x % 2 === 0 && y % 2 === 0) {
        const chroma = (y / 2) * (width / 2) + x / 2;
        out[u + chroma] = 128 - 0.148 * r - 0.291 * g + 0.439 * b;
        out[v + chroma] = 128 + 0.439 * r - 0.368 * g - 0.071 * b;
      }
    }
  }
  return out;
}

/** One frame message with a new picture for every key, scaled to what is shown. */
export function frameMessage(n: number, tiles: { key: number; width: number; height: number; screen: boolean }[]): ArrayBuffer {
  const even = (value: number) => Math.max(2, Math.round(value / 2) * 2);
  const parts = tiles.map((tile) => {
    const across = Math.min(640, Math.max(tile.width, (tile.height * 16) / 9));
    const [width, height] = [even(across), even((across * 9) / 16)];
    const context = new OffscreenCanvas(width, height).getContext('2d') as Context;
    if (tile.screen) paintScreen(context, width, height);
    else paintPerson(context, width, height, tile.key, performance.now());
    return { key: tile.key, width, height, data: i420(context.getImageData(0, 0, width, height).data, width, height) };
  });
  const buffer = new ArrayBuffer(6 + parts.reduce((sum, part) => sum + 8 + part.data.length, 0));
  const view = new DataView(buffer);
  view.setUint32(0, n, true);
  view.setUint16(4, parts.length, true);
  let at = 6;
  for (const part of parts) {
    [part.key, part.width, part.height, 0].forEach((value, i) => view.setUint16(at + i * 2, value, true));
    new Uint8Array(buffer, at + 8).set(part.data);
    at += 8 + part.data.length;
  }
  return buffer;
}
