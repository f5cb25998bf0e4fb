import { describe, expect, test } from 'vitest';
import { plan, type PlanWish } from '../src/lib/plan';
import { Spotlight } from '../src/lib/spotlight';
import { person, SCREEN } from './people';

const wish: PlanWish = { layout: 'grid', pinned: null, spotlight: null, screensTakeStage: true };
const self = person('self');
const [a, b] = [person('a'), person('b')];

describe('where tiles go', () => {
  test('one person is alone', () => {
    expect(plan([self], wish)).toMatchObject({ mode: 'alone' });
    expect(plan([], wish)).toBeNull();
  });

  test('of two people the other fills the stage', () => {
    expect(plan([self, a], wish)).toMatchObject({ mode: 'duo', main: { id: 'a' }, corner: { id: 'self' } });
  });

  test('a pin swaps the two', () => {
    expect(plan([self, a], { ...wish, pinned: 'self' })).toMatchObject({ main: { id: 'self' }, corner: { id: 'a' } });
  });

  test('three people make a grid', () => {
    expect(plan([self, a, b], wish)).toMatchObject({ mode: 'grid', items: [{ id: 'self' }, { id: 'a' }, { id: 'b' }] });
  });

  test('a screen takes the stage, and a pin wins over it', () => {
    const people = [self, { ...a, screen: SCREEN }, b];
    expect(plan(people, wish)).toMatchObject({ mode: 'focus', main: { id: 'a:screen' } });
    expect(plan(people, { ...wish, pinned: 'b' })).toMatchObject({ main: { id: 'b' } });
    expect(plan(people, { ...wish, screensTakeStage: false })).toMatchObject({ mode: 'grid' });
  });

  test('a camera that is off has no picture', () => {
    expect(plan([self, { ...a, cameraOn: false }], wish)).toMatchObject({ main: { video: null } });
  });

  test('in spotlight, who spoke is large, and somebody else than oneself before that', () => {
    const spot: PlanWish = { ...wish, layout: 'spotlight' };
    expect(plan([self, a, b], spot)).toMatchObject({ main: { id: 'a' } });
    expect(plan([self, a, b], { ...spot, spotlight: 'b' })).toMatchObject({ main: { id: 'b' }, strip: [{ id: 'self' }, { id: 'a' }] });
  });
});

describe('the spotlight', () => {
  const talk = (sid: string) => [self, a, b].map((one) => ({ ...one, speaking: one.sid === sid }));

  test('a second of speech promotes, a cough does not', () => {
    const spotlight = new Spotlight();
    expect(spotlight.update(talk('a'), 0)).toBeNull();
    expect(spotlight.update(talk('a'), 900)).toBeNull();
    expect(spotlight.update(talk('a'), 1000)).toBe('a');
  });

  test('a short breath does not start the second anew', () => {
    const spotlight = new Spotlight();
    spotlight.update(talk('a'), 0);
    spotlight.update(talk('nobody'), 400);
    spotlight.update(talk('a'), 600);
    expect(spotlight.update(talk('a'), 1000)).toBe('a');
  });

  test('who speaks keeps it; another takes it after the last word', () => {
    const spotlight = new Spotlight();
    for (let now = 0; now <= 1000; now += 250) spotlight.update(talk('a'), now);
    const both = [self, { ...a, speaking: true }, { ...b, speaking: true }];
    for (let now = 1250; now <= 3000; now += 250) expect(spotlight.update(both, now)).toBe('a');
    expect(spotlight.update(talk('b'), 3750)).toBe('b');
  });

  test('after a minute of silence it goes back, and oneself is never promoted', () => {
    const spotlight = new Spotlight();
    for (let now = 0; now <= 2000; now += 250) spotlight.update(talk('a'), now);
    expect(spotlight.update(talk('nobody'), 61_000)).toBe('a');
    expect(spotlight.update(talk('nobody'), 62_001)).toBeNull();
    for (let now = 70_000; now <= 75_000; now += 250) expect(spotlight.update(talk('self'), now)).toBeNull();
  });
});
