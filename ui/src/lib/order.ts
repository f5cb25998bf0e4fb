// Who is where (UI.md rule 9): self, loudest, recent speakers, camera on, join time.
// People swap onto the visible page; within it nobody is ever moved.
import type { PersonView } from '../gen/PersonView';

export class TileOrder {
  #ids: string[] = [];
  #lastSpoke = new Map<string, number>();
  #arrived = new Map<string, number>();
  #count = 0;

  /** The order to show now. `size` is how many fit the first page; `swap` is false while another page is looked at. */
  update(people: readonly PersonView[], size: number, now: number, swap = true): string[] {
    const known = new Map(people.map((person) => [person.sid, person]));
    for (const person of people) {
      if (!this.#arrived.has(person.sid)) this.#arrived.set(person.sid, this.#count++);
      if (person.speaking) this.#lastSpoke.set(person.sid, now);
    }
    const ranked = [...people].sort((a, b) => this.#compare(a, b));
    const kept = this.#ids.filter((id) => known.has(id));
    const fresh = ranked.map((person) => person.sid).filter((id) => !kept.includes(id));
    this.#ids = [...kept, ...fresh];
    this.#keepSelfFirst(known);
    if (swap) this.#swapOnto(ranked.slice(0, size).map((person) => person.sid), size, ranked);
    for (const id of [...this.#arrived.keys()]) if (!known.has(id)) this.#forget(id);
    return [...this.#ids];
  }

  #keepSelfFirst(known: Map<string, PersonView>): void {
    const at = this.#ids.findIndex((id) => known.get(id)?.isSelf);
    if (at > 0) this.#ids.unshift(...this.#ids.splice(at, 1));
  }

  /** Each wanted person off the page takes the place of the least wanted one on it. */
  #swapOnto(wanted: string[], size: number, ranked: PersonView[]): void {
    const rank = new Map(ranked.map((person, index) => [person.sid, index]));
    const leaving = this.#ids
      .slice(0, size)
      .filter((id) => !wanted.includes(id))
      .sort((a, b) => (rank.get(b) ?? 0) - (rank.get(a) ?? 0));
    for (const id of wanted) {
      const from = this.#ids.indexOf(id);
      if (from < size) continue;
      const other = leaving.shift();
      if (other === undefined) return;
      const to = this.#ids.indexOf(other);
      this.#ids[to] = id;
      this.#ids[from] = other;
    }
  }

  #compare(a: PersonView, b: PersonView): number {
    return (
      Number(b.isSelf) - Number(a.isSelf) ||
      Number(b.screen !== null) - Number(a.screen !== null) ||
      Number(b.speaking) - Number(a.speaking) ||
      (a.speaking && b.speaking ? b.level - a.level : 0) ||
      (this.#lastSpoke.get(b.sid) ?? 0) - (this.#lastSpoke.get(a.sid) ?? 0) ||
      Number(b.cameraOn) - Number(a.cameraOn) ||
      (this.#arrived.get(a.sid) ?? 0) - (this.#arrived.get(b.sid) ?? 0)
    );
  }

  #forget(id: string): void {
    this.#arrived.delete(id);
    this.#lastSpoke.delete(id);
  }
}
