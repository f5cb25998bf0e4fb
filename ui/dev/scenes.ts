// States to start the fake backend from, one per screen and situation.
import type { AppState } from '../src/gen/AppState';
import type { CallView } from '../src/gen/CallView';
import type { DeviceMenu } from '../src/gen/DeviceMenu';
import type { PersonView } from '../src/gen/PersonView';
import type { SummaryView } from '../src/gen/SummaryView';

const NAMES: [string, string][] = [
  ['Mara', 'mara.lindqvist'],
  ['Ife', 'ife.adeyemi'],
  ['Tomás', 'tomas.rey'],
  ['Jun', 'jun.park'],
  ['Wren', 'wren.hale'],
];

const devices = (...labels: string[]): DeviceMenu => ({
  devices: labels.map((label, i) => ({ id: `${i}`, label })),
  chosen: '0',
  problem: null,
  switching: false,
});
const CAMERAS = devices('Built-in camera', 'USB camera');
const MICROPHONES = devices('Desk microphone', 'Headset');
const SPEAKERS = devices('Headset', 'Built-in speakers');

export function person(index: number, change: Partial<PersonView> = {}): PersonView {
  const [nickname, user] = NAMES[index] ?? [`Person ${index}`, `person.number${index}`];
  return {
    sid: index === 0 ? 'self' : `PA_${index}`,
    nickname,
    user,
    role: 'publisher',
    isSelf: index === 0,
    microphoneOn: true,
    cameraOn: true,
    speaking: false,
    level: 0,
    quality: 'excellent',
    video: { key: index, width: 1280, height: 720, mirror: index === 0, stalled: false },
    screen: null,
    handUpAt: null,
    reaction: null,
    volume: 1,
    reconnecting: false,
    ...change,
  };
}

/** A made-up code: it looks like one and says nothing. */
function qrPath(size: number): string {
  let path = '';
  const finder = (x: number, y: number) => `M${x} ${y}h7v7h-7zM${x + 1} ${y + 1}v5h5v-5zM${x + 2} ${y + 2}h3v3h-3z`;
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const corner = (x < 8 && y < 8) || (x >= size - 8 && y < 8) || (x < 8 && y >= size - 8);
      if (!corner && (x * 7 + y * 13 + x * y) % 5 < 2) path += `M${x} ${y}h1v1h-1z`;
    }
  }
  return path + finder(0, 0) + finder(size - 7, 0) + finder(0, size - 7);
}

export function callWith(count: number): CallView {
  const people = Array.from({ length: count }, (_, index) => person(index));
  if (count >= 5) {
    people[1] = person(1, { speaking: true, level: 0.6 });
    people[2] = person(2, { microphoneOn: false, quality: 'poor' });
    people[3] = person(3, { cameraOn: false, video: null });
    people[4] = person(4, { handUpAt: Date.now() - 60_000 });
  }
  return {
    room: 'Weekly planning',
    phase: 'connected',
    phaseSeconds: 0,
    joinedAt: Date.now() - 767_000,
    people,
    microphone: { on: true, busy: false, problem: null },
    camera: { on: true, busy: false, problem: null },
    cameras: CAMERAS,
    microphones: MICROPHONES,
    speakers: SPEAKERS,
    watchOnly: false,
    moderator: false,
    speakingWhileMuted: false,
    chat: [],
    handUp: false,
    invite: 'https://192.168.1.24:7880/ room weekly-planning',
    inviteQr: { size: 29, path: qrPath(29) },
  };
}

export function summary(): SummaryView {
  const minutes = Array.from({ length: 42 }, (_, i) => ({
    quality: i >= 21 && i <= 23 ? 'poor' : i === 20 || i === 24 ? 'fair' : 'good',
    level: i >= 21 && i <= 23 ? 0.25 + (i - 21) * 0.07 : i === 20 || i === 24 ? 0.6 : 0.78 + ((i * 37) % 20) / 100,
  }));
  return {
    room: 'Weekly planning',
    reason: 'The call goes on.',
    own: true,
    canRejoin: true,
    seconds: 2520,
    people: 5,
    minutes,
    verdict: 'Good, with 3 poor minutes',
    figures: [
      { label: 'Round trip', value: '31 ms' },
      { label: 'Packets lost', value: '0.4 %' },
      { label: 'Sound filled in', value: '0.2 %' },
      { label: 'Picture sent', value: '1280 x 720' },
    ],
  };
}

const base = (): AppState => ({
  screen: 'welcome',
  servers: [],
  session: null,
  hosting: null,
  lobby: {
    room: 'Weekly planning',
    nickname: 'Mara',
    quality: 'MEDIUM',
    microphoneOn: true,
    cameraOn: true,
    cameras: CAMERAS,
    microphones: MICROPHONES,
    speakers: SPEAKERS,
    microphoneLevel: 0,
    preview: { key: 0, width: 1280, height: 720, mirror: true, stalled: false },
    network: { verdict: 'good', reason: '24 ms to the server, nothing lost.' },
    watchOnly: false,
  },
  call: null,
  summary: null,
  certificate: null,
  busy: null,
  version: '0.1.0',
});

const SERVERS = [
  { url: 'https://calls.northside.example', user: 'mara.lindqvist' },
  { url: 'https://192.168.1.24:7880', user: 'mara' },
];
const SESSION = { server: 'https://calls.northside.example', user: 'mara.lindqvist', role: 'publisher', administrator: false, secretsInFile: false };
const PRINT = '7F:3A:C2:1E:90:B4:55:D8:1C:6E:A0:F7:3B:92:E4:D1:08:AF:6C:35:D7:E9:41:B2:F0:C8:2A:17:9E:5D:63:BB';

const chat = [
  ['Wren', 'Is the plan the one from Monday?'],
  ['Tomás', 'Newer. Testing starts in week 2 now.'],
  ['Tomás', 'I moved invites before hosting, so that people can try them while we finish.'],
  ['Jun', 'Week 6 falls on a holiday here. Could we release on the Thursday?'],
  ['Mara', "Thursday works. I'll write it down."],
].map(([from = '', text = ''], i) => ({ id: `c${i}`, from, own: from === 'Mara', text, at: Date.now() - (9 - i) * 60_000 }));

function inCall(call: CallView, change: Partial<CallView> = {}): AppState {
  return { ...base(), session: SESSION, screen: 'call', call: { ...call, ...change } };
}

function watching(): CallView {
  const people = [
    person(0, { role: 'subscriber', video: null, cameraOn: false, microphoneOn: false }),
    person(1, { role: 'moderator' }),
    person(2, { microphoneOn: false }),
    person(4),
  ];
  return { ...callWith(4), people, watchOnly: true, phase: 'reconnecting', phaseSeconds: 34 };
}

const SCENES: Record<string, () => AppState> = {
  welcome: base,
  signin: () => ({ ...base(), screen: 'signIn', servers: SERVERS }),
  'signin-first': () => ({ ...base(), screen: 'signIn' }),
  certificate: () => ({ ...base(), screen: 'signIn', servers: SERVERS, certificate: { server: 'https://192.168.1.24:7880', fingerprint: PRINT, changedFrom: null } }),
  'certificate-changed': () => ({ ...base(), screen: 'signIn', servers: SERVERS, certificate: { server: 'https://192.168.1.24:7880', fingerprint: PRINT, changedFrom: PRINT.replace('7F', '00') } }),
  lobby: () => ({ ...base(), screen: 'lobby', session: SESSION, servers: SERVERS }),
  'lobby-watch': () => ({ ...base(), screen: 'lobby', session: SESSION, lobby: { ...base().lobby, watchOnly: true, preview: null } }),
  'lobby-nocamera': () => ({ ...base(), screen: 'lobby', session: SESSION, lobby: { ...base().lobby, preview: null, cameras: { ...CAMERAS, problem: 'Another program uses the camera. Close it, or join without.' } } }),
  hosting: () => ({ ...base(), session: SESSION, hosting: { url: 'https://192.168.1.24:7880', fingerprint: PRINT, trial: false } }),
  connecting: () => inCall(callWith(1), { phase: 'connecting', people: [], joinedAt: null }),
  alone: () => inCall(callWith(1)),
  duo: () => inCall(callWith(2)),
  call: () => inCall(callWith(5), { chat: chat.slice(0, 2) }),
  many: () => inCall(callWith(30)),
  share: () => {
    const call = callWith(5);
    call.people[2] = person(2, { speaking: true, level: 0.5, screen: { key: 900, width: 1280, height: 720, mirror: false, stalled: false } });
    return inCall(call, { chat, microphone: { on: false, busy: false, problem: null } });
  },
  watching: () => inCall(watching()),
  'watching-duo': () => inCall({ ...watching(), people: watching().people.slice(0, 2), phase: 'connected' }),
  moderator: () => {
    const call = callWith(5);
    call.people[0] = person(0, { role: 'moderator' });
    return inCall(call, { moderator: true });
  },
  muted: () => inCall(callWith(3), { microphone: { on: false, busy: false, problem: null }, speakingWhileMuted: true }),
  summary: () => ({ ...base(), session: SESSION, screen: 'summary', summary: summary() }),
};

export function scene(name: string): AppState {
  return (SCENES[name] ?? base)();
}
