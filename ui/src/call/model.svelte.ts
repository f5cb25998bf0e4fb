// What this window makes of a call: layout, pin, page, panel. The call itself comes from Rust.
import { api } from '../api';
import { app } from '../app.svelte';
import type { CallView } from '../gen/CallView';
import type { PersonView } from '../gen/PersonView';
import { pageOf, pageSize } from '../lib/grid';
import { TileOrder } from '../lib/order';
import { plan, type Item, type Layout } from '../lib/plan';
import { Spotlight } from '../lib/spotlight';
import { strings } from '../strings';

export type Panel = 'chat' | 'people';

export class CallModel {
  #get: () => CallView;
  #order = new TileOrder();
  #spotlight = new Spotlight();
  #screens = new Set<string>();
  #screensTakeStage = $state(true);
  /** The last message seen; the oldest ones may go. */
  #read = $state<string | null>(null);

  layout = $state<Layout>('grid');
  pinned = $state<string | null>(null);
  wantedPage = $state(0);
  panel = $state<Panel | null>(null);
  fullscreen = $state(false);
  /** Whose volume is being set. */
  volumeOf = $state<string | null>(null);
  /** Of the stage, in CSS pixels. */
  width = $state(0);
  height = $state(0);
  now = $state(Date.now());

  readonly call = $derived.by(() => this.#get());
  readonly gap = $derived(this.width < 760 ? 16 : 20);
  readonly #size = $derived.by(() => pageSize(this.call.people.length, this.width, this.height, this.gap));
  /** In the order to show. */
  readonly people = $derived.by(() => {
    const known = new Map(this.call.people.map((person) => [person.sid, person]));
    const ids = this.#order.update(this.call.people, this.#size, Date.now(), this.wantedPage === 0);
    return ids.flatMap((id) => known.get(id) ?? []);
  });
  readonly #large = $derived.by(() => this.#spotlight.update(this.call.people, this.now));
  readonly plan = $derived.by(() =>
    plan(this.people, {
      layout: this.layout,
      pinned: this.pinned,
      spotlight: this.#large,
      screensTakeStage: this.#screensTakeStage,
    }),
  );
  readonly pages = $derived.by(() => {
    const plan = this.plan;
    return pageOf(plan?.mode === 'grid' ? plan.items : [], this.wantedPage, this.#size);
  });
  readonly unread = $derived.by(() => {
    const seen = this.call.chat.findIndex((message) => message.id === this.#read);
    return this.panel === 'chat' ? 0 : this.call.chat.slice(seen + 1).filter((message) => !message.own).length;
  });
  readonly self = $derived.by(() => this.call.people.find((person) => person.isSelf) ?? null);
  readonly volumePerson = $derived.by(() => this.call.people.find((person) => person.sid === this.volumeOf) ?? null);
  /** Whether there is a choice between grid and spotlight. */
  readonly hasLayouts = $derived.by(() => this.plan?.mode === 'grid' || this.plan?.mode === 'focus');

  constructor(get: () => CallView) {
    this.#get = get;
  }

  /** After each snapshot: a new screen takes the stage, a pin whose tile is gone is none. */
  follow(): void {
    const screens = new Set(this.call.people.filter((person) => person.screen !== null).map((person) => person.sid));
    if ([...screens].some((sid) => !this.#screens.has(sid))) this.#screensTakeStage = true;
    this.#screens = screens;
    const pinned = this.pinned;
    if (pinned === null) return;
    const [sid, screen] = pinned.split(':');
    const person = this.call.people.find((other) => other.sid === sid);
    if (person === undefined || (screen !== undefined && person.screen === null)) this.pinned = null;
  }

  /** A click on a tile: it becomes the main video; the main one gives the stage back. */
  toggleMain(id: string): void {
    const plan = this.plan;
    const isMain = (plan?.mode === 'focus' || plan?.mode === 'duo') && plan.main.id === id;
    if (!isMain) this.pinned = id;
    else if (this.pinned === id) this.pinned = null;
    else if (plan.mode === 'focus') this.setLayout('grid');
  }

  isMain(item: Item): boolean {
    const plan = this.plan;
    return (plan?.mode === 'focus' || plan?.mode === 'duo') && plan.main.id === item.id;
  }

  setLayout(layout: Layout): void {
    this.layout = layout;
    this.pinned = null;
    this.#screensTakeStage = layout === 'spotlight';
  }

  switchLayout(): void {
    if (this.hasLayouts) this.setLayout(this.plan?.mode === 'focus' ? 'grid' : 'spotlight');
  }

  /** The n-th tile as shown, from 1. */
  focusTile(n: number): void {
    const plan = this.plan;
    const shown =
      plan?.mode === 'grid' ? this.pages.items
      : plan?.mode === 'focus' ? [plan.main, ...plan.strip]
      : plan?.mode === 'duo' ? [plan.main, plan.corner]
      : [];
    const item = shown[n - 1];
    if (item && !this.isMain(item)) this.pinned = item.id;
  }

  togglePanel(panel: Panel): void {
    this.panel = this.panel === panel ? null : panel;
    this.markRead();
  }

  /** What is in the open chat counts as read. */
  markRead(): void {
    this.#read = this.call.chat.at(-1)?.id ?? null;
  }

  toggleMicrophone(): void {
    if (this.call.watchOnly || this.call.microphone.busy) return;
    const on = !this.call.microphone.on;
    void app.try(api.setMicrophone(on)).then((worked) => worked && app.say(on ? strings.announce.unmuted : strings.announce.muted));
  }

  toggleCamera(): void {
    if (this.call.watchOnly || this.call.camera.busy) return;
    void app.try(api.setCamera(!this.call.camera.on));
  }

  toggleHand(): void {
    void app.try(api.raiseHand(!this.call.handUp));
  }

  leave(): void {
    void app.try(api.leave());
  }

  copyInvite(): void {
    void app.copy(this.call.invite, strings.call.inviteCopied);
  }

  async toggleFullscreen(): Promise<void> {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen?.();
  }

  remove(person: PersonView): void {
    app.question = {
      title: strings.confirm.removeTitle(person.nickname),
      text: strings.confirm.removeText,
      yes: strings.confirm.remove,
      act: () => api.moderate({ sid: person.sid, action: 'remove' }),
    };
  }

  endForAll(): void {
    app.question = {
      title: strings.confirm.endTitle,
      text: strings.confirm.endText,
      yes: strings.confirm.end,
      act: () => api.moderate({ sid: '', action: 'endForAll' }),
    };
  }
}
