import { describe, expect, test } from 'vitest';
import { FrameSource, parseFrames, type FrameHost, type FrameMessage } from '../src/lib/frames';
import { fitPicture, rgbaOf } from '../src/lib/picture';

/** A message as Rust sends it. */
function message(n: number, tiles: { key: number; width: number; height: number; fill?: number }[]): ArrayBuffer {
  const sizes = tiles.map(({ width, height }) => (width * height * 3) / 2);
  const buffer = new ArrayBuffer(6 + sizes.reduce((sum, size) => sum + 8 + size, 0));
  const view = new DataView(buffer);
  view.setUint32(0, n, true);
  view.setUint16(4, tiles.length, true);
  let at = 6;
  tiles.forEach(({ key, width, height, fill = 0 }, i) => {
    [key, width, height, 0].forEach((value, field) => view.setUint16(at + 2 * field, value, true));
    new Uint8Array(buffer, at + 8, sizes[i]).fill(fill);
    at += 8 + (sizes[i] ?? 0);
  });
  return buffer;
}

describe('frame messages', () => {
  test('every tile is read with its picture', () => {
    const read = parseFrames(message(70_000, [{ key: 1, width: 4, height: 2, fill: 7 }, { key: 65_535, width: 2, height: 2 }]));
    expect(read?.n).toBe(70_000);
    expect(read?.tiles.map(({ key, width, height, data }) => [key, width, height, data.length])).toEqual([
      [1, 4, 2, 12],
      [65_535, 2, 2, 6],
    ]);
    expect(read?.tiles[0]?.data[11]).toBe(7);
  });

  test('an empty message is a message', () => {
    expect(parseFrames(message(1, []))).toEqual({ n: 1, tiles: [] });
  });

  test('whatever is cut short, too long or odd is refused', () => {
    const whole = message(1, [{ key: 1, width: 4, height: 2 }]);
    for (let size = 0; size < whole.byteLength; size += 1) expect(parseFrames(whole.slice(0, size))).toBeNull();
    const long = new Uint8Array(whole.byteLength + 1);
    long.set(new Uint8Array(whole));
    expect(parseFrames(long.buffer)).toBeNull();
    const odd = new Uint8Array(message(1, [{ key: 1, width: 4, height: 2 }]));
    odd[8] = 3;
    odd[10] = 1;
    expect(parseFrames(odd.buffer)).toBeNull();
  });
});

class Socket {
  sent: string[] = [];
  readyState = 1;
  binaryType = '';
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.readyState = 3;
    this.onclose?.();
  }
}

/** A source with its surroundings in the test's hand. */
function started(url: string | null = 'ws://127.0.0.1:1/') {
  const sockets: Socket[] = [];
  const frames: (() => void)[] = [];
  const timers: (() => void)[] = [];
  const drawn: FrameMessage[] = [];
  const host: FrameHost = {
    socket: () => {
      const socket = new Socket();
      sockets.push(socket);
      return socket as unknown as WebSocket;
    },
    nextFrame: (run) => frames.push(run),
    later: (run) => timers.push(run),
  };
  const polled: unknown[] = [];
  const answers: ArrayBuffer[] = [];
  const backend = {
    framesEndpoint: () => Promise.resolve({ url, token: 'secret' }),
    pollFrames: (tiles: unknown) => {
      polled.push(tiles);
      return Promise.resolve(answers.shift() ?? message(0, []));
    },
  };
  const source = new FrameSource(backend, (shown) => drawn.push(shown), host);
  return { source, sockets, frames, timers, drawn, polled, answers };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('the frame socket', () => {
  test('the token comes first, then what is shown', async () => {
    const { source, sockets } = started();
    source.setWishes([{ key: 1, width: 320, height: 180 }]);
    await source.start();
    sockets[0]?.onopen?.();
    expect(sockets[0]?.sent).toEqual(['secret', '{"tiles":[{"key":1,"width":320,"height":180}]}']);
    source.setWishes([]);
    expect(sockets[0]?.sent[2]).toBe('{"tiles":[]}');
  });

  test('a message is acknowledged after it was drawn, not before', async () => {
    const { source, sockets, frames, drawn } = started();
    await source.start();
    sockets[0]?.onopen?.();
    sockets[0]?.onmessage?.({ data: message(5, [{ key: 1, width: 2, height: 2 }]) });
    expect(sockets[0]?.sent).toHaveLength(2);
    frames.shift()?.();
    expect(drawn.map((shown) => shown.n)).toEqual([5]);
    expect(sockets[0]?.sent[2]).toBe('{"ack":5}');
  });

  test('a picture that cannot be drawn does not stop the next one', async () => {
    const { source, sockets, frames, drawn } = started();
    drawn.push = () => {
      throw new Error('no');
    };
    await source.start();
    sockets[0]?.onopen?.();
    sockets[0]?.onmessage?.({ data: message(5, [{ key: 1, width: 2, height: 2 }]) });
    expect(() => frames.shift()?.()).toThrow('no');
    expect(sockets[0]?.sent[2]).toBe('{"ack":5}');
  });

  test('a broken message ends the connection, and another is made with a new token', async () => {
    const { source, sockets, timers } = started();
    await source.start();
    sockets[0]?.onopen?.();
    sockets[0]?.onmessage?.({ data: new ArrayBuffer(3) });
    expect(sockets[0]?.readyState).toBe(3);
    timers.shift()?.();
    await settle();
    sockets[1]?.onopen?.();
    expect(sockets[1]?.sent[0]).toBe('secret');
  });

  test('where sockets fail three times, pictures are asked for instead', async () => {
    const { source, sockets, timers, polled } = started();
    await source.start();
    for (let i = 0; i < 3; i += 1) {
      sockets[i]?.close();
      timers.shift()?.();
      await settle();
    }
    expect(sockets).toHaveLength(3);
    expect(polled.length).toBeGreaterThan(0);
    source.stop();
  });

  test('without a socket pictures are polled, the next after the last was drawn', async () => {
    const { source, frames, drawn, polled, answers } = started(null);
    answers.push(message(1, [{ key: 3, width: 2, height: 2 }]));
    await source.start();
    await settle();
    expect(polled).toHaveLength(1);
    frames.shift()?.();
    await settle();
    expect(drawn).toHaveLength(1);
    expect(polled).toHaveLength(2);
    source.stop();
  });
});

describe('fitting pictures', () => {
  const tile = { x: 10, y: 20, width: 200, height: 100 };

  test('a camera covers its tile and is cropped evenly', () => {
    const { from, to } = fitPicture({ width: 100, height: 100 }, tile, 'cover');
    expect(to).toEqual(tile);
    expect(from).toEqual({ x: 0, y: 25, width: 100, height: 50 });
  });

  test('a screen is shown whole, in the middle', () => {
    const { from, to } = fitPicture({ width: 100, height: 100 }, tile, 'contain');
    expect(from).toEqual({ x: 0, y: 0, width: 100, height: 100 });
    expect(to).toEqual({ x: 60, y: 20, width: 100, height: 100 });
  });

  test('without VideoFrame, colours are right all the same', () => {
    const grey = (y: number) => rgbaOf({ key: 0, width: 2, height: 2, data: new Uint8Array([y, y, y, y, 128, 128]) });
    expect([...grey(235).slice(0, 4)]).toEqual([255, 255, 255, 255]);
    expect([...grey(16).slice(0, 4)]).toEqual([0, 0, 0, 255]);
    const red = rgbaOf({ key: 0, width: 2, height: 2, data: new Uint8Array([81, 81, 81, 81, 90, 240]) });
    expect(red[0]).toBeGreaterThan(245);
    expect(red[1]).toBeLessThan(10);
  });
});
