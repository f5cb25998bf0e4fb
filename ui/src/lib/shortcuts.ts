// Keys of the call. Pure: says what a key means; who acts on it is elsewhere.

export type Shortcut =
  | { do: 'microphone' | 'camera' | 'chat' | 'people' | 'hand' | 'layout' | 'fullscreen' | 'help' | 'talk' }
  | { do: 'focus'; tile: number };

export interface Key {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  repeat: boolean;
}

/** Where the focus is when a key goes down. */
export interface Focus {
  /** In a text field: letters are text. */
  typing: boolean;
  /** On a button, a link or in a menu: Space is theirs. */
  ownsSpace: boolean;
  /** A dialog is open: the call behind it does not listen. */
  dialog: boolean;
}

const LETTERS: Record<string, Exclude<Shortcut['do'], 'focus'>> = {
  m: 'microphone',
  v: 'camera',
  c: 'chat',
  p: 'people',
  h: 'hand',
  w: 'layout',
  f: 'fullscreen',
  '?': 'help',
};

/** What `key` asks for, or `null`. */
export function shortcutFor(key: Key, focus: Focus): Shortcut | null {
  if (focus.dialog || key.altKey || key.repeat) return null;
  const letter = key.key.toLowerCase();
  if (key.ctrlKey || key.metaKey) {
    // As in Google Meet; these hold while typing too.
    if (letter === 'd') return { do: 'microphone' };
    if (letter === 'e') return { do: 'camera' };
    return null;
  }
  if (focus.typing) return null;
  if (key.key === ' ') return focus.ownsSpace ? null : { do: 'talk' };
  if (/^[1-9]$/.test(key.key)) return { do: 'focus', tile: Number(key.key) };
  const action = LETTERS[letter];
  return action === undefined ? null : { do: action };
}

/** Reads the focus from the page. */
export function focusOf(target: EventTarget | null): Focus {
  const element = target instanceof Element ? target : null;
  const typing = element?.closest('input:not([type="range"]), textarea, select, [contenteditable="true"]') != null;
  const ownsSpace =
    typing || element?.closest('button, a, summary, input, [role="menu"], [role="menuitem"], [role="radio"]') != null;
  return { typing, ownsSpace, dialog: document.querySelector('dialog[open]') !== null };
}

/** Keys bounce: a release shorter than this is none. */
const RELEASE_MS = 50;

/** Hold to talk: on while held, off 50 ms after release, at once when the window loses the focus. */
export class PushToTalk {
  #timer: ReturnType<typeof setTimeout> | null = null;
  #held = false;

  constructor(private readonly set: (on: boolean) => void) {}

  /** The key went down; `muted` says whether there is anything to hold open. */
  press(muted: boolean): void {
    if (this.#timer !== null) {
      clearTimeout(this.#timer);
      this.#timer = null;
      return;
    }
    if (this.#held || !muted) return;
    this.#held = true;
    this.set(true);
  }

  /** The key came up. */
  release(): void {
    if (!this.#held || this.#timer !== null) return;
    this.#timer = setTimeout(() => this.#end(), RELEASE_MS);
  }

  /** The window lost the focus: nobody would see the key come up. */
  cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#held) this.#end();
  }

  #end(): void {
    this.#timer = null;
    this.#held = false;
    this.set(false);
  }
}
