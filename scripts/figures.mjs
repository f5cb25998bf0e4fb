// Prints a call's report (confab --report, confab-bot --report) for people.
import { readFileSync } from 'node:fs';

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const row = (name, value, unit = '') => {
  if (value !== null && value !== undefined) console.log(`  ${name.padEnd(34)} ${typeof value === 'number' ? Math.round(value * 10) / 10 : value}${unit}`);
};
row('room', report.room);
row('room token after', report.join?.tokenMs, ' ms');
row('joined after', report.join?.joinedMs, ' ms');
row('connected after', report.join?.connectedMs, ' ms');
row('first picture after', report.join?.firstFrameMs, ' ms');
row('first sound after', report.join?.firstAudioMs, ' ms');
row('media over', report.network?.protocol);
row('round trip', report.network?.roundTripMs, ' ms');
for (const track of report.received ?? []) {
  const name = `${track.source} of ${track.identity}`;
  row(name, track.video ? `${track.video.frames} frames, ${Math.round(track.video.fps)} fps, ${track.video.size.join('x')}, ${track.video.freezes} freezes` : `${Math.round((track.audio?.level_db ?? track.audio?.levelDb ?? 0))} dB, ${track.audio?.fec ?? 0} by FEC, ${track.audio?.plc ?? 0} concealed`);
  row('  glass to glass, p50 / p95', track.video?.glassToGlassMs && `${Math.round(track.video.glassToGlassMs.p50)} / ${Math.round(track.video.glassToGlassMs.p95)}`, ' ms');
  row('  packets, lost, retransmitted', `${track.packets}, ${track.lost}, ${track.retransmissions}`);
}
for (const track of report.sent ?? []) row(`own ${track.source}`, `${track.frames} frames, ${Math.round(track.kbps)} kbps`);
