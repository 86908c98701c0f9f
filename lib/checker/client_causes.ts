// SPDX-License-Identifier: 0BSD

/**
 * What a client that breaks a promise usually does wrong: rows under what was
 * expected of it. Of the causes that fit, one that was told already is
 * preferred (but not one that always fits), and else the first: their order
 * matters.
 */

import { likeliest, lines, type Row } from "./causes.ts";
import type { Session } from "./client.ts";

/** What a client was expected to do, and did not. */
export type Expected =
  | "send"
  | "print"
  | "print that alone"
  | "end input"
  | "end";

/** All that is known of how a promise was broken. */
export type ClientCase =
  & Pick<Session, "typed" | "inputEnded" | "arrived" | "replies" | "late">
  & Pick<Session, "printed" | "errors" | "code">;

/**
 * Whether all characters of the replies are in what was printed, in order, but
 * for line ends. Anything may stand between them: prompts, labels.
 */
export function isPrinted(printed: string, replies: string[]): boolean {
  const wanted = lines(replies.join(""));
  if (printed.length < wanted.length) return false;
  let at = 0;
  for (const character of printed) {
    if (wanted.startsWith(character, at)) at += character.length;
  }
  return at === wanted.length;
}

/** Text whose line ends are all `\n`. */
export function plain(text: string): string {
  return text.replaceAll("\r\n", "\n");
}

/** Whether it has sent what its read gave at the end of input, or the last line again. */
export function sendsEnd({ typed, arrived, inputEnded }: ClientCase): boolean {
  const [came, sent] = [lines(arrived), lines(typed)];
  const more = came.startsWith(sent) ? came.slice(sent.length) : "";
  return inputEnded && (/null|None|undefined/.test(arrived) ||
    more !== "" && sent.endsWith(more));
}

/** Whether the end of the first reply was printed more often than it came. */
export function repeats({ printed, replies }: ClientCase): boolean {
  const end = lines(replies[0]).slice(-9);
  return printed.split(end).length > replies.join("").split(end).length;
}

/** It goes on without a connection. */
export const UNSEEN: string =
  "it does not see that the server has closed: a read then gives null, 0 bytes " +
  'or "", or an error; leave the loop, and end the process, even if a thread ' +
  "still waits for the keyboard";

const ENCODING = "another encoding than UTF-8 is read or written (in Java by " +
  "writeBytes() and writeChars()): name UTF-8 for all streams";
const TOO_LATE =
  "it prints no reply before the end: it reads all of its input first, or reads " +
  "a reply until the server closes (readAllBytes(), until 0 bytes); read a line " +
  "of each in turn, or in two threads, and print it at once";

/** It waits for more of a reply that has come. */
const isStuck: Row<ClientCase> = ({ printed, replies }) =>
  replies.length > 0 && !isPrinted(printed, replies) && TOO_LATE;

/**
 * All causes: those whatever was expected, and those under each. The last row
 * that has no condition fits always.
 */
const causes: Record<"any" | Expected, Row<ClientCase>[]> = {
  "any": [
    ({ arrived, errors }) =>
      arrived === "" && /\/dev\/tty|not a tty|ioctl|console/i.test(errors) &&
      "it needs a terminal, and has pipes here: read standard input (System.in, " +
        "sys.stdin, stdin), and not the console",
    (it) =>
      (it.arrived.length > it.typed.length + 10_000 || sendsEnd(it)) &&
      "it takes the end of its input for a line: test what the read gave (null, " +
        'None, "", 0 bytes) before you send it, and leave the loop; feof() is late',
    ({ arrived }) => /^\0?([^\0]\0){3}/.test(arrived) && ENCODING,
    ({ arrived, typed }) =>
      arrived.slice(0, 4).includes("\0") &&
      lines(arrived).endsWith(lines(typed)) &&
      "it sends a length before the text (in Java writeUTF()), which is another " +
        "protocol: send the bytes of the line, and its line end",
    ({ arrived, typed }) =>
      arrived.split("\0").length > typed.split("\0").length &&
      !BEYOND_ASCII.test(typed) &&
      "its buffer is sent whole: send only as many bytes as were read (strlen() " +
        "or the count, and not sizeof)",
    ({ printed }) =>
      /\[B@|<Buffer|\bb['"]/.test(printed) &&
      "it prints an object, and not its text: decode the bytes that were read " +
        "(new String(bytes, 0, count), data.toString(), decode(), TextDecoder)",
    ({ arrived }) =>
      arrived === "" &&
      "it sends nothing: read standard input, flush after each line (PrintWriter " +
        "and BufferedWriter keep it), and wait for no word of the server first",
  ],

  "send": [
    ({ arrived, typed, inputEnded }) =>
      inputEnded && plain(arrived) === typed &&
      "it sends only at the end of input: read one line at a time, and send and " +
        "flush it inside the loop (PrintWriter and BufferedWriter keep it)",
    ({ arrived, typed }) =>
      /\n./.test(typed) && lines(arrived) === typed.split("\n")[0] &&
      "it sends its first line alone: read and send in a loop, with one reader made " +
        "before the loop; select() does not see what a reader has in its buffer",
    ({ arrived, typed }) =>
      arrived !== "" && typed.includes("\n\n") &&
      [typed, typed.split("\n\n")[0]].map(lines).includes(lines(arrived)) &&
      "an empty line is a line, and not the end of input: send it, too, and test " +
        "for the end itself (null, None, 0 bytes, EOF)",
    ({ arrived, typed }) =>
      arrived === lines(typed) &&
      "the line end is lost: readLine(), input() and chomp take it away; send it " +
        "after the line, or the server waits for the end of the line",
    isStuck,
    ({ typed }) => BEYOND_ASCII.test(typed) && ENCODING,
    () =>
      "what is sent is not what was typed: read lines of standard input, and no " +
      "words; send as many bytes as were read (zero bytes, too: no strlen()), " +
      "with nothing before or behind them, until a write has taken all",
  ],

  "print": [
    ({ replies, printed }) =>
      replies.join("").includes("\n\n") && isPrinted(printed, replies) &&
      "line ends of replies, or empty lines, are lost: print each line with its " +
        "end (println()), and an empty one, too",
    ({ replies, printed }) =>
      replies.join("").includes("\n\n") && printed !== "" &&
      "it prints one line of several that come at once, or no empty line: make " +
        "one reader, before the loop, and print all that it gives",
    ({ printed, replies }) => isPrinted(printed, replies) && TOO_LATE,
    ({ typed, printed }) =>
      typed.length > MUCH && printed === "" &&
      "it reads no reply until all is sent, and both sides wait for ever once " +
        "the buffers between them are full: read in a second thread, or as it sends",
    ({ typed }) =>
      typed.length > MUCH &&
      "it loses bytes, or waits for a reply while the server waits for it: send " +
        "and print, at the same time, as many bytes as each read gave",
    ({ replies }) =>
      replies.at(-1)?.endsWith("\n") === false &&
      "it waits for a line end that does not come (readLine(), fgets()): print " +
        "what a read gives, if the server may send a text without one",
    ({ late, replies, printed }) =>
      late && !printed.includes(replies.at(-1)!.slice(0, 20)) &&
      "it ends, or closes the whole connection, at the end of its input: end the " +
        "sending side alone (shutdownOutput(), shutdown(SHUT_WR), closeWrite(), " +
        "end()), and print what comes until the server closes",
    ({ typed }) => BEYOND_ASCII.test(typed) && ENCODING,
    ({ typed, printed }) =>
      typed.includes("%x") && printed !== "" &&
      "a reply is changed before it is printed: take no text for a format " +
        "(printf(reply)), and leave blanks and backslashes as they came",
    ({ code, printed }) =>
      code === 0 && printed.length > 60_000 &&
      "it ends before all is printed: read until the server closes, and end after " +
        "the last write (in Node no process.exit(), which does not wait for it)",
    ({ typed }) =>
      typed.startsWith("a slow reply") &&
      "it does not wait long enough: let the time limit of a read be long, or " +
        "have none (setSoTimeout(), settimeout(), SO_RCVTIMEO)",
    ({ replies, printed, code }) =>
      replies.length > 0 &&
      (printed.includes(replies[0].trim()) || code === 0) &&
      "it reads once, or only what is there already (ready(), available()): a " +
        "reply comes in any number of packets; read until the line end, or until " +
        "the server closes",
    () =>
      "it waits for more than came, or does not print it: readLine() waits for " +
      "\\n, read() may wait for a full buffer or for the end, printf() for a flush",
    isStuck, // if it was told already
  ],

  "print that alone": [
    (it) =>
      repeats(it) &&
      "a reply is printed again: print each once, and only as many bytes as the " +
        "read gave (recv() puts no zero byte behind them)",
    () =>
      "it prints more than the replies, or changes them (a prompt, a label, a " +
      'line end, "null"): print what came, and prompts on standard error',
  ],

  "end input": [
    isStuck,
    () =>
      "it never ends its sending side, and both sides wait for ever: at the end " +
      "of input (Ctrl-D: null, None, 0 bytes) call shutdownOutput(), " +
      "shutdown(SHUT_WR), closeWrite() or end()",
  ],

  "end": [
    ({ code }) => code === undefined && UNSEEN,
    () =>
      "it ends with an error, or with another exit code than 0, although all went " +
      "well: look at its standard error (EOFError, NoSuchElementException: test " +
      "for the end of the input)",
  ],
};

const BEYOND_ASCII = /[^\0-\x7f]/;
/** More characters than any check has typed but the one that types megabytes. */
const MUCH = 100_000;

/** What a client in such a case usually does wrong. */
export function clientCause(
  expected: Expected,
  it: ClientCase,
  told: Set<string>,
): string {
  const rows = [...causes.any, ...causes[expected]];
  // What fits always is told again only if nothing else fits.
  const general = rows.filter((row) => row.length === 0).map((row) => row(it));
  return likeliest(rows, it, told.difference(new Set(general)));
}
