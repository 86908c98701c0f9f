// SPDX-License-Identifier: 0BSD

/**
 * What is said of a wrong reply: what came, and what a server that replies so
 * usually does wrong.
 *
 * @module
 */

import type { TestClient } from "./service.ts";

/** What a cause is told from. */
export interface Facts {
  /** All that was sent. */
  sent: string;
  /** The whole reply that was wanted. */
  wanted: string;
  /** What came, as text. */
  text: string;
  /** How the reply ended. */
  ending: TestClient["ending"];
}

/** The usual causes of a wrong reply to any text. The first that fits is told. */
const CAUSES: [fits: (facts: Facts) => boolean, cause: string][] = [
  [
    ({ ending }) => ending === "endless",
    "it goes on sending without end: at the end of input read gives 0 bytes, " +
    "readLine() and fgets() give null; test for that, and leave the loop",
  ],
  [
    ({ ending }) => ending === "too slow",
    "it is too slow: it sleeps or waits in the loop that serves, or sends each " +
    "byte by itself",
  ],
  [
    ({ text, ending }) => text === "" && ending === "closed",
    "it closed the connection without a reply: the reply was still in a " +
    "buffer (in Java a PrintWriter's: flush it before the close), or an error " +
    "ended the server's work: look at its own output",
  ],
  [
    ({ sent, text }) => text === sent,
    "the text came back as it was sent: nothing turns it into uppercase",
  ],
  [
    ({ sent, text }) => text !== "" && text === sent.toLowerCase(),
    "lower case came back: it calls the opposite of toUpperCase()",
  ],
  [
    ({ wanted, text }) => text.includes("İ") && !wanted.includes("İ"),
    "i became İ, as in Turkish: uppercase without a locale (in Java " +
    "toUpperCase(Locale.ROOT))",
  ],
  [
    ({ sent, text }) =>
      text === sent.replace(/[a-z]/g, (letter) => letter.toUpperCase()),
    "only A to Z become uppercase: it works byte by byte, or decodes the bytes " +
    "as another charset; decode them as UTF-8 (in Java name it for the reader " +
    "and for the writer)",
  ],
  [
    (facts) => sameButFor(/[\r\n]/g, facts) && !/[\r\n]/.test(facts.text),
    "the line ends are lost: reading line by line cuts them off, so write one " +
    "after each line",
  ],
  [
    (facts) => sameButFor(/\r/g, facts),
    "line ends changed: reading line by line, or strip and trim, take \\r\\n " +
    "and \\n for the same, and println() may write \\r\\n; move the characters " +
    "as they come, or cut off \\n alone",
  ],
  [
    (facts) => sameButFor(/[\r\n]/g, facts),
    "line ends were lost or added: reading line by line cuts them off; move " +
    "the characters as they come",
  ],
  [
    ({ wanted, text, ending }) =>
      ending === undefined && wanted.startsWith(text),
    "it waits for more input before it replies, or the reply stays in a " +
    "buffer (flush the buffer after each write), or it paused reading and " +
    "never resumed",
  ],
  [
    ({ wanted, text, ending }) => ending === "reset" && wanted.startsWith(text),
    "it reset the connection before all was sent back: the server, or its part " +
    "for this client, died (of an error, of too little memory: look at its own " +
    "output), or it closed before it had read all input",
  ],
  [
    ({ wanted, text }) => wanted.startsWith(text),
    "it closed the connection before all was sent back: go on until read gives " +
    "the end of input, then write what is left, wait until it is written, and " +
    "only then close",
  ],
  [
    ({ wanted, text }) => text.split("\0").length > wanted.split("\0").length,
    "a buffer is sent whole, with the zero bytes behind the text: send only as " +
    "many bytes as the last read gave",
  ],
  [
    ({ wanted, text }) =>
      text.startsWith(wanted) && wanted.includes(text.slice(wanted.length)),
    "more came than was asked for: a buffer is sent whole, or twice; send only " +
    "as many bytes as the last read gave",
  ],
  [
    ({ wanted, text }) => includesLines(text, wanted),
    "the reply is there, and with it text that nobody asked for (a greeting, a " +
    "prompt, a label, an echo): send the reply alone",
  ],
  [
    ({ wanted, text }) => text.includes("\uFFFD") || /[^\0-\x7f]/.test(wanted),
    "the bytes are read or written in another encoding than UTF-8; name UTF-8 " +
    "for both",
  ],
  [
    ({ wanted, text }) => text.toUpperCase() === wanted,
    "not all letters are uppercase",
  ],
  [
    ({ wanted, text }) => text.length === wanted.length,
    "the order is lost: wait until one reply is written before the next one " +
    "is, and let one thread or task write to a connection",
  ],
  [
    () => true,
    "bytes were lost or doubled: send exactly as many bytes as the last read " +
    "gave, look at how many bytes a write took, and go on until all are sent",
  ],
];

/** What a server that gives such a reply usually does wrong. */
export function usualCause(facts: Facts): string {
  return CAUSES.find(([fits]) => fits(facts))![1];
}

/** Whether the reply is the wanted one, if some characters do not count. */
function sameButFor(characters: RegExp, { wanted, text }: Facts): boolean {
  const rest = (all: string) => all.replace(characters, "");
  return text !== "" &&
    // Megabytes that begin otherwise are not looked through.
    rest(wanted.slice(0, 1000)).startsWith(rest(text.slice(0, 100))) &&
    rest(text) === rest(wanted);
}

/** Whether all wanted lines are there, in order, with anything around them. */
function includesLines(text: string, wanted: string): boolean {
  let at = 0;
  return text.length > wanted.length &&
    wanted.split(/[\r\n]+/).every((line) => {
      const found = text.indexOf(line, at);
      at = found + line.length;
      return found !== -1;
    });
}

/** A text is shown whole up to so many bytes. */
const SHORT = 120;

/** What came in place of what was wanted, in a few words. */
export function describe(
  { bytes, ending }: TestClient,
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
