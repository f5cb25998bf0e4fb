import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { PushToTalk, shortcutFor, type Focus, type Key } from '../src/lib/shortcuts';

const nowhere: Focus = { typing: false, ownsSpace: false, dialog: false };
const key = (name: string, change: Partial<Key> = {}): Key => ({
  key: name, ctrlKey: false, metaKey: false, altKey: false, repeat: false, ...change,
});

describe('shortcuts', () => {
  test('letters act, in either case', () => {
    expect(shortcutFor(key('m'), nowhere)).toEqual({ do: 'microphone' });
    expect(shortcutFor(key('V'), nowhere)).toEqual({ do: 'camera' });
    expect(shortcutFor(key('?'), nowhere)).toEqual({ do: 'help' });
    expect(shortcutFor(key('x'), nowhere)).toBeNull();
  });

  test('a figure chooses a tile', () => {
    expect(shortcutFor(key('3'), nowhere)).toEqual({ do: 'focus', tile: 3 });
    expect(shortcutFor(key('0'), nowhere)).toBeNull();
  });

  test('while typing, letters are text, and Ctrl D and E still act', () => {
    const typing = { ...nowhere, typing: true, ownsSpace: true };
    expect(shortcutFor(key('m'), typing)).toBeNull();
    expect(shortcutFor(key('1'), typing)).toBeNull();
    expect(shortcutFor(key(' '), typing)).toBeNull();
    expect(shortcutFor(key('d', { ctrlKey: true }), typing)).toEqual({ do: 'microphone' });
    expect(shortcutFor(key('e', { metaKey: true }), typing)).toEqual({ do: 'camera' });
  });

  test('Space on a button is the button\'s', () => {
    expect(shortcutFor(key(' '), nowhere)).toEqual({ do: 'talk' });
    expect(shortcutFor(key(' '), { ...nowhere, ownsSpace: true })).toBeNull();
  });

  test('nothing happens behind a dialog, on repeats, or with Alt', () => {
    expect(shortcutFor(key('m'), { ...nowhere, dialog: true })).toBeNull();
    expect(shortcutFor(key('m', { repeat: true }), nowhere)).toBeNull();
    expect(shortcutFor(key('m', { altKey: true }), nowhere)).toBeNull();
  });
});

describe('hold to talk', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const started = () => {
    const calls: boolean[] = [];
    return { calls, talk: new PushToTalk((on) => calls.push(on)) };
  };

  test('speaks while held and mutes 50 ms after release', () => {
    const { calls, talk } = started();
    talk.press(true);
    talk.release();
    vi.advanceTimersByTime(49);
    expect(calls).toEqual([true]);
    vi.advanceTimersByTime(1);
    expect(calls).toEqual([true, false]);
  });

  test('a bounce of the key is not heard', () => {
    const { calls, talk } = started();
    talk.press(true);
    talk.release();
    vi.advanceTimersByTime(20);
    talk.press(false);
    vi.advanceTimersByTime(500);
    expect(calls).toEqual([true]);
  });

  test('somebody who is not muted stays so', () => {
    const { calls, talk } = started();
    talk.press(false);
    talk.release();
    vi.advanceTimersByTime(100);
    expect(calls).toEqual([]);
  });

  test('losing the focus mutes at once, and only once', () => {
    const { calls, talk } = started();
    talk.press(true);
    talk.cancel();
    talk.release();
    vi.advanceTimersByTime(100);
    expect(calls).toEqual([true, false]);
  });
});
