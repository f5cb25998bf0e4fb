// Pictures from Rust: the frame socket, its message format, and polling where the socket cannot be had.
import type { FramesEndpoint } from '../gen/FramesEndpoint';
import type { TileWish } from '../gen/TileWish';

export interface TileFrame {
  key: number;
  width: number;
  height: number;
  /** I420, a view into the message. */
  data: Uint8Array<ArrayBuffer>;
}

export interface FrameMessage {
  n: number;
  tiles: TileFrame[];
}

const HEAD = 6;
const TILE_HEAD = 8;

/** Reads one message; `null` when it is cut short or inconsistent. */
export function parseFrames(buffer: ArrayBuffer): FrameMessage | null {
  if (buffer.byteLength < HEAD) return null;
  const view = new DataView(buffer);
  const count = view.getUint16(4, true);
  const tiles: TileFrame[] = [];
  let at = HEAD;
  for (let i = 0; i < count; i += 1) {
    if (at + TILE_HEAD > buffer.byteLength) return null;
    const key = view.getUint16(at, true);
    const width = view.getUint16(at + 2, true);
    const height = view.getUint16(at + 4, true);
    const size = (width * height * 3) / 2;
    at += TILE_HEAD;
    if (!Number.isInteger(size) || at + size > buffer.byteLength) return null;
    tiles.push({ key, width, height, data: new Uint8Array(buffer, at, size) });
    at += size;
  }
  return at === buffer.byteLength ? { n: view.getUint32(0, true), tiles } : null;
}

export interface FrameBackend {
  framesEndpoint(): Promise<FramesEndpoint>;
  pollFrames(tiles: TileWish[]): Promise<ArrayBuffer>;
}

/** What [`FrameSource`] needs of the page; replaced in tests. */
export interface FrameHost {
  socket(url: string): WebSocket;
  /** Runs before the next picture is shown. */
  nextFrame(run: () => void): void;
  later(run: () => void, ms: number): void;
}

const PAGE: FrameHost = {
  socket: (url) => new WebSocket(url),
  nextFrame: (run) => void requestAnimationFrame(run),
  later: (run, ms) => void setTimeout(run, ms),
};

/** After a socket fails: not so soon that a dead backend is hammered, not so late that it is seen. */
const RETRY_MS = 500;
/** Between two empty answers when polling. */
const IDLE_MS = 40;
/** So many failed sockets in a row, then polling. */
const SOCKET_TRIES = 3;

/** Delivers messages one after the other: the next is asked for once the last one was drawn. */
export class FrameSource {
  #wishes: TileWish[] = [];
  #socket: WebSocket | null = null;
  #open = false;
  #failures = 0;
  #stopped = false;
  #last: FrameMessage | null = null;

  constructor(
    private readonly backend: FrameBackend,
    private readonly draw: (message: FrameMessage) => void,
    private readonly host: FrameHost = PAGE,
  ) {}

  /** Connects; keeps on connecting until [`FrameSource.stop`]. */
  async start(): Promise<void> {
    if (this.#stopped) return;
    let endpoint: FramesEndpoint;
    try {
      endpoint = await this.backend.framesEndpoint();
    } catch {
      this.host.later(() => void this.start(), RETRY_MS);
      return;
    }
    if (this.#stopped) return;
    if (endpoint.url === null || this.#failures >= SOCKET_TRIES) void this.#poll();
    else this.#connect(endpoint.url, endpoint.token);
  }

  stop(): void {
    this.#stopped = true;
    this.#socket?.close();
  }

  /** What the page shows now. */
  setWishes(tiles: TileWish[]): void {
    this.#wishes = tiles;
    if (this.#open) this.#socket?.send(JSON.stringify({ tiles }));
  }

  #connect(url: string, token: string): void {
    const socket = this.host.socket(url);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      socket.send(token);
      this.#open = true;
      socket.send(JSON.stringify({ tiles: this.#wishes }));
    };
    socket.onmessage = (event: MessageEvent<unknown>) => {
      if (!(event.data instanceof ArrayBuffer)) return;
      this.#failures = 0;
      const message = parseFrames(event.data);
      if (message === null) return socket.close();
      this.#show(message, () => {
        if (socket.readyState === 1) socket.send(JSON.stringify({ ack: message.n }));
      });
    };
    socket.onclose = () => {
      this.#open = false;
      this.#socket = null;
      this.#failures += 1;
      this.host.later(() => void this.start(), RETRY_MS);
    };
  }

  #show(message: FrameMessage, drawn: () => void): void {
    this.#last = message;
    this.host.nextFrame(() => {
      if (this.#stopped) return;
      const newest = this.#last;
      this.#last = null;
      try {
        if (newest !== null) this.draw(newest);
      } finally {
        drawn(); // Whatever happens: the next picture may be fine.
      }
    });
  }

  async #poll(): Promise<void> {
    while (!this.#stopped) {
      let message: FrameMessage | null = null;
      try {
        message = parseFrames(asArrayBuffer(await this.backend.pollFrames(this.#wishes)));
      } catch {
        await this.#wait(RETRY_MS);
      }
      if (message !== null && message.tiles.length > 0) {
        const shown = message;
        await new Promise<void>((resolve) => this.#show(shown, resolve));
      } else {
        await this.#wait(IDLE_MS);
      }
    }
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.host.later(resolve, ms));
  }
}

/** Tauri hands raw answers over as an ArrayBuffer, and as an array of numbers where it has to fall back itself. */
function asArrayBuffer(answer: unknown): ArrayBuffer {
  if (answer instanceof ArrayBuffer) return answer;
  if (answer instanceof Uint8Array) return new Uint8Array(answer).buffer;
  return new Uint8Array(Array.isArray(answer) ? (answer as number[]) : []).buffer;
}
