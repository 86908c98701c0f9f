// SPDX-License-Identifier: 0BSD

/**
 * What a server that gives a wrong reply usually does wrong.
 *
 * A reply is classified first: how much of the wanted text is there, and which
 * kinds of difference have to be folded away to find it. The causes are rows
 * under that class.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Ending } from "./words.ts";

/** A wrong reply, and all that is known of how it came about. */
export interface Case {
  /** The texts that were sent, each after the reply to the one before. */
  steps: string[];
  /** The whole reply that was wanted. */
  wanted: string;
  /** The reply that came. */
  came: string;
  /** How the reply ended. */
  ending: Ending;
  /** The end of input came right behind the last text. @default false */
  endAtOnce?: boolean;
  /** The client paused between two texts. @default false */
  paused?: boolean;
  /** What other clients sent at the same time. @default nothing */
  others?: RegExp;
  /** So many clients were served and are still connected. @default 0 */
  beside?: number;
  /** The client was one of many that connected at the same moment. @default false */
  rush?: boolean;
  /** What came for another text, on the first connection. */
  before?: string;
  /** So many connections had a reply before. */
  served: number;
  /** The server closes a connection after the client's end of input. */
  closes: boolean;
  /** The server answers once on each connection. */
  oneReply: boolean;
}

// ----------------------------------------------------------- the classification

/** Kinds of difference, each of which can be folded away. */
const FOLDS: Record<string, (text: string) => string> = {
  blanks: (text) => text.replace(/^[ \t]+|[ \t]+$/gm, ""),
  lineEnds: (text) => text.replace(/[\r\n]+/g, ""),
  zeros: (text) => text.replaceAll("\0", ""),
  case: (text) => text.replaceAll("ẞ", "SS").toUpperCase(),
  letters: (text) => text.replaceAll("İ", "I").replace(/[^\0-\x7f]|\?/g, ""),
};

/** How much of the wanted text came, after folding. */
type Extent =
  | "nothing"
  | "all"
  | "part" // a beginning
  | "more" // all, and other text with it
  | "shuffled" // the same characters in another order
  | "pieces" // parts of its lines, in order
  | "other";

/** A case with its class. */
interface Seen extends Case {
  extent: Extent;
  /** The folds without which the extent would be another one. */
  folds: string[];
  /** All that was sent. */
  sent: string;
  /** What did not come, if a beginning did. */
  rest: string;
}

function classify(it: Case): Seen {
  const all = Object.keys(FOLDS);
  const fold = (text: string, names: string[]) =>
    names.reduce((folded, name) => FOLDS[name](folded), text);
  const [came, wanted] = [it.came, it.wanted].map((text) => fold(text, all));
  const extent = extentOf(it, came, wanted);
  let folds = all;
  for (const name of extent === "all" ? all.toReversed() : []) {
    const fewer = folds.filter((one) => one !== name);
    if (fold(it.came, fewer) === fold(it.wanted, fewer)) folds = fewer;
  }
  let at = 0;
  while (at < it.came.length && it.came[at] === it.wanted[at]) at++;
  const rest = it.wanted.slice(at);
  return { ...it, extent, folds, sent: it.steps.join(""), rest };
}

function extentOf(it: Case, came: string, wanted: string): Extent {
  if (it.came === "") return "nothing";
  const cut = it.wanted.startsWith(it.came) && it.wanted.slice(it.came.length);
  if (cut && /[^\s\0]/.test(cut)) return "part";
  if (came === wanted) return "all";
  if (came !== "" && wanted.startsWith(came)) return "part";
  if (came.includes(wanted)) return "more";
  const lines = it.wanted.split(/\s*\n/);
  if (came.length > wanted.length && inOrder(it.came, lines)) return "more";
  if (letterCounts(it.came) === letterCounts(it.wanted)) return "shuffled";
  if (came !== "" && inOrder(it.wanted, it.came.toUpperCase().split(/\s*\n/))) {
    return "pieces";
  }
  return "other";
}

/** Whether all parts are there, one behind the other, with anything between. */
function inOrder(text: string, parts: string[]): boolean {
  let at = 0;
  return parts.every((part) => {
    const found = text.indexOf(part, at);
    at = found + part.length;
    return found !== -1;
  });
}

/** How often each character is there. */
function letterCounts(text: string): string {
  const counts = new Uint32Array(128);
  for (let at = 0; at < text.length; at++) counts[text.charCodeAt(at)]++;
  return counts.join();
}

// ------------------------------------------------------------------- the causes

/** The loop that accepts has ended, or there is none. */
export const ACCEPT_LOOP: string =
  "it served its first client and no later one: accept() belongs in a loop, " +
  "inside of which each client is served and closed; an error of one client, " +
  "or its end, must not end that loop";

/** No connection, though there were some before. */
export const NO_CONNECTION: string =
  "the server has ended, or it no longer accepts clients: look at its own " +
  "output for an error";

/** The connection stays open after the end of input. */
export const NEVER_CLOSES: string =
  "it never closes the connection: close it when read gives the end of input " +
  "(0 bytes, null) and the last reply is written; after fork() the parent has " +
  "to close it, too";

const STAYS = "it stays with its first client, whose input has ended, and " +
  "serves no other: at the end of input read gives 0 bytes, readLine() gives " +
  "null; test for that, close the connection and accept the next client";

const RUSH = "clients that connect at the same moment get no reply, and one " +
  "after the other they do: probably all threads share one variable for the " +
  "connection, as in pthread_create(..., &fd), and accept() writes the next " +
  "one into it before a thread has read it; give each thread its own copy";

/** One client holds up the others. */
export const ONE_AT_A_TIME: string =
  "clients wait for each other: accept and serve run in turn, or a " +
  "write to one client holds up all; serve each " +
  "client in a thread or task of its own";

const POOL = "only so many clients are served at a time, and the next ones " +
  "wait until one of them leaves: a pool of threads that is smaller than the " +
  "number of clients, or a limit; give each client a thread or task of its own";

const MIXED =
  "one client got what another had sent: they share a buffer or a variable (a " +
  "global or static one); give each connection its own";

const CONSTANT = "the reply does not depend on what was sent: it is the same " +
  "for another text; read what the client sent, and send that in uppercase";

const EMPTY_LINE =
  "an empty line is a line, and not the end of input: test for the end itself " +
  "(0 bytes, null)";

const LINE_ENDS_LOST =
  "the line ends are lost: reading line by line cuts them off, so write one " +
  "after each line";

const LOST_TAIL =
  "the end of input came right after the text, and the reply was dropped: at " +
  "the end of input write what is left, wait until it is written, and only " +
  "then close";

const NEW_READER =
  "what was read beyond the first line end is lost: probably " +
  "a new reader (BufferedReader, Scanner, makefile) for each line, and the old " +
  "one had read ahead; make one reader for each connection, before its loop " +
  "(or only the first line of each read is answered)";

const FIRST_READ =
  "it stops after the first packet: one read is not the whole " +
  "input; go on until read gives the end of input";

const LINE_LIMIT =
  "a line has no longest length, and it has one here (one read() for a line, a " +
  "line buffer, a scanner's limit): take what each read gives, or let the " +
  "buffer grow";

const TIME_LIMIT =
  "it gave up a client who paused: a person who types needs minutes; let the " +
  "time limit of a read be long, or have none";

const CHARSET = "the bytes are read or written in another encoding than " +
  "UTF-8; name UTF-8 for both";

const DIED = "the server, or its part for this client, died (look at its own " +
  "output for an error), or it closed before it had read all input";

const ORDER =
  "the order is lost: wait until one reply is written before the next one is, " +
  "and let one thread or task write to a connection";

const LOST =
  "bytes were lost or doubled, probably: send as many bytes as the " +
  "last read gave, look at how many bytes a write took, and go on until all " +
  "are sent";

/** Other protocols: how a reply begins, and what to say of it. */
const HTTP: [RegExp, string] = [
  /^HTTP\/\d|^<!doctype html|^<html/i,
  "it speaks HTTP, which is another protocol: write the server on a TCP " +
  "socket itself (ServerSocket, socket(), net.createServer)",
];
const TLS: [RegExp, string] = [
  // deno-lint-ignore no-control-regex -- the first bytes of its records
  /^[\x15\x16]\x03/,
  "it speaks TLS, which is another protocol: use a plain TCP socket",
];
const OBJECTS: [RegExp, string] = [
  /^\uFFFD\uFFFD\0/,
  "it speaks Java's object streams, which are another protocol: read and " +
  "write text (InputStreamReader, OutputStreamWriter)",
];

type Row = [fits: (it: Seen) => unknown, cause: string];

/** Causes that show whatever the extent. */
const ANY: Row[] = [
  [
    ({ ending }) => ending === "endless",
    "it goes on sending without end: at the end of input read gives 0 bytes, " +
    "readLine() and fgets() give null; test for that, and leave the loop",
  ],
  [
    ({ ending }) => ending === "too slow",
    "it is too slow: it sleeps or waits in the loop that serves",
  ],
  ...[HTTP, TLS, OBJECTS].map(([reply, cause]): Row => [
    ({ came, before = "" }) => reply.test(came || before),
    cause,
  ]),
  [({ came, others }) => others?.test(came), MIXED],
  [
    ({ came, before, extent }) =>
      extent !== "all" && before !== undefined && came !== "" &&
      came.replace(/\d/g, "0") === before.replace(/\d/g, "0"),
    CONSTANT,
  ],
];

/** The causes under their extent; the last row of each fits always. */
const CAUSES: Record<Extent, Row[]> = {
  nothing: [
    [({ served, closes }) => served === 1 && closes, ACCEPT_LOOP],
    [({ served, closes }) => served === 1 && !closes, STAYS],
    [({ rush }) => rush, RUSH],
    [({ beside = 0, ending }) => beside > 1 && !ending, POOL],
    [({ beside = 0, ending }) => beside > 0 && !ending, ONE_AT_A_TIME],
    [({ sent, ending }) => sent === "\n" && ending, EMPTY_LINE],
    [({ sent }) => sent === "\n", LINE_ENDS_LOST],
    [({ endAtOnce, ending }) => endAtOnce && ending === "closed", LOST_TAIL],
    [({ steps, ending }) => ending && isLong(steps), LINE_LIMIT],
    [
      ({ ending }) => ending === "closed",
      "it closed the connection without a reply: the reply was still in a " +
      "buffer (in Java a PrintWriter's: flush it before the close), or an " +
      "error ended the server's work: look at its own output",
    ],
    [({ ending }) => ending === "reset", `it reset the connection: ${DIED}`],
    [
      () => true,
      "it reads and does not write, or never flushes what it has written, or " +
      "waits for more than this: look at its own output for an error",
    ],
  ],
  all: [
    [
      ({ sent, came, folds }) => folds.includes("case") && came === sent,
      "the text came back as it was sent: nothing turns it into uppercase",
    ],
    [
      ({ sent, came, folds }) =>
        folds.includes("case") &&
        (came === sent.toLowerCase() ||
          /[A-Z]/.test(sent) && !/[A-Z]/.test(came)),
      "lower case came back: it calls the opposite of toUpperCase()",
    ],
    [
      ({ came, wanted }) => came.includes("İ") && !wanted.includes("İ"),
      "i became İ, as in Turkish: uppercase without a locale (in Java " +
      "toUpperCase(Locale.ROOT))",
    ],
    [
      ({ folds, steps, came, wanted }) =>
        folds.includes("letters") &&
        (steps.slice(0, -1).some((step) => step.endsWith("\uFFFD")) ||
          came.includes("\uFFFD") && /[^\0-\x7f\uFFFD]/.test(came) &&
            wanted.length > 1000),
      "a character was cut between two reads, and its parts were decoded each " +
      "by itself: use a decoder that keeps an unfinished character for the " +
      "next read",
    ],
    [
      ({ sent, came }) =>
        came === sent.replace(/[a-z]/g, (letter) => letter.toUpperCase()),
      "only A to Z become uppercase: it works byte by byte, or decodes the " +
      "bytes as another charset; decode them as UTF-8 (in Java name it for the " +
      "reader and for the writer)",
    ],
    [
      ({ came }) => /STRA[ßẞ]E.*Σ Σ/.test(came),
      "each letter is turned by itself, one for one: uppercase the text as a " +
      "whole (Unicode's SpecialCasing)",
    ],
    [
      ({ folds }) => folds.includes("case"),
      "not all letters are uppercase: a function that turns only the first " +
      "one of a text or word (capitalize, title), or a loop that ends early",
    ],
    [
      ({ wanted, came }) => wanted === `\uFEFF${came}`,
      "the decoder takes the byte order mark away: in JavaScript " +
      'new TextDecoder("utf-8", { ignoreBOM: true }) keeps it',
    ],
    [({ folds }) => folds.includes("letters"), CHARSET],
    [
      ({ came }) => /^(\0[^\0]){3}|^([^\0]\0){3}/.test(came),
      "each character came as two bytes (UTF-16, in Java writeChars): write " +
      "the text as UTF-8",
    ],
    [
      ({ wanted, came }) => came.split("\0").length > wanted.split("\0").length,
      "a buffer is sent whole, with the zero bytes behind the text: send only " +
      "as many bytes as the last read gave",
    ],
    [
      ({ folds }) => folds.includes("zeros"),
      "a zero byte is lost: it is a character as others are",
    ],
    [
      ({ folds }) => folds.includes("blanks"),
      "white space at the ends of the line was cut off (strip, trim): cut off " +
      "\\n alone, or nothing at all",
    ],
    [
      ({ steps, came, wanted }) =>
        steps.slice(0, -1).some((step) => {
          const border = `${step.slice(-2).toUpperCase()}\n`;
          return !wanted.includes(border) &&
            came.replaceAll("\r", "").includes(border);
        }),
      "it takes each packet for a line: TCP keeps no borders between packets, " +
      "so add nothing after a read",
    ],
    [({ came }) => !came.includes("\n"), LINE_ENDS_LOST],
    [
      ({ came, wanted }) =>
        wanted.includes("\n\n") &&
        came.replaceAll("\r", "") === wanted.replace(/\n+/g, "\n"),
      EMPTY_LINE,
    ],
    [
      () => true,
      "line ends were changed or added: reading line by line, or strip and trim, " +
      "does not tell \\r\\n from \\n, nor whether there was a line end at all, " +
      "and println() may write \\r\\n; move the characters as they come, or cut " +
      "off \\n alone",
    ],
  ],
  part: [
    [({ paused }) => paused, TIME_LIMIT],
    [
      ({ rest }) => rest.startsWith("\0"),
      "the text was taken to end at its zero byte: use the count that read " +
      "gave, and not strlen()",
    ],
    [
      ({ came, wanted }) =>
        wanted.includes("\n\n") &&
        lines(came) === lines(wanted.split("\n\n")[0]),
      EMPTY_LINE,
    ],
    [({ steps, ending }) => ending && isLong(steps), LINE_LIMIT],
    [
      ({ steps, came }) =>
        steps.length > 1 && !steps[0].endsWith("\n") &&
        came.length <= steps[0].length,
      FIRST_READ,
    ],
    [
      ({ wanted, came }) =>
        !wanted.endsWith("\n") &&
        lines(came) === lines(wanted.slice(0, wanted.lastIndexOf("\n"))),
      "the last line is forgotten: at the end of input send what is still in " +
      "the buffer",
    ],
    [
      ({ came, wanted, oneReply }) =>
        !oneReply && wanted.length < 1000 &&
        lines(came) === lines(wanted.split("\n")[0]),
      NEW_READER,
    ],
    [
      ({ came, wanted }) => lines(came) === lines(wanted.split("\n")[0]),
      "it answers the first line and forgets the rest: one packet is not one " +
      "line, and one line is not all; go on until read gives the end of input",
    ],
    [
      ({ ending }) => !ending,
      "it waits for more input before it replies, or the reply stays in a " +
      "buffer (flush the buffer after each write), or it paused reading and " +
      "never resumed",
    ],
    [
      ({ ending }) => ending === "reset",
      `it reset the connection before all was sent back: ${DIED}`,
    ],
    [
      () => true,
      "it closed the connection before all was sent back: go on until read " +
      "gives the end of input, then write what is left, wait until it is " +
      "written, and only then close",
    ],
  ],
  more: [
    [
      ({ came, wanted }) =>
        came.startsWith(wanted) && wanted.includes(came.slice(wanted.length)),
      "more came than was asked for: a buffer is sent whole, or twice; send " +
      "only as many bytes as the last read gave",
    ],
    [
      ({ came }) => /^b['"]/i.test(came),
      "bytes are sent as Python shows them, b'...': decode() what was received",
    ],
    [
      ({ sent, came }) =>
        sent === "" || /\b(null|none|undefined)\s*$/i.test(came),
      "it replies to the end of input as to a line; test for it first",
    ],
    [
      () => true,
      "the reply is there, and with it text that nobody asked for (a greeting, " +
      "a prompt, a label, an echo): send the reply alone",
    ],
  ],
  shuffled: [[() => true, ORDER]],
  pieces: [
    [({ wanted }) => wanted.length > 1000, LOST],
    [() => true, NEW_READER],
  ],
  other: [
    [
      ({ came, wanted }) =>
        /[^\0-\x7f]/.test(wanted) && came.includes("\uFFFD"),
      CHARSET,
    ],
    [begins, LOST],
    [begins, NEW_READER],
    [begins, ORDER],
    [
      () => true,
      "nothing of what was sent is in the reply: look at what the server sends",
    ],
  ],
};

/**
 * What a server that gives such a reply usually does wrong. One fault is
 * likelier than two: of the causes that fit, one that was told is preferred.
 */
export function usualCause(it: Case, told: Set<string>): string {
  const seen = classify(it);
  const causes = [...ANY, ...CAUSES[seen.extent]]
    .filter(([fits]) => fits(seen)).map(([, cause]) => cause);
  return causes.find((cause) => told.has(cause)) ?? causes[0];
}

/** Whether so much was sent, or came right at first, that it is no other text. */
function begins({ rest, wanted }: Seen): boolean {
  return wanted.length > 1000 || wanted.length - rest.length > 10;
}

/** Text without its line ends. */
function lines(text: string): string {
  return FOLDS.lineEnds(text);
}

/** Whether one line of more than a packet was sent. */
function isLong(steps: string[]): boolean {
  return steps.length === 1 && steps[0].length > 2000 &&
    steps[0].indexOf("\n") === steps[0].length - 1;
}

// -------------------------------------------------------- what else it may speak

/** A greeting in TLS: version 1.2, one cipher, 32 bytes that are not random. */
const HELLO_TLS = [0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3, ...Array(33).fill(0)];

/**
 * What a server is asked that says nothing to a line: what is sent, what a
 * server that understands it replies, and what that shows.
 */
export const PROBES: [
  send: string | Uint8Array,
  fits: RegExp,
  cause: string,
][] = [
  [
    "hello\r\n",
    /hello/i,
    "it waits for \\r\\n, and a line ends with \\n here: take \\n for the end " +
    "of a line, with or without \\r before it",
  ],
  [
    "\0\x05hello",
    /hello/i,
    "it waits for a length in two bytes before the text (in Java readUTF), " +
    "which is another protocol: read lines or bytes",
  ],
  [
    new Uint8Array([0xac, 0xed, 0, 5, 0x74, 0, 5, ...Buffer.from("hello")]),
    OBJECTS[0],
    OBJECTS[1],
  ],
  [
    new Uint8Array([...HELLO_TLS, 0, 2, 0, 0x2f, 1, 0]),
    TLS[0],
    TLS[1],
  ],
  ["GET / HTTP/1.0\r\n\r\n", HTTP[0], HTTP[1]],
];
