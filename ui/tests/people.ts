// People for the tests, with what a test cares about.
import type { PersonView } from '../src/gen/PersonView';

export function person(sid: string, change: Partial<PersonView> = {}): PersonView {
  return {
    sid,
    nickname: sid,
    user: `${sid}.user`,
    role: 'publisher',
    isSelf: sid === 'self',
    microphoneOn: true,
    cameraOn: true,
    speaking: false,
    level: 0,
    quality: 'good',
    video: { key: 1, width: 640, height: 360, mirror: false, stalled: false },
    screen: null,
    handUpAt: null,
    reaction: null,
    volume: 1,
    reconnecting: false,
    ...change,
  };
}

export const SCREEN = { key: 9, width: 1280, height: 720, mirror: false, stalled: false };
