import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Announcer, list } from '../src/lib/announce';
import { clock, fingerprintGroups, hostOf, initials } from '../src/lib/format';
import { person, SCREEN } from './people';

describe('figures and names', () => {
  test('time reads as minutes, and as hours from an hour on', () => {
    expect(clock(7)).toBe('00:07');
    expect(clock(767.9)).toBe('12:47');
    expect(clock(3727)).toBe('1:02:07');
    expect(clock(-3)).toBe('00:00');
  });

  test('initials come from the user name, else from the nickname', () => {
    expect(initials('Jun', 'jun.park')).toBe('JP');
    expect(initials('Jun Park', 'jp')).toBe('JP');
    expect(initials('', 'publisher1')).toBe('P');
    expect(initials('李 雷', '')).toBe('李雷');
    expect(initials('', '')).toBe('');
  });

  test('a fingerprint is shown in groups of four', () => {
    expect(fingerprintGroups('7f:3a:c2:1e')).toEqual(['7F3A', 'C21E']);
    expect(fingerprintGroups('')).toEqual([]);
  });

  test('a server is named by its host', () => {
    expect(hostOf('https://calls.example:7880/x')).toBe('calls.example:7880');
  });
});

describe('what is announced', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test('names are listed, and many are counted', () => {
    expect(list(['Ife'])).toBe('Ife');
    expect(list(['Ife', 'Jun'])).toBe('Ife and Jun');
    expect(list(['Ife', 'Jun', 'Wren', 'Mara', 'Sam'])).toBe('Ife, Jun and 3 others');
  });

  test('people who come and go together are one sentence', () => {
    const said: string[] = [];
    const announcer = new Announcer((text) => said.push(text));
    announcer.update([person('self'), person('Ife')]);
    announcer.update([person('self'), person('Ife'), person('Jun')]);
    announcer.update([person('self'), person('Jun'), person('Wren')]);
    expect(said).toEqual([]);
    vi.advanceTimersByTime(1500);
    expect(said).toEqual(['Jun and Wren joined. Ife left.']);
  });

  test('hands and screens are told at once, one\'s own are not', () => {
    const said: string[] = [];
    const announcer = new Announcer((text) => said.push(text));
    announcer.update([person('self'), person('Ife')]);
    announcer.update([person('self', { handUpAt: 1 }), person('Ife', { handUpAt: 1, screen: SCREEN })]);
    expect(said).toEqual(['Ife raised a hand.', 'Ife shares a screen.']);
  });
});
