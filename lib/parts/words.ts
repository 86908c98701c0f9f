// SPDX-License-Identifier: 0BSD

/** Replies and numbers, put into words for a person. */

import { Buffer, isUtf8 } from "node:buffer";

/**
 * How a reply ended: the server closed or reset the connection, or bytes came
 * without end and the client gave up. Undefined: it has not.
 */
export type Ending = "closed" | "reset" | "endless" | undefined;

/** A text is shown whole up to so many bytes. */
const SHORT = 120;

/** What came in place of what was wanted, in a few words. */
export function describe(
  { bytes, ending }: { bytes: Uint8Array; ending: Ending },
  wanted: Uint8Array,
  timeout: number,
): string {
  const then = ending === undefined
    ? `then silence for ${timeout} s`
    : ending === "endless"
    ? "and more and more"
    : `then the connection was ${ending}`;
  const short = bytes.length === 0 || bytes.length < wanted.length;
  const end = short || ending === "endless" ? `, ${then}` : "";
  if (wanted.length <= SHORT) {
    return `${quote(bytes)}${end}; wanted ${quote(wanted)}`;
  }
  const count = `${number(bytes.length)} bytes, wanted ` +
    `${number(wanted.length)}${end}`;
  const begins = Buffer.compare(bytes, wanted.subarray(0, bytes.length)) === 0;
  return begins ? count : `${count}; ${difference(bytes, wanted)}`;
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
  const [here, there] = [came, wanted].map((all) => excerpt(all.subarray(at)));
  return `from byte ${number(before + at + 1)} on it is ${here}, not ${there}`;
}

/** Text between quotes, shortened; bytes that are no text as hexadecimal. */
export function quote(bytes: Uint8Array): string {
  if (bytes.length === 0) return "nothing";
  if (bytes.length > SHORT) {
    return `${number(bytes.length)} bytes: ${excerpt(bytes)} and so on`;
  }
  if (isUtf8(bytes)) return excerpt(bytes, SHORT);
  const hexadecimal = Buffer.from(bytes).toString("hex");
  return `the bytes ${hexadecimal.match(/../g)!.join(" ")}`;
}

/** The first bytes as text; what nobody would see has a name. */
function excerpt(bytes: Uint8Array, size = 40): string {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const stream = bytes.length > size; // it may be cut within a character
  return JSON.stringify(decoder.decode(bytes.subarray(0, size), { stream }))
    .replaceAll("\uFEFF", "\\uFEFF").replace(/(\\u0000){4,}/g, "\\u0000…");
}

/** A number as people write it: 10,000,000. */
export function number(value: number): string {
  return value.toLocaleString("en");
}
