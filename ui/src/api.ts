// The one file that talks to Tauri: commands and events of src-tauri/src/dto.rs, with their types.
import { invoke } from '@tauri-apps/api/core';
import { listen } from '@tauri-apps/api/event';
import { getCurrentWindow } from '@tauri-apps/api/window';
import type { AppState } from './gen/AppState';
import type { DeviceKindDto } from './gen/DeviceKindDto';
import type { FramesEndpoint } from './gen/FramesEndpoint';
import type { HostOptions } from './gen/HostOptions';
import type { LobbyChoice } from './gen/LobbyChoice';
import type { ModerateAction } from './gen/ModerateAction';
import type { SignIn } from './gen/SignIn';
import type { TileWish } from './gen/TileWish';
import type { Toast } from './gen/Toast';
import type { UiError } from './gen/UiError';
import { strings } from './strings';

const run = (command: string, args?: Record<string, unknown>) => invoke<void>(command, args);

export const api = {
  getState: () => invoke<AppState>('get_state'),
  tryACall: () => run('try_a_call'),
  hostStart: (options: HostOptions) => run('host_start', { options }),
  hostStop: () => run('host_stop'),
  signIn: (credentials: SignIn) => run('sign_in', { credentials }),
  signOut: () => run('sign_out'),
  acceptCertificate: (accept: boolean) => run('accept_certificate', { accept }),
  openLobby: (room?: string) => run('open_lobby', { room: room ?? null }),
  leaveLobby: () => run('leave_lobby'),
  setLobby: (choice: Partial<LobbyChoice>) => run('set_lobby', { choice: { ...UNCHANGED, ...choice } }),
  join: () => run('join'),
  leave: () => run('leave'),
  rejoin: () => run('rejoin'),
  dismissSummary: () => run('dismiss_summary'),
  setMicrophone: (on: boolean) => run('set_microphone', { on }),
  setCamera: (on: boolean) => run('set_camera', { on }),
  chooseDevice: (kind: DeviceKindDto, id: string) => run('choose_device', { kind, id }),
  testSpeaker: () => run('test_speaker'),
  sendChat: (text: string) => run('send_chat', { text }),
  raiseHand: (up: boolean) => run('raise_hand', { up }),
  react: (emoji: string) => run('react', { emoji }),
  setVolume: (sid: string, volume: number) => run('set_volume', { sid, volume }),
  moderate: (action: ModerateAction) => run('moderate', { action }),
  framesEndpoint: () => invoke<FramesEndpoint>('frames_endpoint'),
  pollFrames: (tiles: TileWish[]) => invoke<ArrayBuffer>('poll_frames', { tiles }),
  copyText: (text: string) => run('copy_text', { text }),
  diagnostics: () => invoke<string>('diagnostics'),
  closeToTray: () => run('close_to_tray'),
  /** What a toast offers: a command without arguments. */
  runCommand: (command: string) => run(command),
  onState: (handler: (state: AppState) => void) => listen<AppState>('state', (event) => handler(event.payload)),
  onToast: (handler: (toast: Toast) => void) => listen<Toast>('toast', (event) => handler(event.payload)),
  /** The window's frame follows the theme; `null` is the system's. */
  setWindowTheme: (theme: 'dark' | 'light' | null) => getCurrentWindow().setTheme(theme),
};

const UNCHANGED: LobbyChoice = { room: null, nickname: null, quality: null, microphoneOn: null, cameraOn: null };

/** Any failure as a [`UiError`]: commands reject with one, everything else is a bug and is said so. */
export function asUiError(failure: unknown): UiError {
  if (typeof failure === 'object' && failure !== null && 'message' in failure && 'code' in failure) {
    return { next: '', field: null, retryAfter: null, ...(failure as Partial<UiError>) } as UiError;
  }
  const message = failure instanceof Error ? failure.message : String(failure);
  return { code: 'internal', message, next: strings.error.internalNext, field: null, retryAfter: null };
}
