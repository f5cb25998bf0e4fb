// Figures and names as people read them.

/** `12:47`, or `1:02:07` from an hour on. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value: number) => String(value).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${two(m)}:${two(s)}`;
}

/** `10:22` in the person's own way. */
export function timeOfDay(ms: number): string {
  return new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' }).format(ms);
}

/** One or two letters for a round picture: from the user name's parts, else the nickname's. */
export function initials(nickname: string, user: string): string {
  const parts = (name: string) => name.split(/[\s._@-]+/).filter((part) => /\p{L}|\p{N}/u.test(part));
  const from = parts(user).length > 1 ? parts(user) : parts(nickname).length > 0 ? parts(nickname) : parts(user);
  const letters = from.length > 1 ? [from[0], from[from.length - 1]] : from;
  return letters.map((part) => [...(part ?? '')][0] ?? '').join('').toUpperCase();
}

/** A fingerprint in groups of four digits: easier to compare than pairs with colons. */
export function fingerprintGroups(fingerprint: string): string[] {
  return fingerprint.replaceAll(/[^0-9a-fA-F]/g, '').toUpperCase().match(/.{1,4}/g) ?? [];
}

/** `calls.example:7880` of a URL, as people say it. */
export function hostOf(url: string): string {
  return url.replace(/^[a-z]+:\/\//i, '').replace(/\/.*$/, '');
}
