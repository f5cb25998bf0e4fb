// The page's own state: the newest snapshot from Rust, toasts, which dialog is open, the theme.
import type { AppState } from './gen/AppState';
import type { Toast } from './gen/Toast';
import type { UiError } from './gen/UiError';
import { api, asUiError } from './api';
import { FrameSource, type FrameMessage } from './lib/frames';
import { Stage } from './lib/stage';
import { strings } from './strings';

export interface Notice {
  id: number;
  text: string;
  kind: 'info' | 'error';
  action: { label: string; run: () => void } | null;
}

export interface Question {
  title: string;
  text: string;
  yes: string;
  act: () => Promise<void>;
}

export type Theme = 'system' | 'dark' | 'light';

/** Screens that only the page knows about; they lie over Rust's until that changes. */
export type LocalPage = 'welcome' | 'signIn' | 'host';

const MOST_NOTICES = 3;

class App {
  state = $state.raw<AppState | null>(null);
  notices = $state.raw<Notice[]>([]);
  page = $state<LocalPage | null>(null);
  dialog = $state<'settings' | 'shortcuts' | 'invite' | null>(null);
  question = $state.raw<Question | null>(null);
  polite = $state('');
  /** Why the sign-in that followed an accepted certificate failed; the sign-in form shows it. */
  refusal = $state.raw<UiError | null>(null);
  theme = $state<Theme>(savedTheme());
  #stage: Stage | null = null;
  #frames: FrameSource | null = null;
  #nextId = 1;

  async start(): Promise<void> {
    // The shell has set the window up for the system's theme: only a choice made here is told.
    if (this.theme !== 'system') this.setTheme(this.theme);
    await api.onState((state) => this.#take(state));
    await api.onToast((toast) => this.#toast(toast));
    await this.refresh();
  }

  /** Reads the state now, rather than waiting for the next event. */
  async refresh(): Promise<void> {
    this.#take(await api.getState());
  }

  #take(state: AppState): void {
    if (this.state !== null && state.screen !== this.state.screen) this.page = null;
    this.state = state;
  }

  /** Runs a command; a failure becomes a notice. True when it worked. */
  async try(command: Promise<unknown>): Promise<boolean> {
    try {
      await command;
      return true;
    } catch (failure) {
      this.fail(asUiError(failure));
      return false;
    }
  }

  fail(error: UiError): void {
    this.notify(`${error.message} ${error.next}`.trim(), 'error', {
      label: strings.copyDiagnostics,
      run: () => void this.copyDiagnostics(error.code),
    });
  }

  notify(text: string, kind: Notice['kind'] = 'info', action: Notice['action'] = null): void {
    const rest = this.notices.filter((notice) => notice.text !== text);
    this.notices = [...rest, { id: this.#nextId++, text, kind, action }].slice(-MOST_NOTICES);
  }

  dismiss(id: number): void {
    this.notices = this.notices.filter((notice) => notice.id !== id);
  }

  #toast(toast: Toast): void {
    const action = toast.action;
    this.notify(
      toast.text,
      toast.kind === 'error' ? 'error' : 'info',
      action && { label: action.label, run: () => void this.try(api.runCommand(action.command)) },
    );
  }

  async copy(text: string, done: string = strings.copied): Promise<void> {
    if (await this.try(api.copyText(text))) this.notify(done);
  }

  async copyDiagnostics(code = ''): Promise<void> {
    await this.try(
      api.diagnostics().then((text) => api.copyText(code === '' ? text : `${strings.error.code(code)}\n${text}`)),
    ).then((worked) => worked && this.notify(strings.diagnosticsCopied));
  }

  /** Says something to those who listen to the page; the same words twice are said twice. */
  say(text: string): void {
    this.polite = this.polite === text ? `${text}\u00a0` : text;
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    localStorage.setItem('theme', theme);
    // The shell names the system's theme where the web view would report a wrong one.
    const named = theme === 'system' ? document.documentElement.dataset['systemTheme'] : theme;
    if (named === undefined) delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = named;
    // The frame around the page is a nicety: a window manager may refuse.
    void Promise.resolve()
      .then(() => api.setWindowTheme(theme === 'system' ? null : theme))
      .catch(() => undefined);
  }

  /** A stage for a screen that shows pictures; only one is on show at a time. */
  openStage(): Stage {
    this.#frames ??= this.#startFrames();
    const frames = this.#frames;
    const stage = new Stage((wishes) => {
      if (this.#stage === stage) frames.setWishes([...wishes, ...this.#hidden(wishes.map((wish) => wish.key))]);
    });
    this.#stage = stage;
    return stage;
  }

  #startFrames(): FrameSource {
    const frames = new FrameSource(api, (message: FrameMessage) => this.#stage?.show(message));
    void frames.start();
    return frames;
  }

  /** Pictures that exist and are not on show: size 0, so that nobody sends them. */
  #hidden(shown: number[]): { key: number; width: number; height: number }[] {
    const people = this.state?.call?.people ?? [];
    const keys = people.flatMap((person) => [person.video?.key, person.screen?.key]);
    return keys
      .filter((key): key is number => key !== undefined && !shown.includes(key))
      .map((key) => ({ key, width: 0, height: 0 }));
  }
}

function savedTheme(): Theme {
  const saved = localStorage.getItem('theme');
  return saved === 'dark' || saved === 'light' ? saved : 'system';
}

export const app = new App();
