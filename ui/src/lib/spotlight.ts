// Who is shown large (UI.md rule 10): after 1 s of speech, until 60 s of silence. A pin is decided elsewhere.
import type { PersonView } from '../gen/PersonView';

/** Shorter: coughs take the stage. Longer: answers are missed. */
const PROMOTE_AFTER_MS = 1000;
/** Longer than pauses in speech, shorter than somebody else's turn. */
const BREATH_MS = 700;
const BACK_AFTER_MS = 60_000;

export class Spotlight {
  #since = new Map<string, number>();
  #last = new Map<string, number>();
  #current: string | null = null;
  /** Who spoke at the last update: snapshots come when something changes, so silence between two of them is not heard. */
  #talking = new Set<string>();

  /** The sid to show large, or `null` when nobody has spoken for long enough. */
  update(people: readonly PersonView[], now: number): string | null {
    const others = people.filter((person) => !person.isSelf);
    for (const person of others) {
      if (person.speaking) {
        const goesOn = this.#talking.has(person.sid) || now - (this.#last.get(person.sid) ?? -Infinity) <= BREATH_MS;
        if (!goesOn) this.#since.set(person.sid, now);
        this.#last.set(person.sid, now);
      }
    }
    this.#talking = new Set(others.filter((person) => person.speaking).map((person) => person.sid));
    if (this.#current !== null) {
      const here = others.some((person) => person.sid === this.#current);
      if (!here || now - (this.#last.get(this.#current) ?? 0) > BACK_AFTER_MS) this.#current = null;
    }
    const talks = (sid: string) => now - (this.#last.get(sid) ?? -Infinity) <= BREATH_MS;
    if (this.#current === null || !talks(this.#current)) {
      const next = others
        .filter(({ sid }) => talks(sid) && now - (this.#since.get(sid) ?? now) >= PROMOTE_AFTER_MS)
        .sort((a, b) => (this.#since.get(a.sid) ?? 0) - (this.#since.get(b.sid) ?? 0))[0];
      if (next) this.#current = next.sid;
    }
    return this.#current;
  }
}
