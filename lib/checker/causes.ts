// SPDX-License-Identifier: 0BSD

/**
 * What a server that gives a wrong reply usually does wrong.
 *
 * A reply is classified first: how much of the wanted text is there, and which
 * kinds of difference have to be folded away to find it. The causes are the rows
 * of a table. Of the rows that fit, one that was told already is preferred, and
 * else the first: their order matters.
 */

import type { Ending } from "../parts/words.ts";

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
  /** Nothing listens any more. @default false */
  hasEnded?: boolean;
  /** So many connections had a reply before. */
  served: number;
  /** What came for another text, on the first connection. */
  before?: string;
  /** What had come when it was waited for, if more came with more input. */
  late?: string;
  /** The usual cause in this check if not all comes. @default none of its own */
  ifShort?: string;
}

// ----------------------------------------------------------- the classification

/** Kinds of difference, each of which can be folded away. */
const FOLDS: Record<string, (text: string) => string> = {
  blanks: (text) => text.replace(/[ \t]+/g, ""),
  lineEnds: (text) => text.replace(/[\r\n]+/g, ""),
  zeros: (text) => text.replaceAll("\0", ""),
  case: (text) => text.toUpperCase(),
  letters: (text) => text.replaceAll("İ", "I").replace(/[^\0-\x7f]|\?/g, ""),
};

/** How much came: all, more than that, a beginning or nothing, or other text. */
export type Extent = "all" | "more" | "part" | "other";

/** A case with its class. */
export interface Seen extends Case {
  /** How much came. */
  extent: Extent;
  /** The folds without which not all would be there. */
  folds: string[];
  /** All that was sent. */
  sent: string;
}

function classify(it: Case): Seen {
  const all = Object.keys(FOLDS);
  const fold = (text: string, names: string[]) =>
    names.reduce((folded, name) => FOLDS[name](folded), text);
  const extent = extentOf(it, fold(it.came, all), fold(it.wanted, all));
  let folds = all;
  for (const name of extent === "all" ? all.toReversed() : []) {
    const fewer = folds.filter((one) => one !== name);
    if (fold(it.came, fewer) === fold(it.wanted, fewer)) folds = fewer;
  }
  return { ...it, extent, folds, sent: it.steps.join("") };
}

function extentOf(it: Case, came: string, wanted: string): Extent {
  const cut = it.wanted.startsWith(it.came) && it.wanted.slice(it.came.length);
  if (it.came === "" || cut && /[^\s\0]/.test(cut)) return "part";
  if (came === wanted) return "all";
  if (came !== "" && wanted.startsWith(came)) return "part";
  if (came.includes(wanted)) return "more";
  const longer = came.length > wanted.length;
  return longer && inOrder(it.came.toUpperCase(), it.wanted) ? "more" : "other";
}

/** Whether all lines are there, one behind the other, with anything between. */
function inOrder(text: string, lines: string): boolean {
  let at = 0;
  return lines.split(/\s*\n/).every((line) => {
    const found = text.indexOf(line, at);
    at = found + line.length;
    return found !== -1;
  });
}

// ------------------------------------------------------------------- the causes

/** Nothing listens any more. */
export const ENDED: string =
  "the server has ended: its own output says why. If it says nothing, accept() " +
  "belongs in a loop, which no client may end";

/** Something listens, and serves nobody any more. */
export const ACCEPT_LOOP: string =
  "it served its first client or clients and no later one: accept() belongs in " +
  "a loop; when a client ends or fails, close its connection, give back its " +
  "place (in a list, a pool), and accept the next; fill the sets of select() anew";

/** The connection stays open after the end of input. */
export const NEVER_CLOSES: string =
  "it never closes the connection: close it after the last reply, when read " +
  "gives the end of input (0 bytes, null); after fork() in the parent, too";

/** Bytes that are no text end the work. */
export const DECODER: string =
  "the decoder's error probably ended its work: decode as UTF-8, and let the " +
  "decoder replace what it cannot read";

/** A reply waits until a buffer is full. */
export const FULL_BUFFER: string =
  "it waits until a buffer is full: flush each reply (a PrintWriter with true " +
  "does so in println() alone), and take what has come (recv(), read1()), no fixed " +
  "number of bytes (read(n) of a file, readFully())";

/** What a chat does, which one client alone cannot see. */
export const CHAT: string =
  "it sends a line to the other clients, and not to its sender: reply on the " +
  "connection that the line came from";

/** Not all came, and the connection is closed. */
export const CLOSED: string =
  "it closed or reset the connection before all was sent back: read until the " +
  "end of input (ready() does not tell it), send and flush all (a write may take " +
  "a part, Python has sendall()), and only then close; or an error ended its work";
const SILENT =
  "it waits for more input, does not send or flush what it has, or is slower " +
  "than --timeout: look at its own output for an error";

const BUFFER =
  "a buffer is sent whole, or its text of before again: send only what the last " +
  "read gave, by its count";
const LINE_ENDS =
  "line ends or blanks were changed, added or lost: readLine() and strip() take " +
  "them away, println() adds its own, and a packet is no line";
const NEW_READER =
  "what was read beyond a line end is lost: make one reader for each connection, " +
  "before its loop, answer all lines of a read, and keep an unfinished one";
const NO_LETTERS =
  "characters that are no small letters were changed: change a to z alone, " +
  "and take no text for a format (printf, a shell's read without -r)";
const ZEROS =
  "a zero byte is a character like others: use the count that read gave, and " +
  "not strlen()";
const LONGEST =
  "a line may be of any length, and here it probably has a longest one (one " +
  "read() for a line, a line buffer, a scanner's limit)";
const CHARSET =
  "the bytes are read or written in another encoding than UTF-8 (in Java " +
  "writeBytes() and writeChars() are others): name UTF-8 for both";
const CUT =
  "a character was cut between two reads: use a decoder that keeps an unfinished " +
  "character for the next read";
const LENGTH =
  "it waits for the text's length before the text, or sends it (in Java readUTF(), " +
  "writeUTF()), which is another protocol: read until the end of a line";
const another = (protocol: string) =>
  `it speaks ${protocol}, another protocol than lines of text: use a plain TCP ` +
  "socket, and read and write text on it";

/** What is asked (a character is a byte), how a reply begins, what that shows. */
export type Probe = [send: string, reply: RegExp, cause: string];

const PROTOCOLS: Probe[] = [
  ["\0\x05hello", /^[^\0]?\0{1,3}[^\0]{2}/, LENGTH],
  // deno-lint-ignore no-control-regex -- the first bytes of an alert
  ["\x16\x03\x01\0\x05hello", /^\x15\x03/, another("TLS")],
  // An echo in uppercase has a T.
  [
    "\xac\xed\0\x05t\0\x05hello",
    /^\uFFFD{2}\0.(?!T)/,
    another("Java's objects"),
  ],
  ["GET / HTTP/1.0\r\n\r\n", /^HTTP\/\d|^<!doctype|^<html/i, another("HTTP")],
];

/** What a server is asked that says nothing to a line. */
export const PROBES: Probe[] = [
  ["hello\n", /hello/i, CLOSED], // it answers some clients and not others
  ["hello\r\n", /hello/i, "it waits for \\r\\n: let \\n alone end a line, too"],
  ["hello\0", /hello/i, "it waits for a zero byte: let \\n end a line"],
  ["\0\x05hello", /hello/i, LENGTH],
  ["\0\0\0\x05hello", /hello/i, LENGTH],
  ["hello\n".repeat(20_000), /hello/i, FULL_BUFFER],
  ...PROTOCOLS,
];

/** The cause, if it fits. */
export type Row<T = Seen> = (it: T) => string | false | undefined;

/**
 * All causes: those whatever the extent, and those under each. The last row of
 * an extent fits always.
 */
export const causes: Record<"any" | Extent, Row[]> = {
  any: [
    ({ came, wanted, late = "" }) =>
      came === wanted && /[^\n]$/.test(late) && FULL_BUFFER,
    ({ came, wanted }) =>
      came === wanted &&
      "a reply comes only with the next input: answer all lines of a read " +
        "(select() does not see what a reader has in its buffer), and flush",
    // Of clients that are there at the same time, each says its number.
    ({ came, wanted }) =>
      came.match(/CLIENT \d+ /g)?.some((name) => !wanted.includes(name)) &&
      "one client got what another had sent: they share a buffer or a variable " +
        "(a global or static one), or each line goes to all; give each connection " +
        "its own",
    ({ ending }) =>
      ending === "endless" &&
      "it goes on sending without end: at the end of input (0 bytes, null) leave " +
        "the loop",
    ...PROTOCOLS.map(([, reply, cause]): Row => ({ came, before = "" }) =>
      reply.test(came || before) && cause
    ),
    ({ came, before = "", extent }) =>
      extent !== "all" && came !== "" &&
      came.replace(/\d/g, "0") === before.replace(/\d/g, "0") &&
      "the reply does not depend on what was sent: read what the client sent, " +
        "and send that in uppercase",
    ({ came }) => /^[\0\uFFFD]*([^\0]\0+){3}/.test(came) && CHARSET,
    (it) => othersChanged(it) && NO_LETTERS,
    ({ came, wanted }) => count("\0", came) > count("\0", wanted) && BUFFER,
    ({ came }) =>
      /^b['"]/i.test(came) &&
      "bytes are sent as Python shows them, b'...': decode() what was received",
    ({ came, wanted }) =>
      unmarked(came) === unmarked(wanted) &&
      "the byte order mark is taken away or added: use ignoreBOM: true in " +
        "JavaScript, new UTF8Encoding(false) in C#, utf-8 and not utf-8-sig",
    ({ came, wanted }) =>
      unaccented(came) === unaccented(wanted) &&
      "accents are taken off or put behind their letters, as normalize() and " +
        "unidecode() do: leave letters as they are",
  ],

  part: [
    ({ came, served, ending }) =>
      came === "" && served === 1 && ending !== "closed" && ACCEPT_LOOP,
    ({ ifShort }) => ifShort,
    ({ came, wanted }) => wanted.startsWith(`${lines(came)}\0`) && ZEROS,
    ({ came, wanted, ending }) =>
      wanted !== "" && ending !== undefined &&
      lines(came) === lines(wanted.split(/\n\r?\n/)[0]) &&
      "an empty line is a line, and not the end of input: test for the end " +
        "itself (0 bytes, null)",
    ({ wanted }) => wanted === "\n" && LINE_ENDS,
    ({ came, wanted }) =>
      !wanted.endsWith("\n") &&
      lines(came) === lines(wanted.slice(0, wanted.lastIndexOf("\n"))) &&
      "the last line is forgotten: at the end of input send what is still in " +
        "the buffer",
    ({ wanted, steps }) => BEYOND_ASCII.test(wanted) && steps.length > 1 && CUT,
    ({ wanted, ending }) =>
      BEYOND_ASCII.test(wanted) && ending !== undefined && DECODER,
    ({ sent, ending }) =>
      LONG_LINE.test(sent) && ending !== undefined && LONGEST,
    ({ steps, came, wanted }) =>
      /\n./.test(steps[0]) && came !== "" &&
      lines(came) === lines(wanted.split("\n")[0]) && NEW_READER,
    ({ came, ending }) =>
      came.length > 500 && ending === undefined &&
      "it has stopped reading or writing: read until nothing is left (an edge " +
        "triggered event comes once, pause() needs resume()), while it writes, too",
    ({ ending }) => ending === undefined && SILENT,
    ({ came, served }) =>
      came === "" && served === 0 &&
      "it says nothing, and closes at the end of input: send and flush all, or " +
        "does it wait for something else than the end of a line?",
    () => CLOSED,
  ],

  all: [
    ({ sent, came, folds }) =>
      folds.includes("case") && came === sent &&
      "the text came back as it was sent: nothing turns it into uppercase",
    ({ folds, steps, wanted }) =>
      folds.includes("letters") && (steps.length > 1 || wanted.length > 1000) &&
      BEYOND_ASCII.test(wanted) && CUT,
    (it) =>
      isAsciiAlone(it) && BEYOND_ASCII.test(it.sent) &&
      "only A to Z become uppercase: it works byte by byte, or decodes the " +
        "bytes as another charset; decode and encode them as UTF-8",
    ({ came }) =>
      /İ|STRA[ßẞ]E/.test(came) &&
      "each letter is turned by itself, or by a language's own rules (Turkish " +
        "i to İ): uppercase the text as a whole, in Java with Locale.ROOT",
    ({ came, wanted }) =>
      wanted.includes("\0") && came.split("\0")[0] === wanted.split("\0")[0] &&
      ZEROS,
    (it) =>
      it.folds.includes("case") && !isAsciiAlone(it) &&
      "not all letters are uppercase: capitalize() and title() turn first letters " +
        "alone, swapcase() makes capitals small, or a loop ends early",
    ({ folds }) => folds.includes("letters") && CHARSET,
    ({ folds }) => folds.includes("zeros") && ZEROS,
    ({ sent, came, wanted }) =>
      LONG_LINE.test(sent) && count("\n", came) > count("\n", wanted) &&
      LONGEST,
    ({ folds, came, wanted }) =>
      folds.includes("blanks") && count("\n", came) > count("\n", wanted) &&
      "blanks are lost: >>, scanf() and next() read words and not lines; read to " +
        "the end of the line (getline(), fgets(), nextLine())",
    ({ folds }) => !folds.includes("case") && LINE_ENDS, // also if it was told
  ],

  more: [
    ({ came, wanted, steps }) =>
      (came.startsWith(wanted) && wanted.includes(came.slice(wanted.length)) ||
        came.startsWith(steps[0].toUpperCase().repeat(2))) && BUFFER,
    () =>
      "text came that nobody asked for (a greeting, a prompt, a label, an echo, " +
      "a reply to the end of input): send the reply alone",
  ],

  other: [
    ({ came, wanted, steps }) =>
      steps.length > 1 && wanted.endsWith(came) &&
      "the first part of a line is lost when its rest comes later: keep it for " +
        "the next read (a read's time limit may throw it away)",
    ({ came, wanted }) =>
      BEYOND_ASCII.test(wanted) && !inOrder(wanted, came) && CHARSET,
    ({ came, wanted }) =>
      wanted.length < 1000 && inOrder(wanted, came.toUpperCase()) && NEW_READER,
    ({ sent, wanted }) => sent === wanted && wanted.length < 1000 && NO_LETTERS,
    (it) =>
      begins(it) &&
      "bytes are probably lost, doubled or out of order: send as many as the last " +
        "read gave, go on until a write has taken all, and share no buffer",
    (it) => begins(it) && NEW_READER, // if it was told already
    () =>
      "nothing of what was sent is in the reply: look at what the server sends",
  ],
};

const BEYOND_ASCII = /[^\0-\x7f]/;
/** One line, longer than many a buffer. */
const LONG_LINE = /^.{2000,}\n$/;

/** Text without its line ends. */
export const lines: (text: string) => string = FOLDS.lineEnds;
/** Whether a to z are uppercase, and all else is as it was sent. */
function isAsciiAlone({ came, sent }: Seen): boolean {
  const upper = sent.replace(/[a-z]/g, (letter) => letter.toUpperCase());
  return lines(came) === lines(upper);
}
/** Whether all small letters are right, and only other characters are not. */
function othersChanged({ came, sent, wanted }: Seen): boolean {
  return came !== wanted && came.length === wanted.length &&
    count("\n", came) === count("\n", wanted) &&
    wanted.length < 1000 && !BEYOND_ASCII.test(wanted) &&
    [...sent].every((one, at) =>
      one < "a" || one > "z" || came[at] === wanted[at]
    );
}
/** Text without byte order marks, without accents. */
const unmarked = (text: string) => text.replaceAll("\uFEFF", "");
const unaccented = (text: string) =>
  text.replaceAll("İ", "i").normalize("NFD").replace(/\p{M}/gu, "");

/** How many parts of a text a character separates. */
const count = (character: string, text: string) => text.split(character).length;

/** Whether so much was sent, or came right at first, that it is no other text. */
function begins({ came, wanted }: Seen): boolean {
  return wanted.length > 1000 || came.startsWith(wanted.slice(0, 11));
}

/** What a server that gives such a reply usually does wrong. */
export function usualCause(it: Case, told: Set<string>): string {
  if (it.hasEnded) return ENDED;
  const seen = classify(it);
  return likeliest([...causes.any, ...causes[seen.extent]], seen, told);
}

/**
 * The first cause that fits. One fault is likelier than two: a cause that fits
 * and was told is preferred.
 */
export function likeliest<T>(rows: Row<T>[], it: T, told: Set<string>): string {
  const fitting = rows.map((row) => row(it))
    .filter((cause) => typeof cause === "string");
  return fitting.find((cause) => told.has(cause)) ?? fitting[0];
}
