// SPDX-License-Identifier: 0BSD

/** For programs that run for minutes. */

/**
 * Says on a terminal what runs now and how much is left, in place of what it said
 * before. In a pipe or a file it says nothing.
 */
export function progress(text: string): void {
  if (!Deno.stderr.isTerminal()) return;
  // First the old text goes. Then the cursor is at the beginning again, for whatever
  // is printed next.
  Deno.stderr.writeSync(new TextEncoder().encode(`\x1b[K${text}\r`));
}
