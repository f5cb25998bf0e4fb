// Stands in for @tauri-apps/api in `--mode fake`: the same functions, answered by dev/backend.ts.
// For development and tests in an ordinary browser; never part of the app.
import { backend } from './backend';

export async function invoke<T>(command: string, args: Record<string, unknown> = {}): Promise<T> {
  return structuredClone(await backend.invoke(command, args)) as T;
}

export function listen<T>(name: string, handler: (event: { payload: T }) => void): Promise<() => void> {
  return Promise.resolve(backend.listen(name, (payload) => handler({ payload: payload as T })));
}

export function getCurrentWindow(): { setTheme: (theme: string | null) => Promise<void> } {
  return { setTheme: () => Promise.resolve() };
}
