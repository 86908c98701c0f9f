// SPDX-License-Identifier: 0BSD

/**
 * Replies and numbers, put into words for a person.
 *
 * @module
 */

import { Buffer } from "node:buffer";

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
    "closed": "then the connection was closed",
    "reset": "then the connection was reset",
    "endless": "and more and more",
    "too slow": "and the rest at less than 100 KB a second",
  }[ending!] ?? `then silence for ${timeout} s`;
  if (bytes.length === 0) return `nothing, ${then}`;
  const short = bytes.length < wanted.length || ending === "endless";
  const end = short ? `, ${then}` : "";
  if (wanted.length <= SHORT) {
    return `${quote(bytes)}${end}; wanted ${quote(wanted)}`;
  }
  const count = `${number(bytes.length)} bytes, wanted ` +
    `${number(wanted.length)}${end}`;
  let at = 0;
  while (at < bytes.length && bytes[at] === wanted[at]) at++;
  if (at === bytes.length) return count;
  const [here, there] = [bytes, wanted].map((all) =>
    JSON.stringify(
      String(Buffer.from(all.subarray(Math.max(0, at - 10), at + 30))),
    )
  );
  return `${count}; from byte ${number(at + 1)} on it is other text: ` +
    `${here}, wanted ${there}`;
}

/** Text between quotes, shortened; bytes that are no text as hexadecimal. */
export function quote(bytes: Uint8Array): string {
  if (bytes.length > SHORT) {
    return `${number(bytes.length)} bytes: ${
      quote(bytes.subarray(0, 40))
    } and so on`;
  }
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    // Invisible characters are named, and many zero bytes not counted out.
    return JSON.stringify(decoder.decode(bytes))
      .replaceAll("\uFEFF", "\\uFEFF").replace(/(\\u0000){4,}/g, "\\u0000…");
  } catch {
    return `the bytes ${
      Buffer.from(bytes).toString("hex").replace(/..(?=.)/g, "$& ")
    }`;
  }
}

/** A number as people write it: 10,000,000. */
export function number(value: number): string {
  return value.toLocaleString("en");
}
