// The reactions on offer: what is sent, and the drawing in Sprite.svelte.
import { strings } from '../strings';

export const REACTIONS = [
  { emoji: '👍', name: 'thumb', label: strings.reactions.thumb },
  { emoji: '❤️', name: 'heart', label: strings.reactions.heart },
  { emoji: '😂', name: 'laugh', label: strings.reactions.laugh },
  { emoji: '😮', name: 'wow', label: strings.reactions.wow },
  { emoji: '🎉', name: 'party', label: strings.reactions.party },
] as const;
