// A backend made up for development: the commands of dto.rs over a state in memory. `?scene=` picks a state to start from.
import type { AppState } from '../src/gen/AppState';
import type { CallView } from '../src/gen/CallView';
import type { DeviceKindDto } from '../src/gen/DeviceKindDto';
import type { ModerateAction } from '../src/gen/ModerateAction';
import type { TileWish } from '../src/gen/TileWish';
import { frameMessage } from './pictures';
import { callWith, person, scene, summary } from './scenes';

type Args = Record<string, unknown>;
type Handler = (payload: unknown) => void;

class Backend {
  state: AppState;
  /** What the page asked pictures of last. */
  wishes: TileWish[] = [];
  #handlers = new Map<string, Handler[]>();
  #frame = 0;
  #wrong = 0;

  constructor() {
    this.state = scene(new URLSearchParams(location.search).get('scene') ?? 'welcome');
    setInterval(() => this.#tick(), 100);
  }

  listen(name: string, handler: Handler): () => void {
    const all = this.#handlers.get(name) ?? [];
    this.#handlers.set(name, [...all, handler]);
    return () => undefined;
  }

  emit(name: string, payload: unknown): void {
    for (const handler of this.#handlers.get(name) ?? []) handler(structuredClone(payload));
  }

  /** Changes the state and sends it. */
  patch(change: Partial<AppState>): void {
    this.state = { ...this.state, ...change };
    this.emit('state', this.state);
  }

  patchCall(change: Partial<CallView>): void {
    if (this.state.call) this.patch({ call: { ...this.state.call, ...change } });
  }

  invoke(command: string, args: Args): Promise<unknown> {
    const run = this.#commands[command];
    return run ? Promise.resolve(run(args)) : Promise.reject(new Error(`no command ${command}`));
  }

  #tick(): void {
    if (this.state.screen !== 'lobby') return;
    const microphoneLevel = this.state.lobby.microphoneOn ? 0.35 + 0.15 * Math.sin(performance.now() / 150) : 0;
    this.patch({ lobby: { ...this.state.lobby, microphoneLevel } });
  }

  #commands: Record<string, (args: Args) => unknown> = {
    get_state: () => this.state,
    try_a_call: () => this.#enter(callWith(2)),
    host_start: (args) => this.#host(args['options'] as { public: boolean }),
    host_stop: () => this.patch({ hosting: null }),
    sign_in: (args) => this.#signIn(args['credentials'] as { server: string; user: string; password: string }),
    sign_out: () => this.patch({ session: null, screen: 'signIn' }),
    accept_certificate: (args) => this.#certificate(args['accept'] === true),
    open_lobby: () => this.patch({ screen: 'lobby' }),
    leave_lobby: () => this.patch({ screen: 'signIn' }),
    set_lobby: (args) => {
      const set = Object.entries(args['choice'] as object).filter(([, value]) => value !== null);
      this.patch({ lobby: { ...this.state.lobby, ...Object.fromEntries(set) } });
    },
    join: () => {
      if (this.state.lobby.room === 'full') throw failure('room_full', 'The room is full.', 'Wait until someone leaves, or choose another room.', 'room');
      return this.#enter({ ...callWith(5), room: this.state.lobby.room });
    },
    leave: () => this.patch({ call: null, summary: summary(), screen: 'summary' }),
    rejoin: () => this.#enter(callWith(5)),
    dismiss_summary: () => this.patch({ summary: null, screen: 'lobby' }),
    set_microphone: (args) => this.#own('microphone', args['on'] === true),
    set_camera: (args) => this.#own('camera', args['on'] === true),
    choose_device: (args) => this.#choose(args['kind'] as DeviceKindDto, String(args['id'])),
    test_speaker: () => this.emit('toast', { text: 'Playing a test sound', kind: 'info', action: null }),
    send_chat: (args) => this.#chat(String(args['text'])),
    raise_hand: (args) => this.patchCall({ handUp: args['up'] === true }),
    react: (args) => this.#person('self', { reaction: { emoji: String(args['emoji']), at: Date.now() } }),
    set_volume: (args) => this.#person(String(args['sid']), { volume: Number(args['volume']) }),
    moderate: (args) => this.#moderate(args['action'] as ModerateAction),
    frames_endpoint: () => ({ url: null, token: '' }),
    poll_frames: (args) => this.#frames(args['tiles'] as TileWish[]),
    copy_text: () => undefined,
    diagnostics: () => 'Confab 0.1.0, made up',
    close_to_tray: () => undefined,
  };

  #enter(call: CallView): void {
    this.patch({ call, summary: null, screen: 'call' });
  }

  async #host(options: { public: boolean }): Promise<void> {
    await pause(300);
    this.patch({ hosting: { url: 'https://192.168.1.24:7880', fingerprint: options.public ? PRINT : null, trial: false } });
  }

  async #signIn(form: { server: string; user: string; password: string }): Promise<void> {
    await pause(150);
    if (form.server.includes('nowhere')) throw failure('unreachable', 'The server does not answer.', 'Check its address and your network, then try again.', 'server');
    if (form.server.includes('new') && !this.#accepted) {
      this.#form = form;
      this.patch({ certificate: { server: form.server, fingerprint: PRINT, changedFrom: null } });
      throw failure('tls_unknown', 'The certificate is not known.', 'Compare its fingerprint.', null);
    }
    if (form.password !== 'right') {
      this.#wrong += 1;
      if (this.#wrong > 5) throw failure('too_many_attempts', 'Too many attempts.', 'Wait, then try again.', null, 30);
      throw failure('wrong_credentials', 'The user name or the password is wrong.', 'Check both and try again.', 'password');
    }
    this.patch({ session: { server: form.server, user: form.user, role: 'publisher', administrator: false, secretsInFile: false }, screen: 'lobby' });
  }

  #accepted = false;
  #form: { server: string; user: string; password: string } | null = null;

  async #certificate(accept: boolean): Promise<void> {
    this.#accepted = accept;
    this.patch({ certificate: null });
    if (accept && this.#form) await this.#signIn(this.#form);
  }

  async #own(device: 'microphone' | 'camera', on: boolean): Promise<void> {
    this.patchCall({ [device]: { on: !on, busy: true, problem: null } });
    await pause(80);
    this.patchCall({ [device]: { on, busy: false, problem: null } });
    this.#person('self', device === 'microphone' ? { microphoneOn: on } : { cameraOn: on });
  }

  #person(sid: string, change: object): void {
    const people = this.state.call?.people.map((one) => (one.sid === sid ? { ...one, ...change } : one));
    if (people) this.patchCall({ people });
  }

  #choose(kind: DeviceKindDto, id: string): void {
    const name = `${kind}s` as 'cameras' | 'microphones' | 'speakers';
    this.patch({ lobby: { ...this.state.lobby, [name]: { ...this.state.lobby[name], chosen: id } } });
    if (this.state.call) this.patchCall({ [name]: { ...this.state.call[name], chosen: id } });
  }

  #chat(text: string): void {
    const chat = this.state.call?.chat ?? [];
    this.patchCall({ chat: [...chat, { id: `m${chat.length}`, from: 'Mara', own: true, text, at: Date.now() }] });
  }

  #moderate({ sid, action }: ModerateAction): void {
    const people = this.state.call?.people ?? [];
    if (action === 'remove') this.patchCall({ people: people.filter((one) => one.sid !== sid) });
    if (action === 'mute') this.#person(sid, { microphoneOn: false });
    if (action === 'muteAll') this.patchCall({ people: people.map((one) => (one.isSelf ? one : { ...one, microphoneOn: false })) });
    if (action === 'endForAll') this.patch({ call: null, summary: summary(), screen: 'summary' });
  }

  async #frames(tiles: TileWish[]): Promise<ArrayBuffer> {
    await pause(120);
    this.wishes = tiles;
    const shown = tiles.filter((tile) => tile.width > 0);
    this.#frame += 1;
    return frameMessage(this.#frame, shown.map((tile) => ({ ...tile, screen: tile.key >= 900 })));
  }
}

const PRINT = '7F:3A:C2:1E:90:B4:55:D8:1C:6E:A0:F7:3B:92:E4:D1:08:AF:6C:35:D7:E9:41:B2:F0:C8:2A:17:9E:5D:63:BB';
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function failure(code: string, message: string, next: string, field: string | null, retryAfter: number | null = null): object {
  return { code, message, next, field, retryAfter };
}

export const backend = new Backend();
Object.assign(window, { backend, person });
