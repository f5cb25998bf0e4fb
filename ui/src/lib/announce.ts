// What changed in the call, in words for those who listen: joins and leaves in batches, the rest at once.
import type { PersonView } from '../gen/PersonView';
import { strings } from '../strings';

/** Long enough that a class arriving together is one sentence. */
const BATCH_MS = 1500;

export class Announcer {
  #before: Map<string, PersonView> | null = null;
  #joined = new Set<string>();
  #left = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly say: (text: string) => void) {}

  /** Compares with the last call; the first one announces nothing. */
  update(people: readonly PersonView[]): void {
    const now = new Map(people.map((person) => [person.sid, person]));
    const before = this.#before;
    this.#before = now;
    if (before === null) return;
    for (const [sid, person] of now) {
      const old = before.get(sid);
      if (old === undefined) this.#joined.add(person.nickname);
      else if (!person.isSelf) this.#changes(old, person);
    }
    for (const [sid, person] of before) if (!now.has(sid)) this.#left.add(person.nickname);
    if (this.#joined.size + this.#left.size > 0) this.#timer ??= setTimeout(() => this.#flush(), BATCH_MS);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #changes(old: PersonView, person: PersonView): void {
    if (old.handUpAt === null && person.handUpAt !== null) this.say(strings.announce.hand(person.nickname));
    if (old.screen === null && person.screen !== null) this.say(strings.announce.screen(person.nickname));
  }

  #flush(): void {
    this.#timer = null;
    const parts = [];
    if (this.#joined.size > 0) parts.push(strings.announce.joined(list([...this.#joined])));
    if (this.#left.size > 0) parts.push(strings.announce.left(list([...this.#left])));
    this.#joined.clear();
    this.#left.clear();
    this.say(parts.join(' '));
  }
}

/** "Ife", "Ife and Jun", "Ife, Jun and 3 others". */
export function list(names: string[]): string {
  const { and, others } = strings.announce;
  if (names.length <= 1) return names[0] ?? '';
  if (names.length <= 3) return `${names.slice(0, -1).join(', ')} ${and} ${names[names.length - 1] ?? ''}`;
  return `${names.slice(0, 2).join(', ')} ${and} ${others(names.length - 2)}`;
}
