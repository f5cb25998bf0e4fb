// Svelte action: one tab stop for a group of buttons, arrow keys inside (WAI-ARIA toolbar and radio group).

export function toolbar(group: HTMLElement): { destroy: () => void } {
  let current: HTMLElement | null = null;
  const all = () =>
    [...group.querySelectorAll<HTMLElement>('button')].filter(
      (button) => button.closest('[role="menu"]') === null && button.getClientRects().length > 0,
    );

  function settle(): void {
    const buttons = all();
    const chosen = buttons.find((button) => button.getAttribute('aria-checked') === 'true' && button.role === 'radio');
    if (chosen && !group.contains(document.activeElement)) current = chosen;
    if (current === null || !buttons.includes(current)) current = chosen ?? buttons[0] ?? null;
    for (const button of buttons) button.tabIndex = button === current ? 0 : -1;
  }

  function focused(event: FocusEvent): void {
    const button = (event.target as Element).closest<HTMLElement>('button');
    if (button === null || button.closest('[role="menu"]') !== null) return;
    current = button;
    settle();
  }

  function keys(event: KeyboardEvent): void {
    if (event.defaultPrevented || (event.target as Element).closest('[role="menu"]') !== null) return;
    const buttons = all();
    const at = buttons.indexOf(document.activeElement as HTMLElement);
    if (at < 0) return;
    const ahead = getComputedStyle(group).direction === 'rtl' ? -1 : 1;
    const moves: Record<string, number> = {
      ArrowRight: (at + ahead + buttons.length) % buttons.length,
      ArrowLeft: (at - ahead + buttons.length) % buttons.length,
      Home: 0,
      End: buttons.length - 1,
    };
    const to = moves[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = buttons[to];
    next?.focus();
    if (next?.role === 'radio') next.click();
  }

  const changes = new MutationObserver(settle);
  changes.observe(group, { childList: true, subtree: true, attributeFilter: ['aria-checked'] });
  const sizes = new ResizeObserver(settle);
  sizes.observe(group);
  group.addEventListener('focusin', focused);
  group.addEventListener('keydown', keys);
  settle();
  return {
    destroy: () => {
      changes.disconnect();
      sizes.disconnect();
    },
  };
}
