// SPDX-License-Identifier: 0BSD

/**
 * Replies and numbers, put into words for a person.
 *
 * @module
 */

/**
 * How a reply ended: the server closed or reset the connection, or the client
 * gave up, because bytes came without end or too slowly. Undefined: it has not.
 */
export type Ending = "closed" | "reset" | "endless" | "too slow" | undefined;

/** A text is shown whole up to so many bytes. */
const SHORT = 120;

/** What came in place of what was wanted, in a few words. */
export function describe(
  { bytes, ending }: { bytes: Uint8Array; ending: Ending },
  wanted: Uint8Array,
  timeout: number,
): string {
  const then = {
    "closed": "the connection was closed",
    "reset": "the connection was reset",
    "endless": "more and more",
    "too slow": "no more, at less than 100 KB a second",
  }[ending!] ?? `nothing more in ${timeout} s`;
  if (bytes.length === 0) {
    return ending ? `nothing, ${then}` : `nothing in ${timeout} s`;
  }
  const end = ending === "endless" || bytes.length < wanted.length
    ? `, then ${then}`
    : "";
  if (wanted.length <= SHORT) {
    return `${quote(bytes)}${end}; wanted ${quote(wanted)}`;
  }
  const count = `${number(bytes.length)} bytes, wanted ` +
    `${number(wanted.length)}${end}`;
  let at = 0;
  while (at < bytes.length && bytes[at] === wanted[at]) at++;
  if (at === bytes.length) return count;
  const from = Math.max(0, at - 10);
  const [here, there] = [bytes, wanted].map((all) =>
    JSON.stringify(new TextDecoder().decode(all.subarray(from, from + 40)))
  );
  return `${count}; from byte ${number(at + 1)} on it is other text: ` +
    `${here}, wanted ${there}`;
}

/** Text between quotes, shortened; bytes that are no text as hexadecimal. */
export function quote(bytes: Uint8Array): string {
  const shown = bytes.subarray(0, bytes.length > SHORT ? 40 : SHORT);
  const all = shown.length === bytes.length;
  let text: string;
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    // A long text may be cut inside a character.
    text = JSON.stringify(decoder.decode(shown, { stream: !all }));
    // Invisible characters are named, and twenty of one kind not counted out.
    text = text.replaceAll("\uFEFF", "\\uFEFF")
      .replace(/(\\u0000){4,}/g, "\\u0000…");
  } catch {
    text = "the bytes " +
      [...shown].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
  return all ? text : `${number(bytes.length)} bytes: ${text} and so on`;
}

/** A number as people write it: 10,000,000. */
export function number(value: number): string {
  return value.toLocaleString("en");
}

/**
 * From where on bytes are not those that were wanted, in words.
 *
 * @param before So many bytes of the same reply came before these.
 */
export function difference(
  came: Uint8Array,
  wanted: Uint8Array,
  before = 0,
): string {
  let at = 0;
  while (at < came.length && came[at] === wanted[at]) at++;
  while (at > 0 && (wanted[at]! & 0xc0) === 0x80) at--; // its character's first
  const [here, there] = [came, wanted].map((bytes) =>
    JSON.stringify(new TextDecoder().decode(bytes.subarray(at, at + 20)))
  );
  return `from byte ${number(before + at + 1)} on it is ${here}, not ${there}`;
}
