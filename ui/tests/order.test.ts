import { describe, expect, test } from 'vitest';
import { TileOrder } from '../src/lib/order';
import { person, SCREEN } from './people';

const crowd = (count: number) => [person('self'), ...Array.from({ length: count - 1 }, (_, i) => person(`p${i + 1}`))];

describe('the order of tiles', () => {
  test('self comes first, then screens, then the loudest, then cameras', () => {
    const people = [
      person('off', { cameraOn: false }),
      person('quiet', { speaking: true, level: 0.2 }),
      person('shares', { screen: SCREEN }),
      person('on'),
      person('loud', { speaking: true, level: 0.8 }),
      person('self'),
    ];
    expect(new TileOrder().update(people, 25, 0)).toEqual(['self', 'shares', 'loud', 'quiet', 'on', 'off']);
  });

  test('nobody on the page moves when somebody on it speaks', () => {
    const order = new TileOrder();
    const before = order.update(crowd(4), 25, 0);
    const people = crowd(4).map((one) => (one.sid === 'p3' ? { ...one, speaking: true, level: 1 } : one));
    expect(order.update(people, 25, 1000)).toEqual(before);
  });

  test('a speaker from the next page takes the place of one person, and all others stay', () => {
    const order = new TileOrder();
    const before = order.update(crowd(6), 4, 0);
    const people = crowd(6).map((one) => (one.sid === 'p5' ? { ...one, speaking: true, level: 1 } : one));
    const after = order.update(people, 4, 1000);
    expect(after.slice(0, 4)).toContain('p5');
    expect(after.filter((sid, at) => sid !== before[at])).toHaveLength(2);
    expect(after[0]).toBe('self');
  });

  test('while another page is looked at, nobody is swapped', () => {
    const order = new TileOrder();
    const before = order.update(crowd(6), 4, 0);
    const people = crowd(6).map((one) => (one.sid === 'p5' ? { ...one, speaking: true, level: 1 } : one));
    expect(order.update(people, 4, 1000, false)).toEqual(before);
  });

  test('who leaves is gone, who comes is last', () => {
    const order = new TileOrder();
    order.update(crowd(4), 25, 0);
    const people = [person('new'), ...crowd(4).filter((one) => one.sid !== 'p1')];
    expect(order.update(people, 25, 10)).toEqual(['self', 'p2', 'p3', 'new']);
  });
});
