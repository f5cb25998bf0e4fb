// Which tile goes where: alone, two people, grid, or one large with a strip. Pure: people in, places out.
import type { PersonView } from '../gen/PersonView';
import type { VideoTile } from '../gen/VideoTile';

export type Layout = 'grid' | 'spotlight';

export interface Item {
  /** `sid`, or `sid:screen`. */
  id: string;
  kind: 'camera' | 'screen';
  person: PersonView;
  video: VideoTile | null;
}

export type Plan =
  | { mode: 'alone'; self: Item }
  | { mode: 'duo'; main: Item; corner: Item }
  | { mode: 'grid'; items: Item[] }
  | { mode: 'focus'; main: Item; strip: Item[] };

export interface PlanWish {
  layout: Layout;
  /** The id a person chose to be large; wins over everything. */
  pinned: string | null;
  /** The sid speech made large. */
  spotlight: string | null;
  /** A screen share takes the stage, unless the person chose the grid after it began. */
  screensTakeStage: boolean;
}

/** All items of the people, in their order: a person's screen right after its camera. */
export function itemsOf(people: readonly PersonView[]): Item[] {
  return people.flatMap((person) => {
    const camera: Item = { id: person.sid, kind: 'camera', person, video: person.cameraOn ? person.video : null };
    if (person.screen === null) return [camera];
    return [camera, { id: `${person.sid}:screen`, kind: 'screen' as const, person, video: person.screen }];
  });
}

/** Where everything goes. `null` while nobody is known. */
export function plan(people: readonly PersonView[], wish: PlanWish): Plan | null {
  const items = itemsOf(people);
  const first = items[0];
  if (first === undefined) return null;
  const pinned = items.find((item) => item.id === wish.pinned);
  const screen = items.find((item) => item.kind === 'screen');
  if (items.length === 1) return first.person.isSelf ? { mode: 'alone', self: first } : { mode: 'grid', items };
  if (items.length === 2 && screen === undefined) {
    const other = items.find((item) => !item.person.isSelf) ?? first;
    const main = pinned ?? other;
    const corner = items.find((item) => item !== main) ?? first;
    return { mode: 'duo', main, corner };
  }
  const main = pinned ?? (wish.screensTakeStage ? screen : undefined) ?? large(items, wish);
  if (main === undefined) return { mode: 'grid', items };
  return { mode: 'focus', main, strip: items.filter((item) => item !== main) };
}

function large(items: Item[], wish: PlanWish): Item | undefined {
  if (wish.layout !== 'spotlight') return undefined;
  return items.find((item) => item.id === wish.spotlight) ?? items.find((item) => !item.person.isSelf) ?? items[0];
}
